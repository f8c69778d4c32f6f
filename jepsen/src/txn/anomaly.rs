//! Anomalies by name, and which of them are special cases of others.
//!
//! A cycle of dependencies between transactions is named by its edges (Adya, Liskov & O'Neil, "Generalized
//! isolation level definitions", ICDE 2000):
//!
//! | name | edges |
//! |---|---|
//! | `G0` | write-write only |
//! | `G1c` | write-write and write-read, at least one of the latter |
//! | `G-single-item` | exactly one read-write edge |
//! | `G-nonadjacent-item` | several read-write edges, no two in a row |
//! | `G2-item` | several read-write edges, two of them in a row |
//!
//! A suffix says that the cycle needs more than data: `-process` that one process did one thing after the
//! other, `-realtime` that one transaction ended before another began. The names without `-item` are the
//! same with predicates; nothing here reads by predicate, but levels of isolation are defined by them.
//!
//! The names are those of Elle (Kingsbury & Alvaro, "Elle: inferring isolation anomalies from experimental
//! observations", VLDB 2020), so that verdicts can be compared.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// The name of an anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Anomaly(&'static str);

impl Anomaly {
    /// A transaction does not read what it read or wrote itself.
    pub const INTERNAL: Anomaly = Anomaly("internal");
    /// A transaction reads what it writes only later.
    pub const FUTURE_READ: Anomaly = Anomaly("future-read");
    /// A committed transaction read from one that aborted.
    pub const G1A: Anomaly = Anomaly("G1a");
    /// A transaction read what another wrote and then overwrote itself.
    pub const G1B: Anomaly = Anomaly("G1b");
    /// A committed transaction wrote on top of one that aborted.
    pub const DIRTY_UPDATE: Anomaly = Anomaly("dirty-update");
    /// Two transactions read the same version and both replaced it.
    pub const LOST_UPDATE: Anomaly = Anomaly("lost-update");
    /// A read shows one append twice.
    pub const DUPLICATE_ELEMENTS: Anomaly = Anomaly("duplicate-elements");
    /// Two reads of one list that are not of one timeline.
    pub const INCOMPATIBLE_ORDER: Anomaly = Anomaly("incompatible-order");
    /// The versions of a key come one after the other in a circle.
    pub const CYCLIC_VERSIONS: Anomaly = Anomaly("cyclic-versions");

    /// The anomaly of a cycle: its data edges and what else it needs.
    pub(super) fn of_cycle(shape: Shape, needs: Needs) -> Anomaly {
        let names = match shape {
            Shape::WriteCycle => ["G0", "G0-process", "G0-realtime"],
            Shape::Information => ["G1c", "G1c-process", "G1c-realtime"],
            Shape::Single => ["G-single-item", "G-single-item-process", "G-single-item-realtime"],
            Shape::Nonadjacent => {
                ["G-nonadjacent-item", "G-nonadjacent-item-process", "G-nonadjacent-item-realtime"]
            }
            Shape::Several => ["G2-item", "G2-item-process", "G2-item-realtime"],
        };
        Anomaly(names[needs as usize])
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0
    }

    /// What it means, as half a sentence.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        let base = self.0.trim_end_matches("-process").trim_end_matches("-realtime");
        match base {
            "internal" => "a transaction does not see what it read or wrote itself",
            "future-read" => "a transaction reads what it writes only later",
            "G1a" => "a transaction read what an aborted one wrote",
            "G1b" => "a transaction read what another one wrote in between",
            "dirty-update" => "a committed transaction wrote on top of an aborted one",
            "lost-update" => "transactions read the same version and each replaced it",
            "duplicate-elements" => "one append shows up twice",
            "incompatible-order" => "two reads of one list are not of one timeline",
            "cyclic-versions" => "the versions of a key follow each other in a circle",
            "G0" => "transactions overwrite each other in a circle",
            "G1c" => "information flows in a circle",
            "G-single-item" | "G-single" => "a transaction missed what others that it depends on had seen",
            "G-nonadjacent-item" | "G-nonadjacent" => "transactions saw writes in different orders",
            "G2-item" | "G2" => "transactions each missed what another one wrote",
            "serializable" | "strict-serializable" | "strong-session-serializable" => {
                "no order of the transactions explains what they read"
            }
            name if name.ends_with("snapshot-isolation") => "no order of snapshots explains what was read",
            _ => "the level of isolation is broken",
        }
    }

    /// This anomaly and all that it is a special case of.
    #[must_use]
    pub fn implied(self) -> BTreeSet<Anomaly> {
        closure([self], |anomaly, visit| {
            if let Some((_, implied)) = IMPLIED.iter().find(|(name, _)| *name == anomaly.0) {
                implied.iter().for_each(|name| visit(Anomaly(name)));
            }
        })
    }

    /// These anomalies and all that are special cases of one of them.
    #[must_use]
    pub fn implying(anomalies: impl IntoIterator<Item = Anomaly>) -> BTreeSet<Anomaly> {
        closure(anomalies, |anomaly, visit| {
            for (name, implied) in IMPLIED {
                if implied.contains(&anomaly.0) {
                    visit(Anomaly(name));
                }
            }
        })
    }

    pub(super) fn needs_realtime(self) -> bool {
        self.0.ends_with("-realtime")
    }

    pub(super) fn needs_process(self) -> bool {
        self.0.ends_with("-process")
    }

    pub(super) const fn named(name: &'static str) -> Anomaly {
        Anomaly(name)
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl FromStr for Anomaly {
    type Err = String;

    fn from_str(name: &str) -> Result<Anomaly, String> {
        let mut all = IMPLIED.iter().flat_map(|(name, implied)| std::iter::once(name).chain(*implied));
        let others = ["internal", "duplicate-elements", "cyclic-versions"];
        match all.find(|known| **known == name).or_else(|| others.iter().find(|known| **known == name)) {
            Some(known) => Ok(Anomaly(known)),
            None => {
                Err(format!("no anomaly {name:?}: expected one such as G0, G1a, G-single or lost-update"))
            }
        }
    }
}

/// The data edges of a cycle, from the worst to the subtlest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    WriteCycle,
    Information,
    Single,
    Nonadjacent,
    Several,
}

