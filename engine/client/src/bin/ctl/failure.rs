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

    /// The command line makes no sense.
    pub fn arguments(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 128 }
    }

    /// Says it on standard error.
    pub fn report(&self) -> ExitCode {
        eprintln!("Error: {}", self.message);
        ExitCode::from(self.code)
    }
}
