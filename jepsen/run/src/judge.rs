//! What the history of a run is worth: one check for the order of revisions, and one for what the workload means.

use quorate_jepsen::etcd::{self, EtcdHistory, Hold, Keys, Options, Range, Reply, Request, Store};
use quorate_jepsen::explain::Picture;
use quorate_jepsen::format::Recording;
use quorate_jepsen::report::{ModelName, Settings, judge};
use quorate_jepsen::{Limits, Verdict, Violation};

use crate::client::Client;
use crate::record::{Seen, TICKS_PER_SECOND};
use crate::workload::{Context, Workload, lock_prefix};

/// A member that was killed and started again may answer serializable reads from before what it had answered: it has
/// applied more than it has noted as committed, and does not wait for a leader. etcd's members may, too.
pub const MEMBERS_NEVER_GO_BACK: bool = false;

/// One question and its answer.
pub struct Check {
    /// What was asked.
    pub name: &'static str,
    /// The answer.
    pub verdict: Verdict,
    /// Why, in words.
    pub why: Vec<String>,
    /// The operations that show it.
    pub evidence: Vec<String>,
    /// The history as a picture.
    pub picture: Option<Box<Picture>>,
}

/// Reads what the cluster holds before the run, so that its history need not begin with an empty store.
pub async fn initial_state(client: &Client) -> Result<Store, String> {
    let range = Range { limit: KEYS_MAX + 1, ..Range::of(Keys::all()) };
    let reply = client.ask(Request::Range(range)).await.reply();
    client.recorder().take();
    match reply {
        Some((Reply::Range { kvs, .. }, revision)) if revision <= 1 && kvs.is_empty() => Ok(Store::new()),
        Some((Reply::Range { more: true, .. }, _)) => {
            Err(format!("the cluster holds more than {KEYS_MAX} keys: run against one that is nearly empty"))
        }
        Some((Reply::Range { kvs, .. }, revision)) => Ok(Store::at(revision, kvs)),
        _ => Err("the cluster does not answer: is it running, and are the endpoints right?".to_owned()),
    }
}

/// Judges all that was seen. Leaves the history as it was.
pub fn judge_all(seen: &Seen, initial: &Store, context: &Context) -> Vec<Check> {
    let mut checks = vec![revisions(&seen.etcd, initial, context)];
    match context.workload {
        Workload::Register => {
            checks.push(named(seen, "every key is a linearizable register", ModelName::Register));
        }
        Workload::Append => {
            checks.push(named(
                seen,
                "transactions over lists are strictly serializable",
                ModelName::ListAppend,
            ));
        }
        Workload::Wr => {
            checks.push(named(
                seen,
                "transactions over registers are strictly serializable",
                ModelName::RwRegister,
            ));
        }
        Workload::Lock => locks(seen, initial, context, &mut checks),
        _ => {}
    }
    checks
}

/// What the check of revisions may assume.
pub fn options(initial: &Store, context: &Context) -> Options {
    Options {
        initial: initial.clone(),
        // A clock that runs twice as fast ends leases after half of their time.
        ticks_per_second: Some(TICKS_PER_SECOND / if context.wrong_clocks { 2 } else { 1 }),
        members_never_go_back: MEMBERS_NEVER_GO_BACK,
        ..Options::default()
    }
}

/// The order of revisions explains every answer and every watch.
fn revisions(history: &EtcdHistory, initial: &Store, context: &Context) -> Check {
    let few = history.operations.operations.len() <= DRAWN_MAX;
    let settings = Settings { etcd: options(initial, context), draw: few, ..Settings::default() };
    let name = "the order of revisions explains every answer";
    checked(name, &Recording::Etcd(Box::new(history.clone().into())), &settings)
}

fn named(seen: &Seen, name: &'static str, model: ModelName) -> Check {
    let few = seen.named.operations.len() <= DRAWN_MAX;
    let limits = Limits { configurations: CONFIGURATIONS_MAX, ..Limits::default() };
    let settings = Settings { model: Some(model), draw: few, limits, ..Settings::default() };
    checked(name, &Recording::Named(seen.named.clone()), &settings)
}

fn checked(name: &'static str, recording: &Recording, settings: &Settings<'_>) -> Check {
    match judge(recording, settings) {
        Ok(report) => {
            let (verdict, why) = (report.verdict, report.why);
            let picture = report.picture.map(|mut picture| {
                picture.ticks_per_second = Some(TICKS_PER_SECOND);
                picture
            });
            Check { name, verdict, why, evidence: report.evidence, picture }
        }
        Err(error) => Check::of(name, Verdict::Unknown(error)),
    }
}

impl Check {
    /// A verdict that speaks for itself.
    pub fn of(name: &'static str, verdict: Verdict) -> Check {
        let why = match &verdict {
            Verdict::Valid => Vec::new(),
            Verdict::Invalid(violation) => vec![violation.sentence.clone()],
            Verdict::Unknown(reason) => vec![reason.clone()],
        };
        Check { name, verdict, why, evidence: Vec::new(), picture: None }
    }
}

/// The promises of locks: by revision always, and then either the clients' beliefs or the tokens.
fn locks(seen: &Seen, initial: &Store, context: &Context, checks: &mut Vec<Check>) {
    let (verdict, log) = etcd::check_with_log(&seen.etcd, &options(initial, context));
    if verdict.is_valid() {
        let owned = etcd::check_ownership(&log, lock_prefix(), &seen.holds);
        checks.push(Check::of("the owner of the lock is the oldest key there is", verdict_of(owned)));
    }
    if context.fenced {
        let fenced = match verdict {
            Verdict::Valid => verdict_of(etcd::check_fencing(&log, lock_prefix(), &seen.accepted)),
            _ => Verdict::Unknown("without an order of revisions there is no order of tokens".to_owned()),
        };
        checks.push(Check::of("the resource accepts no token after a newer one", fenced));
        return;
    }
    let overlaps = etcd::overlaps(&seen.holds);
    let mut check = named(seen, "no two clients believe to own the lock at once", ModelName::Mutex);
    if let (Some((first, second)), Verdict::Invalid(_)) = (overlaps.first(), &check.verdict) {
        check.why.insert(0, beliefs(&seen.holds[*first], &seen.holds[*second], overlaps.len()));
    }
    checks.push(check);
}

/// Two clients that believed to own a lock at once.
pub fn beliefs(first: &Hold, second: &Hold, times: usize) -> String {
    let seconds = |at: u64| at as f64 / TICKS_PER_SECOND as f64;
    format!(
        "process {} owned the lock from {:.3} s on and believed so until {:.3} s, but its lease had ended: process {} owned \
         it from {:.3} s on. That is so with every lock that rests on a lease ({times} times in this run); a resource must \
         demand the lock's token: see --fenced",
        first.process,
        seconds(first.acquired),
        seconds(first.released),
        second.process,
        seconds(second.acquired),
    )
}

fn verdict_of(result: Result<(), Violation>) -> Verdict {
    result.map_or_else(Verdict::Invalid, |()| Verdict::Valid)
}

/// How many keys a cluster may hold before a run.
const KEYS_MAX: i64 = 10_000;
/// How many operations are drawn.
const DRAWN_MAX: usize = 50_000;
/// How long the search may take.
const CONFIGURATIONS_MAX: u64 = 20_000_000;
