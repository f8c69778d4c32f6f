//! What is plain: the common operations, taken apart and put together again.

use super::{Atom, CHANGES, Kind, NO_ATOM, NOBODY, OR_GET, Record, Records, SHOWS, Seen};
use crate::etcd::order::EtcdOperation;
use crate::etcd::outcome::{KeyValue, Reply, Response};
use crate::etcd::request::{Bytes, Compare, Delete, Keys, Put, Range, Relation, Request, Target, Txn};
use crate::history::{Operation, Returned};

/// A plain operation, on borrowed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plain<'t> {
    pub process: u64,
    pub call: u64,
    pub end: u64,
    /// Of the response.
    pub revision: i64,
    pub member: Option<u64>,
    pub key: &'t [u8],
    pub does: Does<'t>,
}

/// What it does with its key, and what it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does<'t> {
    /// It reads it.
    Get(Option<Shown<'t>>),
    /// It writes a value.
    Put(&'t [u8]),
    /// It deletes it; whether it was there.
    Delete(bool),
    /// It writes a value if the mod revision is as expected, and otherwise may read the key.
    Guarded { expected: i64, value: &'t [u8], or_get: bool, guard: Guard<'t> },
}

/// Whether a guard held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard<'t> {
    Held,
    /// What the get for this case showed, if there is one.
    Failed(Option<Shown<'t>>),
}

/// A version without a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown<'t> {
    pub value: &'t [u8],
    pub created: i64,
    pub modified: i64,
    pub version: i64,
}

/// Takes an operation apart, if it is plain.
pub(super) fn of(operation: &EtcdOperation) -> Option<Plain<'_>> {
    let returned = operation.returned.as_ref()?;
    let Response { revision, member, result: Ok(reply) } = &returned.output else { return None };
    let (key, does) = match (&operation.input, reply) {
        (Request::Range(range), reply) => (get(range)?, Does::Get(shown(&range.keys.key, reply)?)),
        (Request::Put(put), Reply::Put { previous: None }) => {
            (plain_put(put)?, Does::Put(put.value.as_slice()))
        }
        (Request::Delete(delete), Reply::Delete { deleted: deleted @ 0..=1, previous })
            if !delete.prev_kv && delete.keys.is_single() && previous.is_empty() =>
        {
            (&delete.keys.key, Does::Delete(*deleted == 1))
        }
        (Request::Txn(txn), Reply::Txn { succeeded, replies }) => guarded(txn, *succeeded, replies)?,
        _ => return None,
    };
    let (revision, member) = (*revision, *member);
    let key = key.as_slice();
    Some(Plain {
        process: operation.process,
        call: operation.call,
        end: returned.at,
        revision,
        member,
        key,
        does,
    })
}

fn get(range: &Range) -> Option<&Bytes> {
    let Range {
        keys,
        limit: 0,
        revision: 0,
        sort_order: crate::etcd::SortOrder::None,
        sort_target: crate::etcd::SortTarget::Key,
        serializable: false,
        keys_only: false,
        count_only: false,
        min_mod_revision: 0,
        max_mod_revision: 0,
        min_create_revision: 0,
        max_create_revision: 0,
    } = range
    else {
        return None;
    };
    keys.is_single().then_some(&keys.key)
}

/// What the answer to a get of a key shows, if it is an answer of that kind.
fn shown<'t>(key: &Bytes, reply: &'t Reply) -> Option<Option<Shown<'t>>> {
    let Reply::Range { kvs, more: false, count } = reply else { return None };
    match kvs.as_slice() {
        [] if *count == 0 => Some(None),
        [kv] if *count == 1 && kv.lease == 0 && kv.key == *key => Some(Some(Shown {
            value: kv.value.as_slice(),
            created: kv.create_revision,
            modified: kv.mod_revision,
            version: kv.version,
        })),
        _ => None,
    }
}

fn plain_put(put: &Put) -> Option<&Bytes> {
    let Put { key, value: _, lease: 0, prev_kv: false, ignore_value: false, ignore_lease: false } = put
    else {
        return None;
    };
    Some(key)
}

fn guarded<'t>(txn: &'t Txn, succeeded: bool, replies: &'t [Reply]) -> Option<(&'t Bytes, Does<'t>)> {
    let ([compare], [Request::Put(put)]) = (txn.compares.as_slice(), txn.success.as_slice()) else {
        return None;
    };
    let key = plain_put(put)?;
    let Compare { keys, result: Relation::Equal, target: Target::Mod(expected) } = compare else {
        return None;
    };
    let or_get = match txn.failure.as_slice() {
        [] => false,
        [Request::Range(range)] if get(range)? == key => true,
        _ => return None,
    };
    if !keys.is_single() || keys.key != *key {
        return None;
    }
    let guard = match (succeeded, replies) {
        (true, [Reply::Put { previous: None }]) => Guard::Held,
        (false, []) if !or_get => Guard::Failed(None),
        (false, [reply]) if or_get => Guard::Failed(shown(key, reply)?),
        _ => return None,
    };
    Some((key, Does::Guarded { expected: *expected, value: put.value.as_slice(), or_get, guard }))
}