impl Shape {
    pub const ALL: [Shape; 5] =
        [Shape::WriteCycle, Shape::Information, Shape::Single, Shape::Nonadjacent, Shape::Several];
}

/// What a cycle needs besides data edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing = 0,
    Process = 1,
    Realtime = 2,
}

/// Everything that can be reached from `start`.
pub(super) fn closure<T: Copy + Ord>(
    start: impl IntoIterator<Item = T>,
    next: impl Fn(T, &mut dyn FnMut(T)),
) -> BTreeSet<T> {
    let mut seen: BTreeSet<T> = BTreeSet::new();
    let mut open: Vec<T> = start.into_iter().collect();
    while let Some(item) = open.pop() {
        if seen.insert(item) {
            next(item, &mut |other| open.push(other));
        }
    }
    seen
}

/// Each anomaly, and those that it is a special case of.
const IMPLIED: &[(&str, &[&str])] = &[
    ("G0", &["G1c", "G0-process"]),
    ("G0-process", &["G1c-process", "G0-realtime"]),
    ("G0-realtime", &["G1c-realtime"]),
    ("G1a", &["G1"]),
    ("G1b", &["G1"]),
    ("G1c", &["G1", "G1c-process"]),
    ("G1c-process", &["G1c-realtime", "G1-process"]),
    ("G1c-realtime", &["G1-realtime"]),
    ("G1", &["G1-process"]),
    ("G1-process", &["G1-realtime"]),
    ("G-single-item", &["G-single", "G-single-item-process", "G-nonadjacent-item"]),
    ("G-single-item-process", &["G-single-process", "G-single-item-realtime", "G-nonadjacent-item-process"]),
    ("G-single-item-realtime", &["G-single-realtime", "G-nonadjacent-item-realtime"]),
    ("G-single", &["G-nonadjacent", "G-SIb", "G-single-process"]),
    ("G-single-process", &["G-nonadjacent-process", "G-single-realtime"]),
    ("G-single-realtime", &["G-nonadjacent-realtime"]),
    ("G-nonadjacent-item", &["G-nonadjacent", "G2-item", "G-nonadjacent-item-process"]),
    (
        "G-nonadjacent-item-process",
        &["G-nonadjacent-process", "G2-item-process", "G-nonadjacent-item-realtime"],
    ),
    ("G-nonadjacent-item-realtime", &["G2-item-realtime", "G-nonadjacent-realtime"]),
    ("G-nonadjacent", &["G2", "G-nonadjacent-process"]),
    ("G-nonadjacent-process", &["G2-process", "G-nonadjacent-realtime"]),
    ("G-nonadjacent-realtime", &["G2-realtime"]),
    ("G2", &["G2-process"]),
    ("G2-item", &["G2", "G2-item-process"]),
    ("G2-item-process", &["G2-process", "G2-item-realtime"]),
    ("G2-item-realtime", &["G2-realtime"]),
    ("G2-process", &["G2-realtime"]),
    // A list that was read in two orders shows that one of the reads was of something undone.
    ("incompatible-order", &["G1a"]),
    // A transaction that reads from itself is a circle of one.
    ("future-read", &["G1c"]),
    // What forbids to read from the aborted forbids to build upon them.
    ("dirty-update", &["G1a"]),
    ("lost-update", &["write-skew", "G2-item"]),
    ("write-skew", &["G2"]),
];
