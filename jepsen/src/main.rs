//! `quorate-jepsen`: verdicts on histories, from the command line.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use quorate_jepsen::explain::{Picture, html};
use quorate_jepsen::format::{self, Format, ReadOptions, Recording, WriteError};
use quorate_jepsen::models::named::{FailedCas, NilRead, Semantics};
use quorate_jepsen::report::{ModelName, Report, Settings, judge, judge_stream};
use quorate_jepsen::{Limits, Verdict, txn};

/// Judges histories of concurrent systems: is there an order that explains every answer?
#[derive(Parser)]
#[command(name = "quorate-jepsen", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 all valid, 1 some invalid, 2 some unknown, 3 bad input.";

#[derive(Subcommand)]
enum Command {
    /// Print a verdict on every file, and for an invalid one what shows it.
    #[command(after_help = EXIT_CODES)]
    Check(CheckArguments),
    /// Rewrite a history in another format.
    Convert(ConvertArguments),
    /// Test a cluster: load, faults and the verdict. Done by the program quorate-jepsen-run, beside this one or in
    /// the path, so that this one needs neither a network nor a runtime; `run --help` says more.
    #[command(disable_help_flag = true)]
    Run {
        /// Passed on as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(clap::Args)]
struct InputArguments {
    /// The files' format; recognized by their content if not given.
    #[arg(long, value_enum)]
    format: Option<FormatName>,
    /// Values are pairs of a key and the value proper, as of Jepsen's independent tests.
    #[arg(long)]
    independent: bool,
    /// Accept completions without invocations.
    #[arg(long)]
    lenient: bool,
}

#[derive(clap::Args)]
struct CheckArguments {
    /// Histories, packed by gzip or not; `-` is the standard input.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// What the history is of; a wrong name is answered with all there are. Guessed by the operations if not
    /// given.
    #[arg(long)]
    model: Option<ModelName>,
    #[command(flatten)]
    input: InputArguments,
    /// What registers hold at first, as EDN.
    #[arg(long, value_name = "VALUE", default_value = "nil")]
    init: String,
    /// What a failed compare-and-set says: it did not happen (drop), or the register held something else
    /// (observe).
    #[arg(long, value_enum, default_value = "drop")]
    failed_cas: FailedCasName,
    /// What a read of nil says: the register held nil (absent), its initial value (initial), or nothing
    /// (any).
    #[arg(long, value_enum, default_value = "absent")]
    nil_read: NilReadName,
    /// How many permits a semaphore has (2 if not given), or how often one process may hold a lock at once.
    #[arg(long, value_name = "NUMBER")]
    permits: Option<u32>,
    /// How much money a bank has in all; what the first read shows if not given.
    #[arg(long, value_name = "NUMBER")]
    total: Option<i64>,
    /// Accounts of a bank may be overdrawn.
    #[arg(long)]
    negative_balances: bool,
    #[command(flatten)]
    transactions: TransactionArguments,
    /// Give up on a file after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    time_limit: u64,
    /// Give up on a file that needs more memory than so many megabytes.
    #[arg(long, value_name = "MEGABYTES", default_value_t = 2048)]
    memory_limit: u64,
    /// How many keys are searched at once; as many as there are processors if not given. The memory is shared
    /// among them.
    #[arg(long, value_name = "NUMBER")]
    threads: Option<usize>,
    /// Units of the history's time that make a second, for the lifetime of etcd's leases.
    #[arg(long, value_name = "UNITS")]
    ticks_per_second: Option<u64>,
    /// Of etcd: a member may answer serializable reads from before what it had answered, as it does after a kill.
    #[arg(long)]
    members_may_go_back: bool,
    /// Judge histories of lines while they are read, in bounded memory: endless ones from the standard input, too. Their
    /// operations must be in the order of the calls. Nothing is drawn.
    #[arg(long, conflicts_with = "html")]
    stream: bool,
    /// One line of JSON per file.
    #[arg(long)]
    json: bool,
    /// Write a page with the picture of the history to this file: the operations as bars, the longest order,
    /// and where it breaks. For one history.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(clap::Args)]
struct TransactionArguments {
    /// Transactions: a level of isolation that should hold, such as serializable, snapshot-isolation or causal;
    /// may be given several times. Strict serializability if not given.
    #[arg(long = "level", value_name = "LEVEL", visible_alias = "consistency-model")]
    levels: Vec<txn::Level>,
    /// Transactions: an anomaly that should not happen, such as G1a or lost-update; may be given several times.
    /// Without a level, only these count.
    #[arg(long = "anomaly", value_name = "ANOMALY")]
    anomalies: Vec<txn::Anomaly>,
    /// Transactions on registers: who reads a key and then writes it replaces what was read.
    #[arg(long)]
    writes_follow_reads: bool,
    /// Transactions on registers: each process sees the versions of a key in their order.
    #[arg(long)]
    sequential_keys: bool,
    /// Transactions on registers: each key alone is linearizable.
    #[arg(long)]
    linearizable_keys: bool,
}

impl TransactionArguments {
    /// What was said about transactions; `None` if nothing was.
    fn options(&self) -> Option<txn::Options> {
        let order = txn::VersionOrder {
            writes_follow_reads: self.writes_follow_reads,
            sequential_keys: self.sequential_keys,
            linearizable_keys: self.linearizable_keys,
            ..txn::VersionOrder::default()
        };
        if self.levels.is_empty() && self.anomalies.is_empty() && order == txn::VersionOrder::default() {
            return None;
        }
        let mut options =
            txn::Options { anomalies: self.anomalies.clone(), order, ..txn::Options::default() };
        if !(self.levels.is_empty() && self.anomalies.is_empty()) {
            options.levels.clone_from(&self.levels);
        }
        Some(options)
    }
}

#[derive(clap::Args)]
struct ConvertArguments {
    /// The history; `-` is the standard input.
    file: PathBuf,
    #[command(flatten)]
    input: InputArguments,
    /// The format to write to the standard output. Histories of etcd can be written as `etcd` only, and
    /// `sessions` holds nothing but reads and writes of transactions.
    #[arg(long, value_enum, default_value = "lines")]
    to: OutputName,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatName {
    Edn,
    Json,
    Log,
    Lines,
    Etcd,
    Case,
    Sessions,
    Dbcop,
    Robustness,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum OutputName {
    Lines,
    Edn,
    Json,
    Etcd,
    Sessions,
}

#[derive(Clone, Copy, ValueEnum)]
enum FailedCasName {
    Drop,
    Observe,
}

#[derive(Clone, Copy, ValueEnum)]
enum NilReadName {
    Absent,
    Initial,
    Any,
}

fn main() -> ExitCode {
    quorate_jepsen::pipe::end_with_the_reader();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are asked for, anything else is a mistake.
            let status = if error.use_stderr() { Status::BadInput } else { Status::Valid };
            let _ = error.print();
            return ExitCode::from(status as u8);
        }
    };
    let status = match arguments.command {
        Command::Check(arguments) => check(&arguments),
        Command::Run { arguments } => return run(&arguments),
        Command::Convert(arguments) => match convert(&arguments) {
            Ok(()) => Status::Valid,
            Err(error) => {
                eprintln!("{}: {error}", arguments.file.display());
                Status::BadInput
            }
        },
    };
    ExitCode::from(status as u8)
}

/// Hands over to the program that runs clusters, and ends as it does.
fn run(arguments: &[OsString]) -> ExitCode {
    let name = "quorate-jepsen-run";
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join(name)));
    let program = beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(name));
    let mut command = std::process::Command::new(&program);
    let error = match hand_over(command.args(arguments)) {
        Ok(code) => return code,
        Err(error) => error,
    };
    eprintln!(
        "cannot start {}: {error}; build it with `cargo build --release -p {name}`, or install it beside this program",
        program.display()
    );
    ExitCode::from(Status::BadInput as u8)
}

