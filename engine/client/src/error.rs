//! How a call may end other than with an answer.

use tonic::Code;

/// A learner's refusal.
pub(crate) const NOT_FOR_LEARNERS: &str = "etcdserver: rpc not supported for learner";
/// Refusals that servers send with the code of failures whose outcome is not known. (The first only before etcd 3.6.)
const REFUSALS: [&str; 2] = [NOT_FOR_LEARNERS, "etcdserver: unhealthy cluster"];

/// A call that was not answered with a result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// An endpoint is not a URL that can be dialled.
    #[error("endpoint {endpoint:?} is not valid: {reason}")]
    InvalidEndpoint {
        /// As it was given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No server could be reached, so that nothing was asked and nothing has happened.
    #[error("no endpoint could be reached: {reason}")]
    Unreachable {
        /// What the last attempt ran into.
        reason: String,
    },
    /// The server refused: the request had no effect.
    #[error("{message}")]
    Refused {
        /// gRPC's code.
        code: Code,
        /// The server's words.
        message: String,
    },
    /// The request was sent and its fate is not known: it may have taken effect, or still may.
    #[error("outcome unknown: {reason}")]
    Unknown {
        /// What came instead of an answer.
        reason: String,
    },
    /// A stream was ended by the server.
    #[error("the server ended the stream")]
    StreamEnded,
}

impl Error {
    /// The request certainly had no effect.
    #[must_use]
    pub fn had_no_effect(&self) -> bool {
        !matches!(self, Error::Unknown { .. } | Error::StreamEnded)
    }

    /// The server does not know the method.
    #[must_use]
    pub fn is_unimplemented(&self) -> bool {
        matches!(self, Error::Refused { code: Code::Unimplemented, .. })
    }

    /// Sorts a status by what it says about the request's effect.
    ///
    /// A server that validates, or finds a condition unmet, says so with one of the first codes. All others may also
    /// come from a connection that broke, or from a server that gave up waiting for a proposal which is still on its
    /// way through the log.
    pub(crate) fn of(status: &tonic::Status) -> Self {
        if let Some(connect) = not_connected(status) {
            return Error::Unreachable { reason: connect.to_string() };
        }
        match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented => {
                Error::Refused { code: status.code(), message: status.message().to_owned() }
            }
            Code::Unavailable if REFUSALS.contains(&status.message()) => {
                Error::Refused { code: status.code(), message: status.message().to_owned() }
            }
            code => Error::Unknown { reason: format!("{code:?}: {}", status.message()) },
        }
    }
}

/// A connection that broke before could not be made again: of this call, nothing was sent.
fn not_connected(status: &tonic::Status) -> Option<&tonic::ConnectError> {
    let source = std::error::Error::source(status);
    std::iter::successors(source, |error| error.source()).find_map(|error| error.downcast_ref())
}
