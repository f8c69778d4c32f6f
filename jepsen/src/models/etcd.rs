//! etcd for the general search, which knows nothing of revisions as an order: the naive [`Store`] as it is.
//!
//! Exponential where [`etcd::check`](crate::etcd::check) is nearly linear. It is here so that the two can be
//! compared, and for histories whose responses carry no revisions.

use crate::etcd::{Error, Request, Response, Store};
use crate::model::Model;

/// etcd, starting from a state. Leases never end by themselves in this model, and every read is linearizable.
#[derive(Clone, Debug, Default)]
pub struct EtcdModel {
    /// The state before the history began.
    pub initial: Store,
}

impl Model for EtcdModel {
    type Input = Request;
    type Output = Response;
    type State = Store;

    fn init(&self) -> Store {
        self.initial.clone()
    }

    fn step(&self, state: &Store, input: &Request, output: Option<&Response>) -> Option<Store> {
        let mut next = state.clone();
        let outcome = next.execute(input);
        let Some(response) = output else { return Some(next) };
        let permitted = match (&outcome, &response.result) {
            (Ok(applied), Ok(reply)) => {
                let is_compaction = matches!(input, Request::Compact { .. });
                let same = response.revision == 0 || response.revision == next.revision() || is_compaction;
                same && applied.expected.permits(reply)
            }
            (_, Err(Error::Refused)) => return Some(state.clone()),
            (Err(error), Err(seen)) => error == seen,
            _ => false,
        };
        permitted.then_some(next)
    }

    fn is_read(&self, input: &Request, output: Option<&Response>) -> bool {
        let refused = output.is_some_and(|response| response.result.is_err());
        refused
            || match input {
                Request::Range(_) | Request::LeaseKeepAlive { .. } | Request::LeaseTimeToLive { .. } => true,
                Request::Txn(_) => !input.may_write(),
                _ => false,
            }
    }

    fn describe(&self, input: &Request, output: Option<&Response>) -> String {
        match output {
            Some(output) => format!("{input} -> {output}"),
            None => format!("{input} -> unknown"),
        }
    }

    fn describe_state(&self, state: &Store) -> String {
        format!("the one of revision {}", state.revision())
    }
}