/// Becomes the program, so that signals reach it.
#[cfg(unix)]
fn hand_over(command: &mut std::process::Command) -> std::io::Result<ExitCode> {
    Err(std::os::unix::process::CommandExt::exec(command))
}

/// Runs the program to its end.
#[cfg(not(unix))]
fn hand_over(command: &mut std::process::Command) -> std::io::Result<ExitCode> {
    let code = command.status()?.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(Status::Unknown as u8)))
}

/// What the process ends with. A worse status of one file outweighs a better one of another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Valid = 0,
    Invalid = 1,
    Unknown = 2,
    BadInput = 3,
}

impl Status {
    fn of(verdict: &Verdict) -> Status {
        match verdict {
            Verdict::Valid => Status::Valid,
            Verdict::Invalid(_) => Status::Invalid,
            Verdict::Unknown(_) => Status::Unknown,
        }
    }

    /// Bad input outweighs a refutation, which outweighs a doubt.
    fn worse(self, other: Status) -> Status {
        let order = [Status::Valid, Status::Unknown, Status::Invalid, Status::BadInput];
        let rank = |status| order.iter().position(|other| *other == status);
        if rank(self) < rank(other) { other } else { self }
    }
}

fn check(arguments: &CheckArguments) -> Status {
    if arguments.html.is_some() && arguments.files.len() > 1 {
        eprintln!("--html: a page shows one history; name one file, or leave it out");
        return Status::BadInput;
    }
    let init = match format::edn::read(&arguments.init) {
        Ok(init) => init,
        Err(error) => {
            eprintln!("--init: {error}");
            return Status::BadInput;
        }
    };
    let semantics = Semantics {
        initial: init,
        failed_cas: match arguments.failed_cas {
            FailedCasName::Drop => FailedCas::Drop,
            FailedCasName::Observe => FailedCas::Observe,
        },
        nil_read: match arguments.nil_read {
            NilReadName::Absent => NilRead::Absent,
            NilReadName::Initial => NilRead::Initial,
            NilReadName::Any => NilRead::Any,
        },
    };
    let progress = progress(arguments.files.len());
    listen_for_interrupts();
    let mut worst = Status::Valid;
    for file in &arguments.files {
        if INTERRUPTED.load(Ordering::Relaxed) {
            eprintln!("interrupted: {} and what follows was not checked", file.display());
            worst = worst.worse(Status::Unknown);
            break;
        }
        progress.set_message(file.display().to_string());
        let status = check_file(file, arguments, &semantics, &progress);
        worst = worst.worse(status);
        progress.inc(1);
    }
    progress.finish_and_clear();
    worst
}

