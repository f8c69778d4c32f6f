//! What can be said of operations by their times alone.
//!
//! Leases, compactions and refusals carry no revision that places them, so their rules compare intervals: an
//! operation surely happened before another only if it returned before the other was called. That never
//! accuses wrongly.

use std::collections::HashMap;

use super::order::{EtcdOperation, Options};
use super::outcome::{Error, Reply, Response};
use super::realtime::{NOBODY, Revisions};
use super::request::Request;
use super::timeline::Timeline;
use crate::Violation;

/// What is known of one lease id.
#[derive(Default)]
struct Lease {
    /// Grants, answered or unknown, each with its end if it is known to have been granted.
    grants: Vec<usize>,
    /// Revocations that succeeded or whose outcome is unknown.
    revocations: Vec<usize>,
}

/// Nobody uses a lease that cannot be there, or misses one that must be.
pub(super) fn check_leases(operations: &[EtcdOperation], options: &Options) -> Result<(), Violation> {
    let mut leases: HashMap<i64, Lease> = HashMap::new();
    for (index, operation) in operations.iter().enumerate() {
        match (&operation.input, operation.output().map(|response| &response.result)) {
            (Request::LeaseGrant { .. }, Some(Ok(Reply::Lease { id, .. }))) => {
                leases.entry(*id).or_default().grants.push(index);
            }
            (Request::LeaseGrant { id, .. }, None) => leases.entry(*id).or_default().grants.push(index),
            (Request::LeaseRevoke { id }, None | Some(Ok(_))) => {
                leases.entry(*id).or_default().revocations.push(index);
            }
            _ => {}
        }
    }
    for (index, operation) in operations.iter().enumerate() {
        let Some(response) = operation.output() else { continue };
        LeaseUse { operations, leases: &leases, options, index, operation }.check(response)?;
    }
    Ok(())
}

/// One answered operation and the leases that it names.
struct LeaseUse<'a> {
    operations: &'a [EtcdOperation],
    leases: &'a HashMap<i64, Lease>,
    options: &'a Options,
    index: usize,
    operation: &'a EtcdOperation,
}

impl LeaseUse<'_> {
    fn check(&self, response: &Response) -> Result<(), Violation> {
        match (&self.operation.input, &response.result) {
            (Request::Put(put), Ok(_)) if put.lease != 0 => self.must_be_there(put.lease),
            (Request::Put(put), Err(Error::LeaseNotFound)) => self.may_be_gone(put.lease),
            (request @ Request::Txn(_), Ok(reply)) => self.check_branch(request, reply),
            (Request::LeaseRevoke { id }, Ok(_)) => self.must_be_there(*id),
            (Request::LeaseRevoke { id }, Err(Error::LeaseNotFound)) => self.may_be_gone(*id),
            (
                Request::LeaseKeepAlive { id } | Request::LeaseTimeToLive { id },
                Ok(Reply::Lease { ttl, .. }),
            ) => {
                if *ttl > 0 {
                    self.must_be_there(*id)
                } else {
                    self.may_be_gone(*id)
                }
            }
            (Request::LeaseGrant { id, .. }, Err(Error::LeaseExists)) => self.may_exist(*id),
            _ => Ok(()),
        }
    }

    fn check_branch(&self, request: &Request, reply: &Reply) -> Result<(), Violation> {
        match (request, reply) {
            (Request::Put(put), _) if put.lease != 0 => self.must_be_there(put.lease),
            (Request::Txn(txn), Reply::Txn { succeeded, replies }) => {
                let requests = if *succeeded { &txn.success } else { &txn.failure };
                let mut parts = requests.iter().zip(replies);
                parts.try_for_each(|(request, reply)| self.check_branch(request, reply))
            }
            _ => Ok(()),
        }
    }

    /// The lease was found: somebody may have granted it by then, and nobody had surely ended it.
    fn must_be_there(&self, id: i64) -> Result<(), Violation> {
        if self.options.initial.has_lease(id) {
            return Ok(());
        }
        let lease = self.leases.get(&id);
        let grants = lease.map_or(&[][..], |lease| &lease.grants);
        let granted = |grant: &&usize| !self.operation.precedes(&self.operations[**grant]);
        let Some(last) =
            grants.iter().filter(granted).max_by_key(|grant| self.operations[**grant].return_time())
        else {
            return Err(self.violation(format!("finds lease {id}, which nobody had granted"), None));
        };
        // A revocation that began after every possible grant had ended and itself ended before this began.
        let ended = lease.and_then(|lease| {
            lease.revocations.iter().find(|revocation| {
                let revocation = &self.operations[**revocation];
                self.operations[*last].precedes(revocation) && revocation.precedes(self.operation)
            })
        });
        match ended {
            Some(revocation) if *revocation != self.index => {
                let by = format!("finds lease {id}, which was revoked before");
                Err(self.violation(by, Some(*revocation)))
            }
            _ => Ok(()),
        }
    }

    /// The lease was not found: nobody had surely granted it, or somebody may have ended it.
    fn may_be_gone(&self, id: i64) -> Result<(), Violation> {
        let Some(lease) = self.leases.get(&id) else { return Ok(()) };
        let surely = lease.grants.iter().find(|grant| self.operations[**grant].precedes(self.operation));
        let Some(grant) = surely else { return Ok(()) };
        let revoked = |revocation: &usize| {
            let revocation = &self.operations[*revocation];
            !revocation.precedes(&self.operations[*grant]) && !self.operation.precedes(revocation)
        };
        if lease.revocations.iter().any(revoked) || self.may_have_expired(*grant) {
            return Ok(());
        }
        Err(self.violation(format!("does not find lease {id}, which nobody had ended"), Some(*grant)))
    }

    fn may_have_expired(&self, grant: usize) -> bool {
        let Some(ticks) = self.options.ticks_per_second else { return true };
        let granted = &self.operations[grant];
        let ttl = match granted.output() {
            Some(Response { result: Ok(Reply::Lease { ttl, .. }), .. }) => *ttl,
            _ => 0,
        };
        let life = u64::try_from(ttl).unwrap_or(0).saturating_mul(ticks);
        granted.call.saturating_add(life) <= self.operation.return_time()
    }

    /// The lease was found by a grant that wanted its id.
    fn may_exist(&self, id: i64) -> Result<(), Violation> {
        if self.options.initial.has_lease(id) {
            return Ok(());
        }
        let others = self.leases.get(&id).map_or(&[][..], |lease| &lease.grants);
        if others.iter().any(|grant| !self.operation.precedes(&self.operations[*grant])) {
            return Ok(());
        }
        Err(self.violation(format!("finds lease {id}, which nobody had granted"), None))
    }

    fn violation(&self, what: String, other: Option<usize>) -> Violation {
        let (operation, index) = (self.operation, self.index);
        let mut sentence = format!("{operation} [#{index}] {what}");
        if let Some(other) = other {
            sentence += &format!(": {} [#{other}]", self.operations[other]);
        }
        let operations = std::iter::once(index).chain(other).collect();
        Violation { rule: "lease", sentence, operations }
    }
}

