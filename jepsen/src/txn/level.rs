//! Levels of isolation, which of them are stronger than which, and what each forbids.
//!
//! Sources, as the table says: Adya's thesis (1999); Bailis et al., "Highly available transactions" (2013);
//! Cerone, Bernardi & Gotsman, "A framework for transactional consistency models with atomic visibility"
//! (2015); Daudjee & Salem, "Lazy database replication with snapshot isolation" (2006). The relations between
//! them follow <https://jepsen.io/consistency>. Rows name only what a level adds to those it implies.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::anomaly::{Anomaly, closure};

/// A level of isolation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(usize);

struct Row {
    name: &'static str,
    /// Other names.
    also: &'static [&'static str],
    /// The levels next below.
    implies: &'static [&'static str],
    /// What it forbids and those do not.
    forbids: &'static [&'static str],
}

impl Level {
    /// All levels.
    pub fn all() -> impl Iterator<Item = Level> {
        (0..LEVELS.len()).map(Level)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        LEVELS[self.0].name
    }

    /// Strict serializability.
    ///
    /// # Panics
    /// Never: the table has it.
    #[must_use]
    pub fn strict_serializable() -> Level {
        find("strict-serializable").expect("the table has it")
    }

    /// Serializability.
    ///
    /// # Panics
    /// Never: the table has it.
    #[must_use]
    pub fn serializable() -> Level {
        find("serializable").expect("the table has it")
    }

    /// This level and all that it implies.
    #[must_use]
    pub fn implied(self) -> BTreeSet<Level> {
        closure([self], |level, visit| {
            LEVELS[level.0].implies.iter().filter_map(|name| find(name)).for_each(visit);
        })
    }

    /// All levels that imply this one, itself left out.
    #[must_use]
    pub fn above(self) -> Vec<Level> {
        Level::all().filter(|level| *level != self && level.implied().contains(&self)).collect()
    }

    /// What cannot happen if all these levels hold.
    #[must_use]
    pub fn forbidden(levels: &[Level]) -> BTreeSet<Anomaly> {
        let implied: BTreeSet<Level> = levels.iter().flat_map(|level| level.implied()).collect();
        let direct = implied.iter().flat_map(|level| LEVELS[level.0].forbids);
        Anomaly::implying(direct.map(|name| Anomaly::named(name)))
    }

    /// The levels that these anomalies exclude: first the weakest ones, then all others.
    #[must_use]
    pub fn excluded(anomalies: impl IntoIterator<Item = Anomaly>) -> (Vec<Level>, Vec<Level>) {
        let shown: BTreeSet<Anomaly> = anomalies.into_iter().flat_map(Anomaly::implied).collect();
        let forbids =
            |level: &Level| LEVELS[level.0].forbids.iter().any(|name| shown.contains(&Anomaly::named(name)));
        let impossible: BTreeSet<Level> =
            Level::all().filter(|level| level.implied().iter().any(forbids)).collect();
        impossible.iter().partition(|level| {
            level.implied().iter().all(|below| below == *level || !impossible.contains(below))
        })
    }
}

fn find(name: &str) -> Option<Level> {
    LEVELS.iter().position(|row| row.name == name || row.also.contains(&name)).map(Level)
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(name: &str) -> Result<Level, String> {
        find(name).ok_or_else(|| {
            let names: Vec<&str> = LEVELS.iter().map(|row| row.name).collect();
            format!("no level of isolation {name:?}: expected one of {}", names.join(", "))
        })
    }
}

const fn row(
    name: &'static str,
    also: &'static [&'static str],
    implies: &'static [&'static str],
    forbids: &'static [&'static str],
) -> Row {
    Row { name, also, implies, forbids }
}