/// Whether the user has had enough.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The first interrupt ends the check with what is known, the second ends the program.
fn listen_for_interrupts() {
    // Without a handler an interrupt ends the program at once, which is no harm.
    let _ = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(Status::Unknown as u8));
        }
    });
}

/// A bar for people; hidden unless somebody watches and there is something to wait for.
fn progress(files: usize) -> ProgressBar {
    if !io::stderr().is_terminal() || !io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {pos}/{len} files, {elapsed}: {wide_msg}");
    ProgressBar::new(files as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn check_file(
    file: &Path,
    arguments: &CheckArguments,
    semantics: &Semantics,
    progress: &ProgressBar,
) -> Status {
    let recording = match (!arguments.stream).then(|| load(file, &arguments.input)).transpose() {
        Ok(recording) => recording,
        Err(error) => return bad_input(file, &error, arguments, progress),
    };
    let begun = now();
    let limit = Duration::from_secs(arguments.time_limit);
    let stop = || {
        progress.tick();
        // A stream may be endless.
        (begun.elapsed() >= limit && !arguments.stream) || INTERRUPTED.load(Ordering::Relaxed)
    };
    let mut settings =
        Settings { model: arguments.model, semantics: semantics.clone(), ..Settings::default() };
    let elapsed = Cell::new(Duration::ZERO);
    let judged = || elapsed.set(begun.elapsed());
    settings.judged = Some(&judged);
    settings.draw = arguments.html.is_some();
    settings.transactions = arguments.transactions.options();
    (settings.permits, settings.total) = (arguments.permits, arguments.total);
    settings.negative_balances = arguments.negative_balances;
    settings.etcd.ticks_per_second = arguments.ticks_per_second;
    settings.etcd.members_never_go_back = !arguments.members_may_go_back;
    settings.limits = Limits {
        bytes: arguments.memory_limit << 20,
        threads: arguments
            .threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)),
        stop: Some(&stop),
        ..Limits::default()
    };
    let judged = if arguments.stream {
        open(file).and_then(|input| judge_stream(input, arguments.input.format(), &settings))
    } else {
        judge(recording.as_ref().expect("it was read"), &settings)
    };
    match judged {
        Ok(report) => {
            progress.suspend(|| print_report(file, &report, elapsed.get(), arguments.json));
            match write_page(file, &report, arguments) {
                Ok(()) => Status::of(&report.verdict),
                Err(error) => bad_input(file, &error, arguments, progress),
            }
        }
        Err(error) => bad_input(file, &error, arguments, progress),
    }
}

fn write_page(file: &Path, report: &Report, arguments: &CheckArguments) -> Result<(), String> {
    let (Some(to), Some(picture)) = (&arguments.html, &report.picture) else { return Ok(()) };
    let picture = Picture { title: file.display().to_string(), ..(**picture).clone() };
    std::fs::write(to, html::page(&picture))
        .map_err(|error| format!("cannot write {}: {error}", to.display()))
}

