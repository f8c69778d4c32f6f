//! Replaying what a flight recorder wrote down of a member in production (`quorate_node::flight`).
//!
//! The member's replica is put back to what it was when the recording begins, and is given what it was given then,
//! turn by turn. After each turn its [`Digest`] must be the recorded one: so a replay does not only arrive where the
//! member was, it proves that it took the same way, or names the turn in which it did not.

use std::fmt;

use quorate_node::flight::{Digest, Record, Recording, RecordingError, Records, Standing};
use quorate_raft::{Instant, NodeId};
use quorate_replica::{Input, Message, Output, Replica, Request, RequestId};

use crate::messages;
use crate::report::catch_panic;
use crate::trace::{MessageLine, StatusLine};

/// How a replay ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Where the recording ends, every turn as it was recorded.
    Arrived,
    /// The replica panicked, in the last turn that was recorded: the member's own panic.
    PanicAgain(String),
    /// The replica panicked in a turn that the member survived.
    Panic(String),
    /// A turn came out differently from what was recorded.
    Diverged,
    /// The turns are right, and the state at the end is not.
    OtherState,
    /// The records make no sense.
    Senseless(RecordingError),
}

/// How far a replay came.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// How it ended.
    pub ending: Ending,
    /// The last turn that was begun.
    pub turns: u64,
    /// Inputs given.
    pub inputs: u64,
    /// The last turn that was finished.
    pub finished: u64,
    /// Where the replica stood then.
    pub standing: Standing,
    /// The same in words.
    pub status: String,
}

/// A turn in words.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// Its number, from one.
    pub number: u64,
    /// When, by the member's clock.
    pub now: Instant,
    /// Where the replica stood before.
    pub before: StatusLine,
    /// What the replica was given.
    pub inputs: Vec<Step>,
    /// What it asked for.
    pub outputs: Vec<Step>,
    /// Where it stands now, if that has changed.
    pub changed: Option<StatusLine>,
}

/// An input or an output in words.
#[derive(Clone, Debug)]
pub struct Step {
    /// The words.
    pub text: String,
    /// What kind of thing it is, for pictures.
    pub about: About,
}

/// What an input or an output is about.
#[derive(Clone, Copy, Debug)]
pub enum About {
    /// A message from or to a peer.
    Message(NodeId, MessageLine),
    /// A client's request.
    Asked(RequestId),
    /// Its answer, or that nobody waits for one any more; whether it is an error.
    Answered(RequestId, bool),
    /// The disk.
    Disk,
    /// Time.
    Time,
    /// Where the replica stands.
    Standing,
    /// Something else.
    Other,
}

/// Replays a recording. Turns that `wants` names are put into words and shown.
pub fn replay(recording: &Recording, wants: impl Fn(u64) -> bool, mut show: impl FnMut(&Turn)) -> Replayed {
    let turns = Turns(recording.records());
    let mut replica = recording.replica.clone();
    let mut replayed = Replayed {
        ending: Ending::Arrived,
        turns: 0,
        inputs: 0,
        finished: 0,
        standing: Standing::of(&replica),
        status: replica.status().to_string(),
    };
    for recorded in turns {
        let recorded = match recorded {
            Ok(recorded) => recorded,
            Err(error) => return Replayed { ending: Ending::Senseless(error), ..replayed },
        };
        replayed.turns += 1;
        replayed.inputs += recorded.inputs.len() as u64;
        let number = replayed.turns;
        let before = StatusLine::from(replica.status());
        let now = recorded.now;
        let mut words = wants(number).then(|| Turn { number, now, before, ..Turn::default() });
        let end = recorded.end;
        let played = catch_panic(|| play(&mut replica, recorded, words.as_mut()));
        if let Some(words) = &mut words {
            let after = StatusLine::from(replica.status());
            words.changed = (after != before).then_some(after);
            show(words);
        }
        replayed.ending = match (played, end) {
            (Ok(digest), Some(end)) if digest == end => {
                replayed.finished = number;
                replayed.standing = Standing::of(&replica);
                replayed.status = replica.status().to_string();
                continue;
            }
            (Ok(_), Some(_)) => Ending::Diverged,
            // It was in the middle of this turn when the recording was taken.
            (Ok(_), None) => Ending::Arrived,
            (Err(panic), None) => Ending::PanicAgain(panic.detail),
            (Err(panic), Some(_)) => Ending::Panic(panic.detail),
        };
        break;
    }
    if replayed.ending == Ending::Arrived && replayed.standing != recording.standing {
        replayed.ending = Ending::OtherState;
    }
    replayed
}

/// Has one turn, and puts it into words if that is wanted.
fn play(replica: &mut Replica, recorded: RecordedTurn, mut words: Option<&mut Turn>) -> Digest {
    let mut digest = Digest::default();
    for input in recorded.inputs {
        if let Some(words) = &mut words {
            words.inputs.push(input_step(&input));
        }
        replica.handle(recorded.now, input);
    }
    while let Some(output) = replica.poll_output() {
        if let Some(words) = &mut words {
            words.outputs.push(output_step(&output));
        }
        digest.output(&output);
    }
    digest.standing(replica);
    digest
}

