//! A checksum over the versions that make up a state, to compare members by: etcd's `HashKV`.
//!
//! It covers every version that can be read or watched at the revision: those since the compacted revision, and what
//! was visible at it. Key by key, each key's versions from the oldest on; what the sweep has not come to yet does not
//! count, so that members agree however far theirs has come. Of a store of gigabytes this takes seconds, so it is asked
//! for in parts, each of which does about as much as the asker says and names the version to go on behind.
//!
//! The value is not etcd's, which has the versions in the order of sub-revisions that no snapshot here remembers.

use super::{Mvcc, Versions};
use crate::error::Error;
use crate::hash::Checksum;
use crate::key::{Key, KeyRange, RangeEnd};
use crate::key_value::KeyValue;
use crate::query::{HashPoint, HashQuery};
use crate::response::HashResponse;
use crate::revision::Revision;

/// What a version costs beside its bytes.
const BYTES_PER_VERSION: u64 = 64;

impl Mvcc {
    /// Goes on with a checksum.
    pub(crate) fn hash(&self, query: &HashQuery) -> Result<HashResponse, Error> {
        self.check_revision(Some(query.revision))?;
        let revision = if query.revision.0 <= 0 { self.revision } else { query.revision };
        let behind = query.behind.as_ref();
        let start = behind.map_or_else(Key::default, |point| point.key.clone());
        let range = KeyRange { start, end: RangeEnd::Unbounded };
        let mut checksum = behind.map_or(Checksum::EMPTY, |point| Checksum(point.so_far));
        let mut left = query.bytes_max;
        for (present, past) in self.walk(&range) {
            let present = present.map(AsRef::as_ref);
            let key = present.or_else(|| past?.front().map(AsRef::as_ref)).map(|kv| &kv.key);
            let done =
                behind.filter(|point| Some(&point.key) == key).map_or(Revision(0), |point| point.revision);
            for version in self.covered(present, past, (done, revision)) {
                checksum.version(version);
                left =
                    left.saturating_sub(BYTES_PER_VERSION + (version.key.len() + version.value.len()) as u64);
                if left == 0 {
                    let (key, done) = (version.key.clone(), version.mod_revision);
                    let next = HashPoint { key, revision: done, so_far: checksum.0 };
                    return Ok(self.answer(revision, checksum.0, Some(next)));
                }
            }
        }
        Ok(self.answer(revision, checksum.value(), None))
    }

    fn answer(&self, revision: Revision, hash: u64, next: Option<HashPoint>) -> HashResponse {
        HashResponse { revision, compact_revision: self.compact_revision, hash, next }
    }

    /// A key's versions that can be read or watched at a revision, oldest first, those up to `done` left out.
    fn covered<'a>(
        &self,
        present: Option<&'a KeyValue>,
        past: Option<&'a Versions>,
        (done, revision): (Revision, Revision),
    ) -> impl Iterator<Item = &'a KeyValue> {
        let up_to =
            |bound: Revision| past.map_or(0, |past| past.partition_point(|kv| kv.mod_revision <= bound));
        // Of what is not newer than the compacted revision, only the last was visible there: if it is the present one,
        // then none of the past.
        let hidden = match present {
            Some(present) if present.mod_revision <= self.compact_revision => up_to(self.compact_revision),
            _ => up_to(self.compact_revision).saturating_sub(1),
        };
        let first = hidden.max(up_to(done));
        let compact_revision = self.compact_revision;
        let old =
            past.into_iter().flat_map(move |past| past.range(first.min(past.len())..)).map(AsRef::as_ref);
        old.chain(present.filter(|kv| kv.mod_revision > done))
            .take_while(move |kv| kv.mod_revision <= revision)
            .filter(move |kv| !kv.is_tombstone() || kv.mod_revision > compact_revision)
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec::Vec;

    use super::*;
    use crate::{Command, DeleteRange, LeaseId, Put, Query, Response, Store};

    fn put(store: &mut Store, key: &str, value: &str) {
        let (key, value) = (key.into(), Some(value.into()));
        let put = Put { key, value, lease: Some(LeaseId::NONE), previous: false };
        store.apply(&Command::Put(put)).result.expect("it can be put");
    }

    /// Some keys, some of them changed and deleted many times.
    fn filled(changed: Option<i32>) -> Store {
        let mut store = Store::new();
        for number in 0..300 {
            let value = if changed == Some(number) { "other" } else { "value" };
            put(&mut store, &format!("key{:02}", number * number % 37), &format!("{value}{number}"));
            if number % 11 == 10 {
                let range = KeyRange::single(format!("key{:02}", number % 37).as_bytes());
                let delete = DeleteRange { range, previous: false };
                store.apply(&Command::DeleteRange(delete)).result.expect("it can be deleted");
            }
        }
        store
    }

    fn hash(store: &Store, revision: i64, bytes_max: u64) -> (u64, usize) {
        let (mut behind, mut parts) = (None, 0);
        loop {
            let query = HashQuery { revision: Revision(revision), behind, bytes_max };
            let Ok(Response::Hash(answer)) = store.query(&Query::Hash(query)) else {
                panic!("it is a revision")
            };
            parts += 1;
            if answer.next.is_none() {
                return (answer.hash, parts);
            }
            behind = answer.next;
        }
    }

    #[test]
    fn it_is_the_same_in_one_part_and_in_many() {
        let store = filled(None);
        for revision in [0, 2, 100, 250] {
            let (whole, one) = hash(&store, revision, u64::MAX);
            let (parted, many) = hash(&store, revision, 1);
            assert_eq!((whole, one), (parted, 1), "at {revision}");
            assert!(many > 1);
        }
    }

    #[test]
    fn it_tells_every_changed_value_at_the_revisions_that_show_it() {
        let (one, other) = (filled(None), filled(Some(150)));
        let changed =
            (2..300).find(|revision| hash(&one, *revision, u64::MAX) != hash(&other, *revision, u64::MAX));
        let changed = changed.expect("it is seen");
        assert!((150..180).contains(&changed), "{changed}");
        assert_ne!(hash(&one, 0, u64::MAX), hash(&other, 0, u64::MAX), "history counts as well");
    }

    #[test]
    fn a_snapshot_and_the_sweep_do_not_change_it() {
        let (mut swept, mut late) = (filled(None), filled(None));
        for store in [&mut swept, &mut late] {
            store.apply(&Command::Compact(Revision(200))).result.expect("it was not compacted");
        }
        while swept.maintain() {}
        let mut cursor = swept.open_snapshot();
        let mut parts = Vec::new();
        while let Some(part) = swept.next_part(&mut cursor, 1_000) {
            parts.push(part);
        }
        swept.close_snapshot(cursor);
        let imported = Store::import(parts).expect("it was exported");
        for revision in [200, 201, 260, 0] {
            let expected = hash(&swept, revision, u64::MAX);
            assert_eq!(hash(&late, revision, u64::MAX), expected, "before the sweep, at {revision}");
            assert_eq!(hash(&imported, revision, u64::MAX), expected, "imported, at {revision}");
            assert_ne!(expected.0, hash(&filled(None), revision, u64::MAX).0, "history is forgotten");
        }
        let ask = |revision| {
            let query = HashQuery { revision: Revision(revision), behind: None, bytes_max: 1 };
            late.query(&Query::Hash(query)).err()
        };
        assert_eq!((ask(199), ask(9_999)), (Some(Error::Compacted), Some(Error::FutureRevision)));
    }
}