fn bad_input(file: &Path, error: &str, arguments: &CheckArguments, progress: &ProgressBar) -> Status {
    progress.suspend(|| {
        if arguments.json {
            let line = serde_json::json!({ "file": file, "verdict": "bad-input", "reason": error });
            print_line(&line.to_string());
        }
        eprintln!("{}: {error}", file.display());
    });
    Status::BadInput
}

#[expect(
    clippy::disallowed_methods,
    reason = "people want to know how long a check took; no verdict depends on it"
)]
fn now() -> Instant {
    Instant::now()
}

impl InputArguments {
    /// The format named.
    fn format(&self) -> Option<Format> {
        self.format.map(|format| match format {
            FormatName::Edn => Format::Edn,
            FormatName::Json => Format::Json,
            FormatName::Log => Format::Log,
            FormatName::Lines => Format::Lines,
            FormatName::Etcd => Format::Etcd,
            FormatName::Case => Format::Case,
            FormatName::Sessions => Format::Sessions,
            FormatName::Dbcop => Format::Dbcop,
            FormatName::Robustness => Format::Robustness,
        })
    }
}

fn load(file: &Path, arguments: &InputArguments) -> Result<Recording, String> {
    let options = ReadOptions { independent: arguments.independent, lenient: arguments.lenient };
    format::read_from(open(file)?, arguments.format(), options).map_err(|error| error.to_string())
}

/// A file, or the standard input.
fn open(file: &Path) -> Result<Box<dyn io::Read>, String> {
    if file == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = std::fs::File::open(file).map_err(|error| format!("cannot be opened: {error}"))?;
    Ok(Box::new(file))
}

fn print_report(file: &Path, report: &Report, elapsed: Duration, json: bool) {
    let milliseconds = elapsed.as_secs_f64() * 1000.0;
    let (name, violation, reason) = match &report.verdict {
        Verdict::Valid => ("valid", None, None),
        Verdict::Invalid(violation) => ("invalid", Some(violation), Some(violation.sentence.as_str())),
        Verdict::Unknown(reason) => ("unknown", None, Some(reason.as_str())),
    };
    if json {
        let line = serde_json::json!({
            "file": file,
            "verdict": name,
            "model": report.model,
            "operations": report.operations,
            "milliseconds": milliseconds,
            "rule": violation.map(|violation| violation.rule),
            "reason": reason,
            "why": report.why,
            "steps": report.evidence,
            "evidence": violation.map(|violation| &violation.operations),
            "anomalies": report.transactions.as_ref().map(|found| found.anomalies()),
            "excluded": report.transactions.as_ref().map(|found| {
                let levels = found.excluded.iter().chain(&found.also_excluded);
                levels.map(|level| level.name()).collect::<Vec<_>>()
            }),
        });
        return print_line(&line.to_string());
    }
    let (operations, model) = (report.operations, report.model);
    let file = file.display();
    print_line(&format!("{file}: {name} ({model}, {operations} operations, {milliseconds:.3} ms)"));
    let mut rule = violation.map_or(String::new(), |violation| format!(" [{}]", violation.rule));
    for line in &report.why {
        print_line(&format!("  {line}{}", std::mem::take(&mut rule)));
    }
    let skipped = report.evidence.len().saturating_sub(EVIDENCE_SHOWN);
    if skipped > 0 {
        print_line(&format!("    … {skipped} earlier ones (all of them with --json)"));
    }
    for line in &report.evidence[skipped..] {
        print_line(&format!("  {line}"));
    }
}

/// How many operations are printed as evidence.
const EVIDENCE_SHOWN: usize = 24;

fn convert(arguments: &ConvertArguments) -> Result<(), String> {
    let recording = load(&arguments.file, &arguments.input)?;
    let to = match arguments.to {
        OutputName::Lines => Format::Lines,
        OutputName::Edn => Format::Edn,
        OutputName::Json => Format::Json,
        OutputName::Etcd => Format::Etcd,
        OutputName::Sessions => Format::Sessions,
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = format::write(&recording, to, &mut out).and_then(|()| Ok(out.flush()?));
    match written {
        // Whoever closed the output does not want the rest.
        Err(WriteError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| error.to_string()),
    }
}

/// Prints to the standard output. Whoever closed it does not want the rest.
fn print_line(line: &str) {
    if writeln!(io::stdout(), "{line}").is_err() {
        std::process::exit(i32::from(Status::Unknown as u8));
    }
}