impl Records<'_> {
    /// Adds a plain operation. False, and nothing done, if one of its numbers is too great for a record.
    pub(crate) fn push_plain(&mut self, plain: &Plain<'_>) -> bool {
        let small = |number: i64| u32::try_from(number).ok();
        let Some(revision) = small(plain.revision).filter(|revision| *revision > 0) else { return false };
        let (Ok(process), Some(member)) = (u32::try_from(plain.process), self.member_number(plain.member))
        else {
            return false;
        };
        let (kind, shown, written, flags, expected) = match plain.does {
            Does::Get(shown) => (Kind::Get, shown, None, 0, 0),
            Does::Put(value) => (Kind::Put, None, Some(value), CHANGES, 0),
            Does::Delete(deleted) => (Kind::Delete, None, None, if deleted { CHANGES } else { 0 }, 0),
            Does::Guarded { expected, value, or_get, guard } => {
                let (shown, held) = match guard {
                    Guard::Held => (None, CHANGES),
                    Guard::Failed(shown) => (shown, 0),
                };
                (Kind::Guarded, shown, Some(value), held | if or_get { OR_GET } else { 0 }, expected)
            }
        };
        let Some(expected) = small(expected) else { return false };
        let mut numbers = [0; 3];
        if let Some(shown) = shown {
            let (Some(modified), Some(created), Some(version)) =
                (small(shown.modified), small(shown.created), small(shown.version))
            else {
                return false;
            };
            numbers = [modified, created, version];
        }
        let detail = self.seen.len() as u32;
        if let Some(shown) = shown {
            let [modified, created, version] = numbers;
            self.seen.push(Seen { value: self.atoms.intern(shown.value), modified, created, version });
        }
        self.records.push(Record {
            call: plain.call,
            end: plain.end,
            revision,
            process,
            key: self.atoms.intern(plain.key),
            value: written.map_or(NO_ATOM, |value| self.atoms.intern(value)),
            expected,
            detail,
            member,
            kind,
            flags: flags | if shown.is_some() { SHOWS } else { 0 },
        });
        true
    }

    /// The number of a member; none if there are too many of them.
    fn member_number(&mut self, member: Option<u64>) -> Option<u16> {
        let Some(member) = member else { return Some(NOBODY) };
        if let Some(number) = self.members.iter().position(|known| *known == member) {
            return Some(number as u16);
        }
        if self.members.len() >= MEMBERS_MAX {
            return None;
        }
        self.members.push(member);
        Some(self.members.len() as u16 - 1)
    }

    /// A plain operation in the open.
    pub(super) fn opened(&self, record: &Record) -> EtcdOperation {
        let key = || self.bytes_of(record.key);
        let get = || Request::Range(Range::key(key()));
        let put = || Request::Put(Put::new(key(), self.bytes_of(record.value)));
        let shown = || {
            let kvs: Vec<KeyValue> = self.shown(record).into_iter().collect();
            let count = kvs.len() as i64;
            Reply::Range { kvs, more: false, count }
        };
        let (input, reply) = match record.kind {
            Kind::Get => (get(), shown()),
            Kind::Put => (put(), Reply::Put { previous: None }),
            Kind::Delete => (
                Request::Delete(Delete { keys: Keys::one(key()), prev_kv: false }),
                Reply::Delete { deleted: i64::from(record.changes()), previous: Vec::new() },
            ),
            Kind::Guarded => {
                let or_get = record.flags & OR_GET != 0;
                let target = Target::Mod(i64::from(record.expected));
                let compare = Compare { keys: Keys::one(key()), result: Relation::Equal, target };
                let failure = if or_get { vec![get()] } else { Vec::new() };
                let replies = match record.changes() {
                    true => vec![Reply::Put { previous: None }],
                    false if or_get => vec![shown()],
                    false => Vec::new(),
                };
                let txn = Txn { compares: vec![compare], success: vec![put()], failure };
                (Request::Txn(txn), Reply::Txn { succeeded: record.changes(), replies })
            }
            Kind::Rare => unreachable!("only plain operations are opened"),
        };
        let member = self.members.get(record.member as usize).copied();
        let output = Response { revision: i64::from(record.revision), member, result: Ok(reply) };
        Operation {
            process: u64::from(record.process),
            call: record.call,
            input,
            returned: Some(Returned { at: record.end, output }),
        }
    }

    /// The version that a plain operation showed, in the open.
    pub(in crate::etcd) fn shown(&self, record: &Record) -> Option<KeyValue> {
        self.seen(record).map(|seen| KeyValue {
            key: self.bytes_of(record.key),
            value: self.bytes_of(seen.value),
            create_revision: i64::from(seen.created),
            mod_revision: i64::from(seen.modified),
            version: i64::from(seen.version),
            lease: 0,
        })
    }

    fn bytes_of(&self, atom: Atom) -> Bytes {
        Bytes::from(self.atoms.get(atom))
    }
}

/// More members than this are not told apart in records.
const MEMBERS_MAX: usize = 64;
