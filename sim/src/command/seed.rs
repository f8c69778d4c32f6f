//! Seeds as they are written on the command line: `42`, or `42@3fa9c1d2` as failures name them.
//!
//! A seed draws another run wherever the code is another. Whoever is handed a bare number cannot see that the run
//! they get is not the one that was meant; so a seed can say which code it is from, and is refused elsewhere.

use std::fmt;
use std::str::FromStr;

/// What this program was built from: a hash of the sources that a run depends on.
pub const CODE: &str = match option_env!("QUORATE_CODE") {
    Some(code) => code,
    // Built by something else than cargo.
    None => "unknown",
};

/// The commit that this program was built from, as far as that is known.
pub const COMMIT: &str = env!("QUORATE_COMMIT");

/// A seed of this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

/// Why something is no seed of this code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// It is not a number.
    #[error("{0:?} is not a number from 0 to 18446744073709551615, or such a number and @CODE")]
    NotANumber(String),
    /// It is a seed of other code.
    #[error(
        "seed {number} is from version {theirs}, and this program is version {CODE} (commit {COMMIT}): here the same \
         number means another run. Build the code that the seed is from (its failure names the commit), or give \
         {number} alone for what it means here. Scenario files survive changes of the code: `run --scenario-out`, \
         `shrink`"
    )]
    OtherVersion {
        /// The number.
        number: u64,
        /// What it is from.
        theirs: String,
    },
}

impl FromStr for Seed {
    type Err = SeedError;

    fn from_str(text: &str) -> Result<Seed, SeedError> {
        let (number, version) = text.split_once('@').map_or((text, None), |(a, b)| (a, Some(b)));
        let number = number.parse().map_err(|_| SeedError::NotANumber(text.to_owned()))?;
        match version {
            Some(theirs) if !is_this(theirs) => {
                Err(SeedError::OtherVersion { number, theirs: theirs.to_owned() })
            }
            _ => Ok(Seed(number)),
        }
    }
}

/// Whether this is the code that this program was built from; a commit is as good, as long as nothing was changed
/// since (which only the code id can tell).
fn is_this(version: &str) -> bool {
    let commit = COMMIT != "unknown" && version.len() >= 7;
    version == CODE || commit && (COMMIT.starts_with(version) || version.starts_with(COMMIT))
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{CODE}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_number_that_may_name_its_code() {
        assert_eq!("42".parse(), Ok(Seed(42)));
        assert_eq!(Seed(42).to_string().parse(), Ok(Seed(42)));
        for wrong in ["", "x", "-1", "4 2", "@", "99999999999999999999"] {
            assert!(matches!(wrong.parse::<Seed>(), Err(SeedError::NotANumber(_))), "{wrong:?}");
        }
    }

    #[test]
    fn a_seed_of_other_code_is_refused_and_told_what_to_do() {
        let error = "42@00000000".parse::<Seed>().expect_err("no code has this id, nearly");
        let said = error.to_string();
        assert!(said.contains("version 00000000") && said.contains(CODE), "{said}");
        assert!(said.contains("give 42 alone"), "{said}");
    }
}
