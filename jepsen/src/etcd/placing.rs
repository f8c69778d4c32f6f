//! Placing operations by the revision in their responses.
//!
//! One pass over the records finds the revision of every operation and whether it made or observed it. A
//! counting sort then puts them in order.

use super::order::EtcdOperation;
use super::outcome::{Error, Reply};
use super::records::Records;
use super::request::Request;
use super::watch;
use crate::{Verdict, Violation};

/// An operation with its place in the order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    /// The revision that it made or observed.
    pub revision: i64,
    /// Its index in the history.
    pub operation: u32,
    /// What it has to do with that revision. Makers sort before observers.
    pub role: Role,
}

/// What an operation has to do with the revision in its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// It made the revision.
    Maker,
    /// It observed the state at the revision.
    Observer,
    /// It observed the state at the revision on one member, which may have been behind.
    Stale,
}

/// A history in the order of its revisions.
#[derive(Default)]
pub(super) struct Order {
    /// By revision, makers first.
    pub placed: Vec<Placed>,
    /// Revisions that were shown by something without a place, and when.
    pub shown: Vec<(i64, u64)>,
    /// How many revisions have a maker.
    pub makers: u64,
    /// The greatest revision that anybody saw.
    pub last: i64,
    /// Whether anything names a lease.
    pub has_leases: bool,
    /// Whether anything names an old revision.
    pub has_past: bool,
    /// Whether any read may be stale.
    pub has_stale: bool,
    /// Whether a put missed its key.
    pub has_missing_keys: bool,
}

impl Order {
    /// Places every operation whose response carries a meaningful revision.
    pub fn new(records: &Records<'_>, initial: i64) -> Result<Order, Verdict> {
        let mut order = Order { placed: Vec::with_capacity(records.len()), ..Order::default() };
        for (index, record) in records.all().iter().enumerate() {
            if let Some(operation) = records.rare_of(record) {
                order.note(&operation.input);
                order.place_rare(records, index, operation, initial)?;
            } else {
                let role = if record.changes() { Role::Maker } else { Role::Observer };
                order.place(records, index, i64::from(record.revision), role, initial)?;
            }
        }
        order.sort(records.len(), initial);
        order.check_makers(records)?;
        for response in records.watches().iter().flat_map(|stream| &stream.responses) {
            order.shown.push((response.reach(), response.at));
        }
        order.shown.sort_unstable();
        order.last = order.placed.last().map_or(0, |last| last.revision);
        order.last = records.watches().iter().map(watch::last_revision).fold(order.last, i64::max);
        Ok(order)
    }

    /// Notes which rules there is work for.
    fn note(&mut self, request: &Request) {
        match request {
            Request::Put(put) => self.has_leases |= put.lease != 0,
            Request::Range(range) => self.has_past |= range.revision > 0,
            Request::Compact { .. } => self.has_past = true,
            Request::Delete(_) => {}
            Request::Txn(txn) => {
                let named = txn.success.iter().chain(&txn.failure).any(names_lease);
                self.has_leases |= named;
            }
            _ => self.has_leases = true,
        }
    }

    fn place_rare(
        &mut self,
        records: &Records<'_>,
        index: usize,
        operation: &EtcdOperation,
        initial: i64,
    ) -> Result<(), Verdict> {
        let Some(response) = operation.output() else { return Ok(()) };
        let revision = response.revision;
        let reply = match &response.result {
            Ok(reply) => reply,
            Err(error) => {
                self.has_missing_keys |= *error == Error::KeyNotFound;
                if revision > 0 && shows_revision(&operation.input) {
                    self.shown.push((revision, operation.return_time()));
                }
                return Ok(());
            }
        };
        let role = role(&operation.input, reply).map_err(|why| malformed(index, operation, why))?;
        let Some(role) = role else { return Ok(()) };
        if revision == 0 {
            let why = format!("operation {index} ({operation}) has no revision in its response");
            return Err(Verdict::Unknown(why));
        }
        self.place(records, index, revision, role, initial)
    }

    fn place(
        &mut self,
        records: &Records<'_>,
        index: usize,
        revision: i64,
        role: Role,
        initial: i64,
    ) -> Result<(), Verdict> {
        let least = initial + i64::from(role == Role::Maker);
        if revision < least {
            let operation = records.operation(index);
            let sentence = format!("{operation}: the first possible revision is {least} [#{index}]");
            return Err(Violation { rule: "one-writer", sentence, operations: vec![index] }.into());
        }
        self.has_stale |= role == Role::Stale;
        self.makers += u64::from(role == Role::Maker);
        self.placed.push(Placed { revision, operation: index as u32, role });
        Ok(())
    }

