//! Doing requests: first all compares, then the reasons to refuse, then the effects; and every answer is
//! compared as it is found.

use super::{KeyId, Timeline, Version};
use crate::etcd::outcome::{KeyValue, Reply};
use crate::etcd::request::{Compare, Delete, Put, Range, Request, SortOrder, SortTarget, Txn};
use crate::etcd::store;

impl Timeline<'_> {
    pub(super) fn begin(&mut self, request: &Request) {
        self.begun = self.journal.len();
        self.path.clear();
        self.used = 0;
        if let Request::Txn(txn) = request {
            self.compare(txn);
        }
    }

    /// Etcd decides all compares, those of nested txns included, before it does anything.
    fn compare(&mut self, txn: &Txn) {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        self.path.push(succeeded);
        for request in store::branch(txn, succeeded) {
            if let Request::Txn(txn) = request {
                self.compare(txn);
            }
        }
    }

    /// Whether a condition holds now.
    pub(in crate::etcd) fn holds(&self, compare: &Compare) -> bool {
        let relates = |version: Option<&Version>| {
            store::relates(version.map(|version| self.compared(version)), compare)
        };
        if compare.keys.is_single() {
            return relates(self.current(compare.keys.key.as_slice()));
        }
        let (mut any, mut all) = (false, true);
        self.for_each(&compare.keys, i64::MAX, |_, version| {
            any = true;
            all &= relates(Some(version));
        });
        if any { all } else { relates(None) }
    }

    fn next_branch(&mut self) -> bool {
        self.used += 1;
        self.path[self.used - 1]
    }

    /// Whether there is no reason to refuse the request. Leaves the path as it was.
    pub(super) fn is_permitted(&mut self, request: &Request) -> bool {
        let permitted = self.may_do(request);
        self.used = 0;
        permitted
    }

    fn may_do(&mut self, request: &Request) -> bool {
        match request {
            Request::Range(range) => range.revision <= self.revision,
            Request::Put(put) => {
                !(put.ignore_value || put.ignore_lease) || self.current(put.key.as_slice()).is_some()
            }
            Request::Txn(txn) => {
                let succeeded = self.next_branch();
                store::branch(txn, succeeded).iter().all(|request| self.may_do(request))
            }
            _ => true,
        }
    }

    /// Does it. False if `reply` is given and is not the answer; then some of it may not be done.
    pub(super) fn perform(&mut self, request: &Request, reply: Option<&Reply>) -> bool {
        match (request, reply) {
            (Request::Range(_), None) => true,
            (Request::Range(range), Some(reply)) => self.is_range(range, reply),
            (Request::Put(put), reply) => self.put(put, reply),
            (Request::Delete(delete), reply) => self.delete(delete, reply),
            (Request::Txn(txn), None) => {
                let succeeded = self.next_branch();
                store::branch(txn, succeeded).iter().all(|request| self.perform(request, None))
            }
            (Request::Txn(txn), Some(reply)) => {
                let Reply::Txn { succeeded: seen, replies } = reply else { return false };
                let succeeded = self.next_branch();
                let requests = store::branch(txn, succeeded);
                succeeded == *seen
                    && requests.len() == replies.len()
                    && requests.iter().zip(replies).all(|(request, reply)| self.perform(request, Some(reply)))
            }
            (Request::LeaseRevoke { id }, reply) => {
                self.delete_attached(*id);
                reply.is_none_or(|reply| *reply == Reply::Done)
            }
            (Request::LeaseGrant { id, .. }, Some(Reply::Lease { id: seen, ttl })) => {
                // A server that picks the id may pick any.
                (id == seen || *id == 0) && *ttl > 0
            }
            _ => reply.is_none(),
        }
    }

    fn put(&mut self, put: &Put, reply: Option<&Reply>) -> bool {
        let id = self.id(put.key.as_slice()).expect("the keys of all puts are numbered");
        let before = self.present(id);
        if let Some(reply) = reply {
            let Reply::Put { previous } = reply else { return false };
            let right = match (before.filter(|_| put.prev_kv), previous) {
                (None, None) => true,
                (Some(before), Some(seen)) => self.is_shown(before, seen, false) && seen.key == put.key,
                _ => false,
            };
            if !right {
                return false;
            }
        }
        let revision = self.revision + 1;
        let version = Version {
            revision,
            value: match before {
                Some(before) if put.ignore_value => before.value,
                _ => self.atom(put.value.as_slice()).expect("what may be written has a number"),
            },
            create_revision: before.map_or(revision, |before| before.create_revision),
            version: before.map_or(0, |before| before.version) + 1,
            lease: match before {
                Some(before) if put.ignore_lease => before.lease,
                _ => put.lease,
            },
        };
        self.push(id, version);
        true
    }

    fn delete(&mut self, delete: &Delete, reply: Option<&Reply>) -> bool {
        let mut shown = match reply {
            Some(Reply::Delete { previous, .. }) => previous.iter(),
            Some(_) => return false,
            None => [].iter(),
        };
        let mut span = self.span(&delete.keys);
        let mut count = 0;
        let mut right = true;
        while let Some(id) = self.first_live(&span) {
            span.start = id + 1;
            count += 1;
            if delete.prev_kv && reply.is_some() {
                let seen = shown.next();
                right &= seen.is_some_and(|seen| self.is_version(id, i64::MAX, seen, false));
            }
            self.push(id, Version::deletion(self.revision + 1));
        }
        let Some(Reply::Delete { deleted, .. }) = reply else { return true };
        right && *deleted == count && shown.next().is_none()
    }

    pub(super) fn delete_attached(&mut self, lease: i64) {
        for id in self.attached.get(&lease).cloned().unwrap_or_default() {
            self.push(id, Version::deletion(self.revision + 1));
        }
    }

    fn is_version(&self, id: KeyId, revision: i64, seen: &KeyValue, keys_only: bool) -> bool {
        seen.key == self.keys[id as usize]
            && self.at(id, revision).is_some_and(|version| self.is_shown(version, seen, keys_only))
    }

    /// Whether `reply` is what a range answers now.
    fn is_range(&self, range: &Range, reply: &Reply) -> bool {
        let Reply::Range { kvs: seen, more, count: seen_count } = reply else { return false };
        let revision = if range.revision > 0 { range.revision } else { i64::MAX };
        let plain = range.sort_target == SortTarget::Key && range.sort_order != SortOrder::Descend;
        if !plain || range.has_filter() {
            let mut kvs = Vec::new();
            self.for_each(&range.keys, revision, |id, version| kvs.push(self.show(id, version)));
            return store::arrange(kvs.iter(), range).permits(reply);
        }
        let limit = usize::try_from(range.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let limit = if range.count_only { 0 } else { limit };
        let (mut count, mut right) = (0, true);
        self.for_each(&range.keys, revision, |id, version| {
            if count < limit {
                right &= seen.get(count).is_some_and(|seen| {
                    self.is_shown(version, seen, range.keys_only) && seen.key == self.keys[id as usize]
                });
            }
            count += 1;
        });
        right
            && seen.len() == limit.min(count)
            && *more == (!range.count_only && count > limit)
            && *seen_count == count as i64
    }
}
