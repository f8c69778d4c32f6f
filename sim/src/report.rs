//! What a run came to: a summary, or a failure with everything needed to look into it.

use std::cell::RefCell;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use quorate_jepsen::etcd::EtcdHistory;

use crate::coverage::Reached;
use crate::history::{self, Judged, Recorder};
use crate::invariants::Violation;
use crate::options::Options;
use crate::scenario::{Expect, Scenario};
use crate::time::Time;
use crate::trace::{Line, Trace};

/// A run in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The seed.
    pub seed: u64,
    /// The hash of the whole trace.
    pub hash: u64,
    /// How many events there were: whatever the run took from its queue.
    pub events: u64,
    /// How much time passed in the simulated world.
    pub simulated: Duration,
    /// How many requests were answered.
    pub answered: u64,
    /// How many outcomes are unknown.
    pub unknown: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {} trace {:016x} events {} simulated {:.1}s answered {} unknown {}",
            self.seed,
            self.hash,
            self.events,
            self.simulated.as_secs_f64(),
            self.answered,
            self.unknown
        )
    }
}

/// A run that is over, at whichever depth, and has still to be judged by what its clients saw.
#[derive(Debug)]
pub struct Ended {
    /// The run's options.
    pub options: Options,
    /// What happened, as a scenario, if that was asked for.
    pub scenario: Option<Scenario>,
    /// The first property that was broken so far.
    pub violation: Option<Violation>,
    /// Which interesting states it has reached.
    pub reached: Reached,
    /// When it ended.
    pub time: Time,
    /// How many events it had.
    pub events: u64,
    /// The trace.
    pub trace: Trace,
    /// What clients saw.
    pub recorder: Recorder,
    /// Members may have lost what they had not synced.
    pub crashed: bool,
    /// No member's clock has ever run fast.
    pub true_clocks: bool,
}

impl Ended {
    /// Judges the history, unless something is broken already, and tells what became of the run.
    #[must_use]
    pub fn judge(self) -> Finished {
        let Ended { options, mut scenario, mut violation, reached, events, trace, recorder, .. } = self;
        let summary = Summary {
            seed: options.seed,
            hash: trace.hash(),
            events,
            simulated: self.time.since(Time::ZERO),
            answered: recorder.answered(),
            unknown: recorder.unknown(),
        };
        let history = recorder.finish();
        let (mut suspects, mut undecided) = (Vec::new(), false);
        if violation.is_none() {
            match history::judge_naming(&history, self.crashed, self.true_clocks) {
                Ok(judged) => undecided = judged == Judged::Undecided,
                Err((found, operations)) => (violation, suspects) = (Some(found), operations),
            }
        }
        if let (Some(violation), Some(scenario)) = (&violation, &mut scenario) {
            scenario.expect = Expect::Violation(violation.invariant.to_owned());
        }
        Finished { options, scenario, violation, suspects, undecided, reached, summary, trace, history }
    }
}

/// Everything that a run leaves.
#[derive(Debug)]
pub struct Finished {
    /// The run's options.
    pub options: Options,
    /// What happened, as a scenario, if that was asked for.
    pub scenario: Option<Scenario>,
    /// The first property that was broken.
    pub violation: Option<Violation>,
    /// The operations of the history that cannot be explained, if that is what was broken.
    pub suspects: Vec<usize>,
    /// Nothing is broken, but too many outcomes are unknown to say that every answer is right.
    pub undecided: bool,
    /// Which interesting states it has reached.
    pub reached: Reached,
    /// The run in numbers.
    pub summary: Summary,
    /// The trace: the last events, or all of them.
    pub trace: Trace,
    /// What clients saw.
    pub history: EtcdHistory,
}

impl Finished {
    /// A summary, or a failure.
    pub fn into_result(self) -> Result<Summary, Box<Failure>> {
        let Finished { options, violation, summary, trace, history, .. } = self;
        let Some(violation) = violation else { return Ok(summary) };
        let last = trace.last().copied().collect();
        Err(Box::new(Failure { options, violation, summary, last, history }))
    }
}

/// A run that broke a property.
#[derive(Debug)]
pub struct Failure {
    /// The run's options.
    pub options: Options,
    /// The first property that was broken.
    pub violation: Violation,
    /// The run in numbers, up to there.
    pub summary: Summary,
    /// The last events before it.
    pub last: Vec<Line>,
    /// What clients saw.
    pub history: EtcdHistory,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "options: {}", self.options)?;
        writeln!(f, "the last events:")?;
        let skipped = self.last.len().saturating_sub(SHOWN);
        for line in &self.last[skipped..] {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "violated: {}", self.violation)?;
        write!(f, "{}", self.summary)
    }
}

/// How many of the last events are shown.
const SHOWN: usize = 40;

thread_local! {
    /// Where the last panic of this thread was, and what it said.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    /// Whether a panic is being waited for, so that it need not be printed.
    static EXPECTED: RefCell<bool> = const { RefCell::new(false) };
}

/// Lets panics of simulated code be reported as violations rather than printed. Call once.
pub fn install_panic_hook() {
    quorate_jepsen::pipe::end_with_the_reader();
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if EXPECTED.with_borrow(|expected| *expected) {
            PANIC.set(Some(info.to_string()));
        } else {
            usual(info);
        }
    }));
}

/// Runs simulated code. A panic in it is a broken property: an assertion of the product's, or a bug.
pub fn catch_panic<T>(run: impl FnOnce() -> T) -> Result<T, Violation> {
    let before = EXPECTED.replace(true);
    let result = std::panic::catch_unwind(AssertUnwindSafe(run));
    EXPECTED.set(before);
    result.map_err(|payload| {
        let said =
            || payload.downcast_ref::<&str>().map_or("without a text".to_owned(), |text| (*text).to_owned());
        let detail = PANIC.take().unwrap_or_else(said);
        Violation { invariant: "assertions", detail }
    })
}