    /// Sorts by revision, role and operation. Revisions are dense in every history that can be explained, so
    /// counting does it; others are sorted as anything else.
    fn sort(&mut self, operations: usize, initial: i64) {
        let last = self.placed.iter().map(|placed| placed.revision).max().unwrap_or(initial);
        let buckets = last.saturating_sub(initial).saturating_add(1).saturating_mul(ROLES as i64);
        let Some(buckets) = usize::try_from(buckets).ok().filter(|count| *count <= operations * 8 + 64)
        else {
            self.placed.sort_unstable_by_key(|placed| (placed.revision, placed.role, placed.operation));
            return;
        };
        let bucket = |placed: &Placed| (placed.revision - initial) as usize * ROLES + placed.role as usize;
        let mut ends = vec![0_u32; buckets];
        self.placed.iter().for_each(|placed| ends[bucket(placed)] += 1);
        let mut end = 0;
        for count in &mut ends {
            end += std::mem::replace(count, end);
        }
        let nobody = Placed { revision: 0, operation: 0, role: Role::Stale };
        let mut sorted = vec![nobody; self.placed.len()];
        for placed in &self.placed {
            let next = &mut ends[bucket(placed)];
            sorted[*next as usize] = *placed;
            *next += 1;
        }
        self.placed = sorted;
    }

    fn check_makers(&self, records: &Records<'_>) -> Result<(), Violation> {
        let twice = |pair: &&[Placed]| pair[0].revision == pair[1].revision && pair[1].role == Role::Maker;
        let Some(pair) = self.placed.windows(2).find(twice) else { return Ok(()) };
        let [first, second] = [pair[0], pair[1]].map(|placed| placed.operation as usize);
        let sentence = format!(
            "two operations made revision {}: {} [#{first}], and {} [#{second}]",
            pair[0].revision,
            records.operation(first),
            records.operation(second)
        );
        Err(Violation { rule: "one-writer", sentence, operations: vec![first, second] })
    }

    /// The maker of a revision, if an answered operation claims it.
    pub fn maker(&self, revision: i64) -> Option<&Placed> {
        let at = self.placed.partition_point(|placed| placed.revision < revision);
        self.placed.get(at).filter(|placed| placed.revision == revision && placed.role == Role::Maker)
    }
}

/// Whether a request of a txn names a lease.
fn names_lease(request: &Request) -> bool {
    match request {
        Request::Put(put) => put.lease != 0,
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).any(names_lease),
        _ => false,
    }
}

/// Whether the revision in the response is one that the whole cluster had reached by then.
pub(super) fn shows_revision(request: &Request) -> bool {
    !matches!(
        request,
        Request::Compact { .. } | Request::LeaseKeepAlive { .. } | Request::LeaseTimeToLive { .. }
    )
}

fn malformed(index: usize, operation: &EtcdOperation, why: &str) -> Verdict {
    let sentence = format!("{operation}: {why} [#{index}]");
    Verdict::Invalid(Violation { rule: "reply-shape", sentence, operations: vec![index] })
}

/// The role of an answered operation; none if its revision says nothing about the order.
pub(super) fn role(request: &Request, reply: &Reply) -> Result<Option<Role>, &'static str> {
    // Keep-alives and times to live are answered from the leader's clock; a compaction's revision may be that
    // of any moment of its work.
    if !shows_revision(request) {
        return Ok(None);
    }
    if writes(request, reply)? {
        return Ok(Some(Role::Maker));
    }
    let serializable = match request {
        Request::Range(range) => range.serializable,
        Request::Txn(txn) => {
            let mut ranges = txn.success.iter().chain(&txn.failure).peekable();
            ranges.peek().is_some()
                && ranges.all(|request| matches!(request, Request::Range(range) if range.serializable))
        }
        _ => false,
    };
    Ok(Some(if serializable { Role::Stale } else { Role::Observer }))
}

/// Whether an answered request changed a key, as far as the reply tells: whether a revoked lease had keys is
/// only known in the replay.
fn writes(request: &Request, reply: &Reply) -> Result<bool, &'static str> {
    match (request, reply) {
        (Request::Put(_), Reply::Put { .. }) => Ok(true),
        (Request::Delete(_), Reply::Delete { deleted, .. }) => Ok(*deleted > 0),
        (Request::Txn(txn), Reply::Txn { succeeded, replies }) => {
            let requests = if *succeeded { &txn.success } else { &txn.failure };
            if requests.len() != replies.len() {
                return Err("the reply has not one part per request of the branch");
            }
            let mut any = false;
            for (request, reply) in requests.iter().zip(replies) {
                any |= writes(request, reply)?;
            }
            Ok(any)
        }
        (Request::Range(_), Reply::Range { .. })
        | (Request::LeaseRevoke { .. } | Request::Compact { .. }, Reply::Done)
        | (
            Request::LeaseGrant { .. } | Request::LeaseKeepAlive { .. } | Request::LeaseTimeToLive { .. },
            Reply::Lease { .. },
        ) => Ok(false),
        _ => Err("the reply is of another kind than the request"),
    }
}

/// How many roles there are.
const ROLES: usize = 3;
