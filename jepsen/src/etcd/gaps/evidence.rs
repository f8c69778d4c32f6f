//! What responses and events show of a revision that nobody claims.

use std::borrow::Cow;

use crate::etcd::order::seen_versions;
use crate::etcd::outcome::{KeyValue, Reply};
use crate::etcd::records::Atom;
use crate::etcd::request::{Bytes, Request};
use crate::etcd::store::branch;
use crate::etcd::timeline::{KeyId, Timeline};

/// What is seen of an unclaimed revision.
pub(super) enum Sight<'h> {
    /// That it put this version.
    Put(Cow<'h, KeyValue>),
    /// That it put this version, whose value is not shown.
    Bare(&'h KeyValue),
    /// That it put this key.
    PutOf(&'h [u8]),
    /// That it deleted this key.
    Deletion(&'h Bytes),
}

impl Sight<'_> {
    /// The key that is seen.
    pub fn key(&self) -> &[u8] {
        match self {
            Sight::Put(kv) => kv.key.as_slice(),
            Sight::Bare(kv) => kv.key.as_slice(),
            Sight::PutOf(key) => key,
            Sight::Deletion(key) => key.as_slice(),
        }
    }

    /// Whether both say the same.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Sight::Put(left), Sight::Put(right)) => left == right,
            (Sight::Bare(left), Sight::Bare(right)) => left == right,
            (Sight::PutOf(left), Sight::PutOf(right)) => left == right,
            (Sight::Deletion(left), Sight::Deletion(right)) => left == right,
            _ => false,
        }
    }
}

/// The numbers of the key and the value of a version, if both may have been written.
pub(super) fn value_at(store: &Timeline<'_>, kv: &KeyValue) -> Option<(KeyId, Atom)> {
    Some((store.id(kv.key.as_slice())?, store.atom(kv.value.as_slice())?))
}

/// Calls `visit` with every version that the reply to a request shows, and whether with its value.
pub(super) fn shown_versions<'h>(
    request: &Request,
    reply: &'h Reply,
    visit: &mut impl FnMut(&'h KeyValue, bool),
) {
    match (request, reply) {
        (Request::Txn(txn), Reply::Txn { succeeded, replies }) => {
            let requests = branch(txn, *succeeded).iter().zip(replies);
            requests.for_each(|(request, reply)| shown_versions(request, reply, visit));
        }
        (Request::Range(range), reply) => seen_versions(reply, &mut |kv| visit(kv, !range.keys_only)),
        (_, reply) => seen_versions(reply, &mut |kv| visit(kv, true)),
    }
}

/// Whether a request can have caused a sight, in whichever branch.
pub(super) fn could_make(request: &Request, sight: &Sight<'_>) -> bool {
    match (request, sight) {
        (Request::Put(put), Sight::Put(kv)) => {
            put.key == kv.key
                && (put.ignore_value || put.value == kv.value)
                && (put.ignore_lease || put.lease == kv.lease)
        }
        (Request::Put(put), Sight::Bare(kv)) => {
            put.key == kv.key && (put.ignore_lease || put.lease == kv.lease)
        }
        (Request::Put(put), Sight::PutOf(key)) => put.key.as_slice() == *key,
        (Request::Delete(delete), Sight::Deletion(key)) => delete.keys.contains(key.as_slice()),
        (Request::LeaseRevoke { .. }, Sight::Deletion(_)) => true,
        (Request::Txn(txn), _) => {
            txn.success.iter().chain(&txn.failure).any(|request| could_make(request, sight))
        }
        _ => false,
    }
}