const LEVELS: &[Row] = &[
    // Adya's levels of a single version order.
    row("read-uncommitted", &["PL-1"], &[], &["G0", "duplicate-elements", "cyclic-versions"]),
    row("read-committed", &["PL-2"], &["read-uncommitted"], &["G1"]),
    row("cursor-stability", &["PL-CS"], &["read-committed"], &["G1", "G-cursor", "lost-update"]),
    row("monotonic-view", &["PL-2L"], &["read-committed"], &["G1", "G-monotonic"]),
    row("monotonic-snapshot-read", &["PL-MSR"], &["read-committed"], &["G1", "G-MSR"]),
    row("consistent-view", &["PL-2+"], &["cursor-stability", "monotonic-view"], &["G1", "G-single"]),
    row("forward-consistent-view", &["PL-FCV"], &["consistent-view"], &["G1", "G-SIb"]),
    row(
        "repeatable-read",
        &["PL-2.99"],
        &["cursor-stability", "monotonic-atomic-view"],
        &["G1", "G2-item", "lost-update"],
    ),
    row("update-serializable", &["PL-3U"], &["forward-consistent-view"], &["G1", "G-update"]),
    // Of atomic visibility.
    row("monotonic-atomic-view", &[], &["read-committed"], &[]),
    row("read-atomic", &[], &["monotonic-atomic-view"], &["internal", "G1a", "future-read"]),
    row("update-atomic", &[], &["read-atomic"], &["lost-update"]),
    row("causal", &["causal-cerone"], &["read-atomic"], &["internal", "G1a"]),
    row("parallel-snapshot-isolation", &[], &["causal", "update-atomic"], &["internal", "G1a"]),
    row("prefix", &[], &["causal"], &["internal", "G1a"]),
    row(
        "snapshot-isolation",
        &["PL-SI"],
        &[
            "forward-consistent-view",
            "monotonic-atomic-view",
            "monotonic-snapshot-read",
            "parallel-snapshot-isolation",
            "prefix",
        ],
        // Cycles whose read-write edges never follow each other are forbidden in general, not only those
        // with a single one (Cerone & Gotsman 2018, theorem 9).
        &["internal", "G1", "G-SI", "G-nonadjacent"],
    ),
    // Of serializability.
    row("1SR", &[], &[], &[]),
    row("view-serializable", &[], &[], &[]),
    row("session-serializable", &[], &["1SR"], &[]),
    row(
        "serializable",
        &["PL-3", "conflict-serializable"],
        &["repeatable-read", "update-serializable", "snapshot-isolation", "view-serializable"],
        &["G1", "G2", "internal"],
    ),
    // The same, within the order of each session.
    row("strong-session-read-uncommitted", &["strong-session-PL-1"], &["read-uncommitted"], &["G0-process"]),
    row(
        "strong-session-read-committed",
        &["strong-session-PL-2"],
        &["read-committed", "strong-session-read-uncommitted"],
        &["G1c-process"],
    ),
    row(
        "strong-session-snapshot-isolation",
        &[],
        &["snapshot-isolation", "strong-session-read-committed"],
        &["internal", "G1-process", "G-nonadjacent-process"],
    ),
    row(
        "strong-session-serializable",
        &[],
        &["serializable", "strong-session-snapshot-isolation"],
        &["G1-process", "G2-process"],
    ),
    // The same, in real time.
    row("strong-read-uncommitted", &["strong-PL-1"], &["strong-session-read-uncommitted"], &["G0-realtime"]),
    row(
        "strong-read-committed",
        &["strong-PL-2"],
        &["strong-session-read-committed", "strong-read-uncommitted"],
        &["G1c-realtime"],
    ),
    row(
        "strong-snapshot-isolation",
        &[],
        &["strong-session-snapshot-isolation", "strong-read-committed"],
        &["internal", "G1-realtime", "G-nonadjacent-realtime"],
    ),
    row(
        "strict-serializable",
        &["PL-SS", "strong-serializable"],
        &[
            "serializable",
            "linearizable",
            "strong-snapshot-isolation",
            "strong-session-serializable",
            "session-serializable",
        ],
        &["G1", "G1c-realtime", "G2-realtime"],
    ),
    // Of single objects: not judged here, but excluded with what implies them.
    row("linearizable", &[], &["sequential"], &[]),
    row("sequential", &[], &["PRAM", "writes-follow-reads"], &[]),
    row("writes-follow-reads", &[], &[], &[]),
    row("PRAM", &[], &["monotonic-reads", "monotonic-writes", "read-your-writes"], &[]),
    row("monotonic-reads", &[], &[], &[]),
    row("monotonic-writes", &[], &[], &[]),
    row("read-your-writes", &[], &[], &[]),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn names(levels: &[Level]) -> Vec<&'static str> {
        levels.iter().map(|level| level.name()).collect()
    }

    #[test]
    fn every_level_below_another_is_in_the_table() {
        for row in LEVELS {
            for name in row.implies {
                assert!(find(name).is_some(), "{name}, which {} implies", row.name);
            }
        }
    }

    #[test]
    fn a_lost_update_excludes_the_weakest_levels_that_forbid_it() {
        let (weakest, others) = Level::excluded([Anomaly::LOST_UPDATE]);
        assert_eq!(names(&weakest), ["cursor-stability", "update-atomic"]);
        assert!(names(&others).contains(&"strict-serializable"));
    }

    #[test]
    fn stronger_levels_forbid_more() {
        for level in Level::all() {
            let forbidden = Level::forbidden(&[level]);
            for below in level.implied() {
                assert!(Level::forbidden(&[below]).is_subset(&forbidden), "{below} below {level}");
            }
        }
    }
}
