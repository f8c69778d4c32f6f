//! PrevKV: the version before, if asked for, is the version before. It may be missing after a compaction only.
//!
//! Source: `validatePrevKV` of the robustness suite; `prev_kv` of `WatchCreateRequest`: "if the previous KV is
//! already compacted, nothing will be returned".

use super::{Judge, Log};
use crate::Violation;
use crate::etcd::KeyValue;

pub(super) fn check(judge: &Judge<'_>, log: &Log) -> Result<(), Violation> {
    let asked = judge.stream.request.prev_kv;
    for event in judge.events() {
        let Some(due) = log.change_of(&event.kv.key, event.revision()) else { continue };
        let right = match &event.previous {
            Some(_) => asked && event.previous == due.previous,
            None => !asked || due.previous.is_none() || log.compacted,
        };
        if !right {
            let (shown, there) = (show(event.previous.as_ref()), show(due.previous.as_ref()));
            let what = format!("the {event} came with {shown} before it, not {there}");
            return Err(judge.refute("watch-previous", &what));
        }
    }
    Ok(())
}

fn show(kv: Option<&KeyValue>) -> String {
    kv.map_or_else(|| "nothing".to_owned(), ToString::to_string)
}
