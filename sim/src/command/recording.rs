//! `replay-node`: what a flight recorder wrote down of a member in production.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use clap::Args;
use quorate_node::flight::Recording;

use crate::page;
use crate::recording::{Ending, Replayed, Turn, replay};

/// What to replay, and how much of it to show.
#[derive(Args, Clone, Debug)]
pub struct ReplayNode {
    /// The recording.
    pub file: PathBuf,
    /// The first turn to show.
    #[arg(long, value_name = "TURN", default_value_t = 1)]
    pub from: u64,
    /// The last turn to show.
    #[arg(long, value_name = "TURN", default_value_t = u64::MAX, hide_default_value = true)]
    pub to: u64,
    /// Shows no turn, only how it ends.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    pub quiet: bool,
    /// Draws the turns as one page for a browser, in place of printing them: those from `--from` to `--to`, or the last ones.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// Replays a recording. Exit code 0 if the replica did what it did then, 1 if not, 2 for a file that is no good.
#[must_use]
pub fn replay_node(options: &ReplayNode) -> ExitCode {
    if options.from > options.to {
        eprintln!("--from {} comes after --to {}: no turn would be shown", options.from, options.to);
        return ExitCode::from(2);
    }
    let path = options.file.display();
    let recording = std::fs::read(&options.file).map_err(|error| error.to_string());
    let recording =
        match recording.and_then(|bytes| Recording::read(&bytes).map_err(|error| error.to_string())) {
            Ok(recording) => recording,
            Err(error) => {
                eprintln!("{path}: {error}");
                return ExitCode::from(2);
            }
        };
    let header = &recording.header;
    println!(
        "recording of member {:x} by quorate {} (core {}), taken {} seconds after 1970 because of: {}",
        header.member.0, header.version, header.core, header.written_at, header.reason
    );
    println!("begins at {}", recording.replica.status());
    let wanted = |turn| (options.from..=options.to).contains(&turn);
    let replayed = match &options.report {
        None => replay(&recording, |turn| !options.quiet && wanted(turn), |turn| print!("{turn}")),
        Some(path) => match draw(&recording, wanted, path) {
            Ok(replayed) => replayed,
            Err(error) => {
                eprintln!("report: cannot be written to {}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        },
    };
    let Replayed { turns, inputs, finished, standing, status, ending } = &replayed;
    println!("ends at {status}");
    println!("turns={turns} inputs={inputs} applied={} state={:016x}", standing.applied, standing.state_hash);
    let recorded = recording.standing;
    match ending {
        Ending::Arrived => println!("every turn as it was recorded, and the same state at the end"),
        Ending::PanicAgain(text) => println!("turn {turns} panics, as it did in the member: {text}"),
        Ending::Panic(text) => println!("turn {turns} panics, which it did not in the member: {text}"),
        Ending::Diverged => println!(
            "turn {turns} comes out differently from what was recorded (the {finished} before it do not): a core that \
             is not deterministic, or memory that failed; look at it with --from {turns} --to {turns}"
        ),
        Ending::OtherState => println!(
            "the recorded state at the end is another: applied={} state={:016x}",
            recorded.applied, recorded.state_hash
        ),
        Ending::Senseless(error) => println!("after turn {turns}: {error}"),
    }
    match ending {
        Ending::Arrived | Ending::PanicAgain(_) => ExitCode::SUCCESS,
        Ending::Senseless(_) => ExitCode::from(2),
        Ending::Panic(_) | Ending::Diverged | Ending::OtherState => ExitCode::FAILURE,
    }
}

/// Replays, and draws the last of the turns that are wanted.
fn draw(recording: &Recording, wanted: impl Fn(u64) -> bool, path: &Path) -> io::Result<Replayed> {
    let (mut turns, mut steps) = (VecDeque::<Turn>::new(), 0);
    let length = |turn: &Turn| turn.inputs.len() + turn.outputs.len();
    let replayed = replay(recording, wanted, |turn| {
        steps += length(turn);
        turns.push_back(turn.clone());
        while steps > STEPS_MAX && turns.len() > 1 {
            steps -= turns.pop_front().map_or(0, |turn| length(&turn));
        }
    });
    fs::write(path, page::draw_recording(&recording.header, turns.make_contiguous(), &replayed))?;
    let first = turns.front().map_or(0, |turn| turn.number);
    eprintln!("report: {} (turns from {first} on; --from and --to show others)", path.display());
    Ok(replayed)
}

/// A page with more inputs and outputs is no pleasure.
const STEPS_MAX: usize = 20_000;
