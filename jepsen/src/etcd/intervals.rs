//! What can be said of operations by their times alone.
//!
//! Compactions and refusals carry no revision that places them, so their rules compare intervals: an operation
//! surely happened before another only if it returned before the other was called. That never accuses wrongly.
//! Leases are judged in the same way: see [`leases`](super::leases).

use super::order::{EtcdOperation, Options};
use super::outcome::{Error, Response};
use super::realtime::{NOBODY, Revisions};
use super::records::Rare;
use super::request::Request;
use super::timeline::Timeline;
use crate::Violation;

/// Everything that an operation says about compaction.
enum Compaction {
    /// It needs somebody else to have compacted to at least this revision.
    Needs(i64),
    /// It needs nobody to have compacted to this revision or beyond.
    Forbids(i64),
}

/// Compactions only go up, and reads agree with them.
pub(super) fn check_compactions(
    rare: &[Rare<'_>],
    revisions: &Revisions,
    options: &Options,
) -> Result<(), Violation> {
    let mut said: Vec<(usize, Compaction)> = Vec::new();
    // Compactions that may have been done, and proofs (by whatever means) that one was: time and revision.
    let mut possible: Vec<(usize, i64)> = Vec::new();
    let mut proven: Vec<(u64, i64, usize)> = Vec::new();
    for (index, Rare { operation, .. }) in rare.iter().enumerate() {
        let Some(response) = operation.output() else {
            if let Request::Compact { revision } = operation.input {
                possible.push((index, revision));
            }
            continue;
        };
        check_future(&rare[index], revisions, response)?;
        let end = operation.return_time();
        match (&operation.input, &response.result) {
            (Request::Compact { revision }, Ok(_)) => {
                possible.push((index, *revision));
                said.push((index, Compaction::Forbids(*revision)));
                proven.push((end, *revision, index));
            }
            (Request::Compact { revision }, Err(Error::Compacted)) => {
                said.push((index, Compaction::Needs(*revision)));
                proven.push((end, *revision, index));
            }
            // A member that lags and may answer from its own state has not heard of the compaction yet.
            (Request::Range(range), Ok(_)) if range.revision > 0 && !range.serializable => {
                said.push((index, Compaction::Forbids(range.revision.saturating_add(1))));
            }
            (Request::Range(range), Err(Error::Compacted)) => {
                said.push((index, Compaction::Needs(range.revision.saturating_add(1))));
                proven.push((end, range.revision.saturating_add(1), index));
            }
            _ => {}
        }
    }
    proven.sort_unstable();
    let mut highest = i64::MIN;
    let floors: Vec<(u64, i64, usize)> = proven
        .into_iter()
        .filter(|(_, revision, _)| {
            let rises = *revision > highest;
            highest = highest.max(*revision);
            rises
        })
        .collect();
    for (index, said) in said {
        match said {
            // It was compacted before the history began.
            Compaction::Needs(revision) if revision <= options.initial.compacted() => {}
            Compaction::Needs(revision) => check_needed(rare, &possible, index, revision)?,
            Compaction::Forbids(revision) => check_forbidden(rare, &floors, index, revision)?,
        }
    }
    Ok(())
}

fn check_needed(
    rare: &[Rare<'_>],
    possible: &[(usize, i64)],
    index: usize,
    needed: i64,
) -> Result<(), Violation> {
    // Revisions below one hold nothing: a compaction of them may always be refused.
    if needed < 1 {
        return Ok(());
    }
    let Rare { index, operation } = &rare[index];
    let found = possible
        .iter()
        .any(|(other, revision)| *revision >= needed && !operation.precedes(&rare[*other].operation));
    if found {
        return Ok(());
    }
    let sentence = format!("{operation} [#{index}], but nobody had asked for such a compaction");
    Err(Violation { rule: "compaction", sentence, operations: vec![*index as usize] })
}

fn check_forbidden(
    rare: &[Rare<'_>],
    floors: &[(u64, i64, usize)],
    index: usize,
    forbidden: i64,
) -> Result<(), Violation> {
    let Rare { index, operation } = &rare[index];
    let before = floors.partition_point(|(end, _, _)| *end < operation.call);
    let Some((_, revision, other)) = floors[..before].last().filter(|floor| floor.1 >= forbidden) else {
        return Ok(());
    };
    let Rare { index: other, operation: earlier } = &rare[*other];
    let sentence = format!(
        "{operation} [#{index}], but history up to revision {revision} had been compacted before: {earlier} [#{other}]"
    );
    Err(Violation { rule: "compaction", sentence, operations: vec![*index as usize, *other as usize] })
}

/// A revision that was shown before the call is not a future one; and one above the header's is.
fn check_future(rare: &Rare<'_>, revisions: &Revisions, response: &Response) -> Result<(), Violation> {
    let (operation, index) = (&rare.operation, rare.index as usize);
    let (asked, stale) = match &operation.input {
        Request::Range(range) => (&range.revision, range.serializable),
        Request::Compact { revision } => (revision, false),
        _ => return Ok(()),
    };
    let (floor, by) = revisions.floor_and_by(index);
    match response.result {
        // To a member that lags and may answer from its own state, the future is what it has not applied yet.
        Err(Error::FutureRevision) if *asked <= floor && !stale => {
            let mut shown = vec![index];
            shown.extend((by != NOBODY).then_some(by as usize));
            let sentence =
                format!("{operation} [#{index}], but revision {floor} had been shown before it was called");
            Err(Violation { rule: "real-time", sentence, operations: shown })
        }
        Ok(_) if response.revision > 0 && *asked > response.revision => {
            let sentence = format!("{operation} [#{index}] succeeded on a revision that did not exist yet");
            Err(Violation { rule: "replay", sentence, operations: vec![index] })
        }
        _ => Ok(()),
    }
}

/// A put that keeps the value or lease of a missing key: the key was missing at some revision that the put
/// may have met.
pub(super) fn check_missing_keys(
    rare: &[Rare<'_>],
    revisions: &Revisions,
    store: &Timeline<'_>,
) -> Result<(), Violation> {
    for Rare { index, operation } in rare {
        let index = *index as usize;
        let (Request::Put(put), Some(Response { result: Err(Error::KeyNotFound), .. })) =
            (&operation.input, operation.output())
        else {
            continue;
        };
        let floor = revisions.floor(index).max(1);
        let missing_at_floor = store.version_at(put.key.as_slice(), floor).is_none();
        let later =
            || store.changes(put.key.as_slice()).any(|(revision, is_put)| revision > floor && !is_put);
        if !missing_at_floor && !later() && !may_be_deleted(rare, operation, put.key.as_slice()) {
            let sentence = format!("{operation} [#{index}], but the key was there from before it was called");
            return Err(Violation { rule: "replay", sentence, operations: vec![index] });
        }
    }
    Ok(())
}

/// Whether an operation of unknown outcome, or a lease's end, may have deleted a key before `reader` ended.
fn may_be_deleted(rare: &[Rare<'_>], reader: &EtcdOperation, key: &[u8]) -> bool {
    let others = rare.iter().map(|rare| &rare.operation);
    others.filter(|other| !reader.precedes(other)).any(|other| match &other.input {
        Request::LeaseGrant { .. } => true,
        Request::Put(_) => false,
        request => {
            let mut touched = false;
            request.footprint(&mut |keys| touched |= keys.contains(key));
            touched && other.returned.is_none() && request.may_write()
        }
    })
}
