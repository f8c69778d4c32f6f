//! IsCreate: an event says that it made its key if and only if there was no such key just before.
//!
//! Source: `validateIsCreate` of the robustness suite; `Event.IsCreate` of etcd's clients compares the two
//! revisions of the version, as here.

use super::{Judge, Log};
use crate::Violation;

pub(super) fn check(judge: &Judge<'_>, log: &Log) -> Result<(), Violation> {
    for event in judge.events().filter(|event| !event.deleted) {
        let Some(due) = log.change_of(&event.kv.key, event.revision()) else { continue };
        if !due.deleted && due.is_create() != event.is_create() {
            let was = if due.is_create() { "did not exist" } else { "existed" };
            let what = format!("the {event} says otherwise, but its key {was} before");
            return Err(judge.refute("watch-is-create", &what));
        }
    }
    Ok(())
}