/// Everything that an operation says about compaction.
enum Compaction {
    /// It needs somebody else to have compacted to at least this revision.
    Needs(i64),
    /// It needs nobody to have compacted to this revision or beyond.
    Forbids(i64),
}

/// Compactions only go up, and reads agree with them.
pub(super) fn check_compactions(
    operations: &[EtcdOperation],
    revisions: &Revisions,
    options: &Options,
) -> Result<(), Violation> {
    let mut said: Vec<(usize, Compaction)> = Vec::new();
    // Compactions that may have been done, and proofs (by whatever means) that one was: time and revision.
    let mut possible: Vec<(usize, i64)> = Vec::new();
    let mut proven: Vec<(u64, i64, usize)> = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        let Some(response) = operation.output() else {
            if let Request::Compact { revision } = operation.input {
                possible.push((index, revision));
            }
            continue;
        };
        check_future(operations, revisions, index, response)?;
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
            Compaction::Needs(revision) => check_needed(operations, &possible, index, revision)?,
            Compaction::Forbids(revision) => check_forbidden(operations, &floors, index, revision)?,
        }
    }
    Ok(())
}

fn check_needed(
    operations: &[EtcdOperation],
    possible: &[(usize, i64)],
    index: usize,
    needed: i64,
) -> Result<(), Violation> {
    // Revisions below one hold nothing: a compaction of them may always be refused.
    if needed < 1 {
        return Ok(());
    }
    let operation = &operations[index];
    let found = possible
        .iter()
        .any(|(other, revision)| *revision >= needed && !operation.precedes(&operations[*other]));
    if found {
        return Ok(());
    }
    let sentence = format!("{operation} [#{index}], but nobody had asked for such a compaction");
    Err(Violation { rule: "compaction", sentence, operations: vec![index] })
}

fn check_forbidden(
    operations: &[EtcdOperation],
    floors: &[(u64, i64, usize)],
    index: usize,
    forbidden: i64,
) -> Result<(), Violation> {
    let operation = &operations[index];
    let before = floors.partition_point(|(end, _, _)| *end < operation.call);
    let Some((_, revision, other)) = floors[..before].last().filter(|floor| floor.1 >= forbidden) else {
        return Ok(());
    };
    let earlier = &operations[*other];
    let sentence = format!(
        "{operation} [#{index}], but history up to revision {revision} had been compacted before: {earlier} [#{other}]"
    );
    Err(Violation { rule: "compaction", sentence, operations: vec![index, *other] })
}

/// A revision that was shown before the call is not a future one; and one above the header's is.
fn check_future(
    operations: &[EtcdOperation],
    revisions: &Revisions,
    index: usize,
    response: &Response,
) -> Result<(), Violation> {
    let operation = &operations[index];
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
    operations: &[EtcdOperation],
    revisions: &Revisions,
    store: &Timeline<'_>,
) -> Result<(), Violation> {
    for (index, operation) in operations.iter().enumerate() {
        let (Request::Put(put), Some(Response { result: Err(Error::KeyNotFound), .. })) =
            (&operation.input, operation.output())
        else {
            continue;
        };
        let floor = revisions.floor(index).max(1);
        let missing_at_floor = store.version_at(put.key.as_slice(), floor).is_none();
        let later =
            || store.changes(put.key.as_slice()).any(|(revision, is_put)| revision > floor && !is_put);
        if !missing_at_floor && !later() && !may_be_deleted(operations, operation, put.key.as_slice()) {
            let sentence = format!("{operation} [#{index}], but the key was there from before it was called");
            return Err(Violation { rule: "replay", sentence, operations: vec![index] });
        }
    }
    Ok(())
}

/// Whether an operation of unknown outcome, or a lease's end, may have deleted a key before `reader` ended.
fn may_be_deleted(operations: &[EtcdOperation], reader: &EtcdOperation, key: &[u8]) -> bool {
    operations.iter().filter(|other| !reader.precedes(other)).any(|other| match &other.input {
        Request::LeaseGrant { .. } => true,
        Request::Put(_) => false,
        request => {
            let mut touched = false;
            request.footprint(&mut |keys| touched |= keys.contains(key));
            touched && other.returned.is_none() && request.may_write()
        }
    })
}
