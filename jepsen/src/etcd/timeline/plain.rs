//! Plain operations: the same as in `answer`, for one key and without a request.

use super::{KeyId, Timeline, Version};
use crate::etcd::records::{Kind, Record, Seen};

impl Timeline<'_> {
    /// Does what a plain operation did. False, and nothing done, if its record is not what it would answer now.
    pub fn replay_plain(&mut self, record: &Record, seen: Option<&Seen>) -> bool {
        let id = self.id_of(record.key);
        let before = id.and_then(|id| self.present(id)).copied();
        let revision = self.revision + 1;
        let right = match record.kind {
            Kind::Get => is_seen(before.as_ref(), seen),
            Kind::Put => true,
            Kind::Delete => before.is_some() == record.changes(),
            Kind::Guarded => {
                let modified = before.map_or(0, |before| before.revision);
                let holds = modified == i64::from(record.expected);
                holds == record.changes() && (!record.reads() || is_seen(before.as_ref(), seen))
            }
            Kind::Rare => unreachable!("only plain operations are replayed here"),
        };
        if !right || !record.changes() {
            return right;
        }
        let version = if record.kind == Kind::Delete {
            Version::deletion(revision)
        } else {
            Version {
                revision,
                value: record.value,
                create_revision: before.map_or(revision, |before| before.create_revision),
                version: before.map_or(0, |before| before.version) + 1,
                lease: 0,
            }
        };
        self.begun = self.journal.len();
        self.push(id.expect("what is changed was written"), version);
        self.commit(record.call)
    }
}

impl Timeline<'_> {
    /// The key of a plain operation, if its answer differs because the key is not there, or was put at another revision.
    pub fn differing_revision(&self, record: &Record, seen: Option<&Seen>) -> Option<KeyId> {
        let id = self.id_of(record.key)?;
        let modified = self.present(id).map_or(0, |version| version.revision);
        let shown = seen.map_or(0, |seen| i64::from(seen.modified));
        let differs = match record.kind {
            Kind::Get => modified != shown,
            Kind::Delete => (modified != 0) != record.changes(),
            Kind::Guarded => {
                (modified == i64::from(record.expected)) != record.changes()
                    || (record.reads() && modified != shown)
            }
            Kind::Put | Kind::Rare => false,
        };
        differs.then_some(id)
    }
}

/// Whether this is the version that was shown, if any was.
fn is_seen(version: Option<&Version>, seen: Option<&Seen>) -> bool {
    match (version, seen) {
        (None, None) => true,
        (Some(version), Some(seen)) => {
            version.value == seen.value
                && version.revision == i64::from(seen.modified)
                && version.create_revision == i64::from(seen.created)
                && version.version == i64::from(seen.version)
                && version.lease == 0
        }
        _ => false,
    }
}
