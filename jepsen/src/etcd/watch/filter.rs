//! Filter: an event is of a key, and of a kind, that was asked for.
//!
//! Source: `validateFilter` of etcd's robustness suite; the filters `NOPUT` and `NODELETE` of `WatchCreateRequest`.

use super::Judge;
use crate::Violation;

pub(super) fn check(judge: &Judge<'_>) -> Result<(), Violation> {
    match judge.events().find(|event| !judge.stream.request.wants(event)) {
        Some(event) => Err(judge.refute("watch-filter", &format!("nobody asked for the {event}"))),
        None => Ok(()),
    }
}
