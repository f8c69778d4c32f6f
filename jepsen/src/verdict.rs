//! What a check concludes.

use std::fmt;

/// What a check concludes. There is no fourth case: an engine that gives up says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Some order of the operations explains every answer.
    Valid,
    /// No order does.
    Invalid(Violation),
    /// The check gave up; the text says what it ran out of and how far it came.
    Unknown(String),
}

impl Verdict {
    /// Whether the history was found to be in order.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        matches!(self, Verdict::Valid)
    }

    /// Whether the history was refuted.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        matches!(self, Verdict::Invalid(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Valid => f.write_str("valid"),
            Verdict::Invalid(violation) => write!(f, "invalid: {violation}"),
            Verdict::Unknown(reason) => write!(f, "unknown: {reason}"),
        }
    }
}

/// Why no order explains the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule that is broken, for programs: `real-time`, `stale-read`, `watch-ordered`, ….
    pub rule: &'static str,
    /// The reason in words, for people.
    pub sentence: String,
    /// The operations that show it, as indices into the history, the offender first. Few, not always the
    /// fewest.
    pub operations: Vec<usize>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.sentence, self.rule)
    }
}
