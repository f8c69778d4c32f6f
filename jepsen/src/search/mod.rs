//! The general engine: is there an order of these operations that the model permits?
//!
//! The search is Wing and Gong's (1993) with Lowe's memory of configurations and his *just-in-time* rule
//! (2017), over a *window*: an operation owns a slot only between its call and its return, so that a
//! configuration is small however long the history is. Files, in the order of the work:
//!
//! * `partition`: one search per independent part, cheap ones first;
//! * `window`: times become ranks, operations get slots;
//! * `states`: states and transitions become numbers;
//! * `explore`: the search itself, and the reductions that keep it small;
//! * `seen`, `look_ahead`: what it remembers, and what it knows of the future;
//! * `shrink`: the smallest part of a refuted history that is still refuted.

mod explore;
mod look_ahead;
mod online;
mod partition;
mod seen;
mod shrink;
mod states;
mod window;

pub use explore::Reductions;
pub use online::Search;
pub use partition::check;

/// How much a check may use before it gives up.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    /// Configurations to visit, all partitions together.
    pub configurations: u64,
    /// Memory for a search, about: configurations, states, and what is prepared. Threads share it.
    pub bytes: u64,
    /// How many independent parts are searched at once. The verdict does not depend on it.
    pub threads: usize,
    /// Asked every thousand configurations or so: true ends the check. For time limits and cancellation.
    pub stop: Option<&'a (dyn Fn() -> bool + Sync)>,
    /// Whether to shrink a refuted history to what shows it. Takes longer than the verdict.
    pub explain: bool,
    /// Which reductions to use: all, unless a test wants to compare.
    pub reductions: Reductions,
}

impl Default for Limits<'_> {
    fn default() -> Self {
        Limits {
            configurations: u64::MAX,
            bytes: 2 << 30,
            threads: 1,
            stop: None,
            explain: true,
            reductions: Reductions::ALL,
        }
    }
}

/// Why a search gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exhausted {
    Configurations,
    Bytes,
    Stopped,
    /// More operations are pending at once than a configuration can hold.
    Width(usize),
}

impl std::fmt::Display for Exhausted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exhausted::Configurations => f.write_str("the limit of configurations was reached"),
            Exhausted::Bytes => f.write_str("the limit of memory was reached"),
            Exhausted::Stopped => f.write_str("the check was stopped"),
            Exhausted::Width(slots) => {
                write!(f, "{slots} operations are pending at once; at most {} can be", explore::SLOTS_MAX)
            }
        }
    }
}
