//! What a history looks like: bars, the order found, the point where it breaks. The page, the text and the
//! JSON report are made of this one value.

use serde::Serialize;

/// A judged history, ready to be drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Picture {
    /// What it is called: a file, a run.
    pub title: String,
    /// Which model judged it.
    pub model: String,
    /// `valid`, `invalid` or `unknown`.
    pub verdict: String,
    /// The rule that is broken.
    pub rule: Option<String>,
    /// Why the verdict is not `valid`, in words; the shortest first.
    pub why: Vec<String>,
    /// The units of time that make a second, if known.
    pub ticks_per_second: Option<u64>,
    /// What comes before an operation's number: `op `, or `T` for transactions, as sentences call them.
    pub label: &'static str,
    /// The operations, in the order of the history.
    pub bars: Vec<Bar>,
    /// The independent parts of the object, at least one.
    pub parts: Vec<Part>,
    /// Stretches of time in which something was done to the system.
    pub bands: Vec<Band>,
    /// Cycles of transactions that cannot all be right.
    pub cycles: Vec<Cycle>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// Its index in the history.
    pub id: usize,
    /// Who.
    pub process: u64,
    /// When it was called.
    pub call: u64,
    /// When it returned; none if its outcome is unknown.
    pub end: Option<u64>,
    /// What was asked and answered.
    pub text: String,
    /// Which colour.
    pub kind: Kind,
    /// The number of its part in [`Picture::parts`].
    pub part: usize,
    /// Whether it belongs to the smallest part of the history that shows the violation; 2 marks the offender.
    pub core: u8,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It leaves the state as it is.
    Read,
    /// It may change the state.
    Write,
    /// It failed, or was refused.
    Failed,
    /// It arrived without being asked for: a response on a watch stream.
    Arrival,
}

/// An independent part of the object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Its name; empty if the object has one part only.
    pub name: String,
    /// The longest order found: operations (by their place in [`Picture::bars`]) and the state after each.
    pub order: Vec<Step>,
    /// Where it breaks.
    pub stuck: Option<Break>,
}

/// One step of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Which operation.
    pub bar: usize,
    /// The state after it.
    pub state: String,
}

/// Where an order breaks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Break {
    /// The operation that fits nowhere.
    pub bar: usize,
    /// For each state that some order leads to: that state, and what was last in that order.
    pub states: Vec<(String, Vec<usize>)>,
    /// Whether every order was tried.
    pub exhaustive: bool,
}

/// A stretch of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Band {
    /// Its beginning.
    pub from: u64,
    /// Its end.
    pub to: u64,
    /// What was done.
    pub label: String,
}

/// Transactions that each must come before the next, and the last before the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cycle {
    /// What kind of anomaly it is: `G0`, `G1c`, `G-single`, ….
    pub name: String,
    /// The edges, in order around the cycle.
    pub edges: Vec<Edge>,
}

/// One transaction must come before another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Edge {
    /// The earlier one, by its place in [`Picture::bars`].
    pub from: usize,
    /// The later one.
    pub to: usize,
    /// `ww`, `wr`, `rw`, `process` or `realtime`.
    pub kind: String,
    /// Why.
    pub because: String,
}