/// What was recorded of one turn.
struct RecordedTurn {
    now: Instant,
    inputs: Vec<Input>,
    /// `None` if the recording ends within the turn.
    end: Option<Digest>,
}

/// Puts records together into turns.
struct Turns<'a>(Records<'a>);

impl Iterator for Turns<'_> {
    type Item = Result<RecordedTurn, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        let out_of_order = || RecordingError::Senseless("its records are out of order".to_owned());
        let now = match self.0.next()? {
            Ok(Record::Turn(now)) => now,
            Ok(_) => return Some(Err(out_of_order())),
            Err(error) => return Some(Err(error)),
        };
        let mut turn = RecordedTurn { now, inputs: Vec::new(), end: None };
        loop {
            match self.0.next() {
                Some(Ok(Record::Input(input))) => turn.inputs.push(*input),
                Some(Ok(Record::End(digest))) => {
                    turn.end = Some(digest);
                    return Some(Ok(turn));
                }
                Some(Ok(Record::Turn(_))) => return Some(Err(out_of_order())),
                Some(Err(error)) => return Some(Err(error)),
                None => return Some(Ok(turn)),
            }
        }
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "turn {} at {:.6}s", self.number, self.now.0 as f64 / 1e9)?;
        for input in &self.inputs {
            writeln!(f, "  <- {}", input.text)?;
        }
        for output in &self.outputs {
            writeln!(f, "  -> {}", output.text)?;
        }
        match self.changed {
            Some(status) => writeln!(f, "  == {status}"),
            None => Ok(()),
        }
    }
}

fn input_step(input: &Input) -> Step {
    let about = match input {
        Input::Request { id, .. } => About::Asked(*id),
        Input::Cancel { id } => About::Answered(*id, true),
        Input::Message { from, message } => About::Message(*from, messages::line(message)),
        Input::Persisted(_) | Input::SnapshotSaved { .. } => About::Disk,
        Input::Wake => About::Time,
        _ => About::Other,
    };
    Step { text: input_line(input), about }
}

fn output_step(output: &Output) -> Step {
    let about = match output {
        Output::Send { to, message } => About::Message(*to, messages::line(message)),
        Output::Persist(_) | Output::SaveSnapshot { .. } => About::Disk,
        Output::Respond { id, result } => About::Answered(*id, result.is_err()),
        Output::Changed(_) => About::Standing,
        _ => About::Other,
    };
    Step { text: output_line(output), about }
}

fn input_line(input: &Input) -> String {
    match input {
        Input::Request { id, request } => format!("request {id}: {}", request_line(request)),
        Input::Cancel { id } => format!("request {id} is not wanted any more"),
        Input::Message { from, message } => format!("n{from}: {}", message_line(message)),
        Input::Persisted(id) => format!("disk: write {id} is durable"),
        Input::SnapshotSaved { position, sequence } => {
            format!("disk: snapshot {} chunk {sequence} is durable", position.index)
        }
        Input::Watch { watch, request } => format!("watch {}: {}", watch.0, short(request)),
        Input::Credit { watch, events } => format!("watch {}: can take {events} more", watch.0),
        Input::Progress { watch } => format!("watch {}: asks how far it is", watch.0),
        Input::CancelWatch { watch } => format!("watch {}: is gone", watch.0),
        Input::Wake => "time".to_owned(),
    }
}

fn request_line(request: &Request) -> String {
    match request {
        Request::Command(command) => short(command),
        Request::Query { query, consistency } => format!("{} {}", short(query), short(consistency)),
        other => short(other),
    }
}

fn output_line(output: &Output) -> String {
    match output {
        Output::Send { to, message } => format!("n{to}: {}", message_line(message)),
        Output::Persist(write) => {
            let sync = if write.sync { "" } else { ", without sync" };
            format!("disk: write {} ({} entries{sync})", write.id, write.entries.len())
        }
        Output::SaveSnapshot { chunk, .. } => {
            format!("disk: snapshot {} chunk {}", chunk.meta.position.index, chunk.sequence)
        }
        Output::Respond { id, result: Ok(response) } => {
            format!("answer {id}: revision {}", response.revision)
        }
        Output::Respond { id, result: Err(error) } => format!("answer {id}: {error}"),
        Output::Watch { watch, update } => format!("watch {}: {}", watch.0, short(update)),
        Output::Peers(peers) => format!("{} peers", peers.len()),
        Output::Removed => "this member has been removed".to_owned(),
        Output::Disowned => "this member's directory is an old copy".to_owned(),
        Output::Changed(status) => format!("changed: {status}"),
    }
}

fn message_line(message: &Message) -> String {
    let MessageLine { kind, term, first, second } = messages::line(message);
    format!("{kind}@{term} {first} {second}")
}

/// A value on one line, cut where it gets long.
fn short(value: &impl fmt::Debug) -> String {
    let text = format!("{value:?}");
    match text.char_indices().nth(LINE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Values may be long.
const LINE_CHARS_MAX: usize = 200;
