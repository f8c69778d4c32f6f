//! How a command fails: a message for people and an exit code for scripts.

use std::process::ExitCode;

/// A failed command. The exit codes are etcdctl's.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// The request failed, or was answered with an error.
    pub fn error(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// No server could be reached.
    pub fn connection(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
    }

    /// The server ended what should have gone on.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 5 }
    }

    /// The command line makes no sense.
    pub fn arguments(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 128 }
    }

    /// Says what failed because of it.
    pub fn within(self, what: &str) -> Self {
        Self { message: format!("{what} ({})", self.message), code: self.code }
    }

    /// Adds what to do about it.
    pub fn with(self, advice: &str) -> Self {
        Self { message: format!("{} ({advice})", self.message), code: self.code }
    }

    /// Says it on standard error.
    pub fn report(&self) -> ExitCode {
        eprintln!("Error: {}", self.message);
        ExitCode::from(self.code)
    }
}
