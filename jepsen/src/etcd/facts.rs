//! What happened to a key between two sights of it, whoever did it.
//!
//! A response that shows a key tells its mod revision, its create revision and its version, so two sights of
//! a key tell how many puts lie between them: as many as the version grew, if it was not created anew.
//! Answered operations claim their part of these puts; the rest is what unclaimed revisions did to the key,
//! and often that is nothing. All of this follows from the history alone, never from guesses.

use std::ops::RangeInclusive;

use super::candidates::Written;
use super::outcome::{KeyValue, Reply, Response};
use super::placing::{Order, Placed, Role};
use super::records::{Kind, Record, Records};
use super::request::{Keys, Relation, Request, Target, Txn};
use super::store::branch;
use super::timeline::{KeyId, Timeline};

/// The segments of every key that a candidate may write.
#[derive(Default)]
pub(super) struct Facts {
    /// By key, in order, without overlaps.
    segments: Vec<Vec<Segment>>,
    /// By key: the revisions at which answered operations put it.
    puts: Vec<Vec<i64>>,
    /// By key: the revisions at which a response showed all of it, or that it was not there.
    seen: Vec<Vec<i64>>,
    /// By key: stretches in which nobody wrote it, for at the end of each a guard found the version from before, or
    /// because it was missing and only answered operations put it. They begin behind the first revision and end with the second; by that, ascending.
    untouched: Vec<Vec<(i64, i64)>>,
}

/// Some revisions, and what unclaimed ones among them did to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Before the first of them.
    pub after: i64,
    /// The last of them.
    pub last: i64,
    /// How many of the unclaimed ones put it; `None` is any number.
    pub puts: Option<u32>,
    /// Whether it may have been deleted.
    pub may_delete: bool,
    /// Where it may have been deleted: whether an answered deletion at the last of them found it; otherwise it
    /// was not there at the end.
    pub is_found: bool,
}

impl Segment {
    /// Revisions at which nobody wrote the key.
    pub const QUIET: Segment =
        Segment { after: 0, last: 0, puts: Some(0), may_delete: false, is_found: false };

    /// Whether nobody wrote the key.
    pub fn is_quiet(&self) -> bool {
        self.puts == Some(0) && !self.may_delete
    }
}

/// What an answer tells of a key.
#[derive(Clone, Copy, Debug)]
enum Fact {
    /// It was put at this revision by an answered operation.
    Put(i64),
    /// It was there after this revision: mod revision, version, create revision.
    There(i64, Version),
    /// It was not there after this revision.
    Absent(i64),
    /// It was deleted at this revision by an answered operation.
    Deleted(i64),
}

type Version = (i64, i64, i64);

impl Fact {
    fn revision(self) -> i64 {
        match self {
            Fact::Put(at) | Fact::There(at, _) | Fact::Absent(at) | Fact::Deleted(at) => at,
        }
    }
}

impl Facts {
    /// Collects the facts of the keys that candidates may write.
    pub fn new(records: &Records<'_>, order: &Order, store: &Timeline<'_>, written: Written) -> Facts {
        let Written { at_all: wanted, by_put } = written;
        let (facts, seen) = (vec![Vec::new(); wanted.len()], vec![Vec::new(); wanted.len()]);
        let untouched = vec![Vec::new(); wanted.len()];
        let mut collector = Collector { store, wanted, facts, seen, untouched };
        for placed in &order.placed {
            let record = &records.all()[placed.operation as usize];
            match records.rare_of(record) {
                None => collector.plain(records, record),
                Some(operation) => {
                    if let Some(Response { result: Ok(reply), .. }) = operation.output() {
                        collector.answer(&operation.input, reply, placed);
                    }
                }
            }
        }
        for event in records.watches().iter().flat_map(|stream| &stream.responses).flat_map(|r| &r.events) {
            if !event.deleted {
                collector.there(&event.kv, event.kv.mod_revision, false);
            }
        }
        let initial = store.revision();
        let Collector { wanted, seen, mut untouched, .. } = collector;
        let mut result = Facts { seen, ..Facts::default() };
        for (id, mut facts) in collector.facts.into_iter().enumerate() {
            // A put sorts before the sights of its own revision.
            facts.sort_by_key(|fact| (fact.revision(), !matches!(fact, Fact::Put(_))));
            let now = store.version_of(id as KeyId);
            if wanted[id] && !by_put[id] {
                // What was read of a state before the first one says nothing of what came after it.
                let known = &facts[facts.partition_point(|fact| fact.revision() < initial)..];
                add_absences(known, now.is_none().then_some(initial), &mut untouched[id]);
            }
            let (segments, puts) = Walk::through(&facts, initial, now);
            result.segments.push(segments);
            result.puts.push(puts);
        }
        for stretches in &mut untouched {
            stretches.sort_unstable();
            stretches.dedup_by(|later, kept| {
                let same = later.0 == kept.0;
                kept.1 = if same { kept.1.max(later.1) } else { kept.1 };
                same
            });
        }
        Facts { untouched, ..result }
    }

    /// What is known of a key around a revision.
    pub fn segment(&self, key: KeyId, revision: i64) -> Option<&Segment> {
        let segments = &self.segments[key as usize];
        let at = segments.partition_point(|segment| segment.last < revision);
        segments.get(at).filter(|segment| segment.after < revision)
    }

    /// Whether a guard tells that nobody wrote a key at a revision.
    pub fn is_untouched(&self, key: KeyId, revision: i64) -> bool {
        let stretches = &self.untouched[key as usize];
        let next = stretches.partition_point(|(after, _)| *after < revision);
        next.checked_sub(1).is_some_and(|at| revision <= stretches[at].1)
    }

    /// The first revision after another one at which an answered operation put a key.
    pub fn next_put(&self, key: KeyId, after: i64) -> Option<i64> {
        let puts = &self.puts[key as usize];
        puts.get(puts.partition_point(|revision| *revision <= after)).copied()
    }

    /// The latest revision before `revision` at which a response showed all of a key. Once the replay has
    /// come past it, whoever made the revisions up to there, the key was the same.
    pub fn seen_before(&self, key: KeyId, revision: i64) -> i64 {
        let Some(seen) = self.seen.get(key as usize) else { return i64::MIN };
        let after = seen.partition_point(|seen| *seen < revision);
        after.checked_sub(1).map_or(i64::MIN, |last| seen[last])
    }
}

/// Adds the stretches in which a key is missing that nobody but answered operations puts. `gone`: since when it is.
fn add_absences(facts: &[Fact], mut gone: Option<i64>, untouched: &mut Vec<(i64, i64)>) {
    for fact in facts {
        match *fact {
            Fact::Put(at) => untouched.extend(gone.take().map(|gone| (gone, at - 1))),
            // It contradicts that it is missing, or says nothing new.
            Fact::There(at, _) if gone.is_some_and(|gone| at > gone) => gone = None,
            Fact::There(..) => {}
            Fact::Absent(at) | Fact::Deleted(at) => gone = gone.or(Some(at)),
        }
    }
    untouched.extend(gone.map(|gone| (gone, i64::MAX)));
}

struct Collector<'a, 'h> {
    store: &'a Timeline<'h>,
    wanted: Vec<bool>,
    facts: Vec<Vec<Fact>>,
    /// See [`Facts::seen`].
    seen: Vec<Vec<i64>>,
    /// See [`Facts::untouched`].
    untouched: Vec<Vec<(i64, i64)>>,
}

impl Collector<'_, '_> {
    /// What a plain operation tells of its key.
    fn plain(&mut self, records: &Records<'_>, record: &Record) {
        let Some(id) = self.store.id_of(record.key).filter(|id| self.wanted[*id as usize]) else { return };
        let revision = i64::from(record.revision);
        if record.kind == Kind::Guarded && record.changes() {
            self.guard(id, i64::from(record.expected), revision - 1);
        }
        let (fact, seen) = match (record.kind, records.seen(record)) {
            (Kind::Delete, _) if record.changes() => (Fact::Deleted(revision), true),
            (Kind::Delete, _) => (Fact::Absent(revision), true),
            _ if record.changes() => (Fact::Put(revision), false),
            (_, Some(seen)) => {
                let [modified, version, created] = [seen.modified, seen.version, seen.created].map(i64::from);
                (Fact::There(revision.max(modified), (modified, version, created)), true)
            }
            _ if record.reads() => (Fact::Absent(revision), true),
            _ => return,
        };
        self.note(id, fact, seen);
    }

    /// Notes a fact; `seen` if a response shows it in the order of the replay.
    fn fact(&mut self, key: &[u8], fact: Fact, seen: bool) {
        if let Some(id) = self.store.id(key).filter(|id| self.wanted[*id as usize]) {
            self.note(id, fact, seen);
        }
    }

    /// A guard found that a key had been put at revision `expected` (never, if that is zero) and not been changed
    /// up to `at`.
    fn guard(&mut self, id: KeyId, expected: i64, at: i64) {
        if expected > 0 {
            self.untouched[id as usize].push((expected, at));
        } else {
            self.note(id, Fact::Absent(at), false);
        }
    }

    fn note(&mut self, id: KeyId, fact: Fact, seen: bool) {
        self.facts[id as usize].push(fact);
        if seen {
            self.seen[id as usize].push(fact.revision());
        }
    }

    fn there(&mut self, kv: &KeyValue, at: i64, seen: bool) {
        let at = at.max(kv.mod_revision);
        let version = (kv.mod_revision, kv.version, kv.create_revision);
        self.fact(kv.key.as_slice(), Fact::There(at, version), seen);
    }

    fn absent(&mut self, keys: &Keys, at: i64, seen: bool) {
        self.absent_but(keys, &[], at, seen);
    }

    /// Of some keys, all but these were absent.
    fn absent_but(&mut self, keys: &Keys, shown: &[KeyValue], at: i64, seen: bool) {
        let span = self.store.span(keys);
        if span.len() > SPAN_MAX {
            return;
        }
        let mut shown: Vec<KeyId> = shown.iter().filter_map(|kv| self.store.id(kv.key.as_slice())).collect();
        shown.sort_unstable();
        for id in span {
            if self.wanted[id as usize] && shown.binary_search(&id).is_err() {
                self.note(id, Fact::Absent(at), seen);
            }
        }
    }

    /// What an answered operation tells of its keys.
    fn answer(&mut self, request: &Request, reply: &Reply, placed: &Placed) {
        let deletes = matches!(request, Request::Txn(_)) && may_have_deleted(request, reply);
        // What a txn that made the revision did not find may be what it deleted before.
        let is_clear = !(deletes && placed.role == Role::Maker);
        self.request((request, reply), placed, is_clear, false);
    }

    fn request(
        &mut self,
        (request, reply): (&Request, &Reply),
        placed: &Placed,
        is_clear: bool,
        in_txn: bool,
    ) {
        let revision = placed.revision;
        let makes = placed.role == Role::Maker;
        // What a txn that made the revision read may be from before its own changes, or from after them.
        let before = revision - i64::from(makes);
        match (request, reply) {
            (Request::Range(range), Reply::Range { kvs, count, .. }) => {
                let at = if range.revision > 0 { range.revision } else { before };
                let present = range.revision <= 0;
                // Without its value a version is not known as a whole.
                kvs.iter().for_each(|kv| self.there(kv, at, present && !range.keys_only));
                if *count == 0 && is_clear {
                    self.absent(&range.keys, at, present);
                } else if *count == kvs.len() as i64 && is_clear {
                    self.absent_but(&range.keys, kvs, at, present);
                }
            }
            (Request::Put(put), Reply::Put { previous }) => {
                match previous {
                    Some(kv) if kv.mod_revision <= before => self.there(kv, before, true),
                    None if put.prev_kv && is_clear => {
                        self.fact(put.key.as_slice(), Fact::Absent(before), true);
                    }
                    _ => {}
                }
                self.fact(put.key.as_slice(), Fact::Put(revision), false);
            }
            (Request::Delete(delete), Reply::Delete { deleted, previous }) if is_clear => {
                previous.iter().for_each(|kv| self.there(kv, before, true));
                if *deleted == 0 {
                    self.absent(&delete.keys, revision, true);
                } else if delete.keys.is_single() {
                    self.fact(delete.keys.key.as_slice(), Fact::Deleted(revision), true);
                }
            }
            (Request::Txn(txn), Reply::Txn { succeeded, replies }) => {
                for (key, expected) in guards(txn, *succeeded && !in_txn) {
                    if let Some(id) = self.store.id(key).filter(|id| self.wanted[*id as usize]) {
                        self.guard(id, expected, before);
                    }
                }
                let requests = branch(txn, *succeeded);
                for (request, reply) in requests.iter().zip(replies) {
                    self.request((request, reply), placed, is_clear, true);
                }
            }
            _ => {}
        }
    }
}

/// Whether a request, on the path that it took, deletes.
fn may_have_deleted(request: &Request, reply: &Reply) -> bool {
    match (request, reply) {
        (Request::Delete(_), _) => true,
        (Request::Txn(txn), Reply::Txn { succeeded, replies }) => {
            let mut requests = branch(txn, *succeeded).iter().zip(replies);
            requests.any(|(request, reply)| may_have_deleted(request, reply))
        }
        _ => false,
    }
}

/// The keys of which a txn that succeeded has found the mod revision, and that.
pub(super) fn guards(txn: &Txn, succeeded: bool) -> impl Iterator<Item = (&[u8], i64)> {
    txn.compares.iter().filter(move |_| succeeded).filter_map(|compare| match compare.target {
        Target::Mod(expected) if compare.result == Relation::Equal && compare.keys.is_single() => {
            Some((compare.keys.key.as_slice(), expected))
        }
        _ => None,
    })
}

/// With more keys than this, it is not noted which of them a range did not show.
const SPAN_MAX: usize = 256;

/// Walks through the facts of a key.
struct Walk {
    segments: Vec<Segment>,
    /// All answered puts, and how many of them are no later than what is known.
    puts: Vec<i64>,
    /// Up to which revision everything is known.
    known: i64,
    /// The version there.
    now: Option<Version>,
}

impl Walk {
    fn through(facts: &[Fact], initial: i64, now: Option<Version>) -> (Vec<Segment>, Vec<i64>) {
        let put = |fact: &Fact| matches!(fact, Fact::Put(_)).then(|| fact.revision());
        let puts = facts.iter().filter_map(put).collect();
        let mut walk = Walk { segments: Vec::new(), puts, known: initial, now };
        for fact in facts {
            match *fact {
                Fact::There(at, version) if at >= walk.known => walk.there(at, version),
                Fact::Absent(at) if at > walk.known => walk.absent(at, false),
                Fact::Deleted(at) if at > walk.known => walk.absent(at, true),
                _ => {}
            }
        }
        (walk.segments, walk.puts)
    }

    /// Sights that contradict each other say nothing here: the replay will find them.
    fn there(&mut self, at: i64, version: Version) {
        let (modified, number, created) = version;
        match self.now {
            Some(now) if now.0 == modified => {}
            _ if modified <= self.known => return,
            Some(now) if now.2 == created => {
                self.puts_until(modified, number.saturating_sub(now.1));
            }
            _ if created <= self.known || modified < created => return,
            _ => {
                self.add(created - 1, None, true, false);
                self.puts_until(created, 1);
                if modified > created {
                    self.puts_until(modified, number.saturating_sub(1));
                }
            }
        }
        self.add(at, Some(0), false, false);
        self.now = Some(version);
    }

    fn absent(&mut self, at: i64, is_found: bool) {
        self.add(at, None, true, is_found);
        self.now = None;
    }

    /// So many puts up to `last`, which is one of them.
    fn puts_until(&mut self, last: i64, count: i64) {
        let before = count - 1 - self.claimed(self.known + 1..=last - 1);
        self.add(last - 1, u32::try_from(before).ok(), false, false);
        let claimed = self.claimed(last..=last);
        self.add(last, u32::try_from(1 - claimed).ok(), false, false);
    }

    fn claimed(&self, revisions: RangeInclusive<i64>) -> i64 {
        let start = self.puts.partition_point(|revision| revision < revisions.start());
        let end = self.puts.partition_point(|revision| revision <= revisions.end());
        end.saturating_sub(start) as i64
    }

    fn add(&mut self, last: i64, puts: Option<u32>, may_delete: bool, is_found: bool) {
        if last > self.known {
            let after = self.known;
            self.segments.push(Segment { after, last, puts, may_delete, is_found });
            self.known = last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(facts: &[Fact]) -> Vec<(i64, i64, Option<u32>, bool, bool)> {
        let (segments, _) = Walk::through(facts, 1, None);
        let tuple = |s: &Segment| (s.after, s.last, s.puts, s.may_delete, s.is_found);
        segments.iter().map(tuple).collect()
    }

    #[test]
    fn versions_tell_how_many_puts_lie_between_two_sights() {
        // Created at 3; at 9 it is version 4, and one of the two puts in between was answered.
        let facts = [Fact::There(4, (3, 1, 3)), Fact::Put(6), Fact::There(10, (9, 4, 3))];
        let expected = [
            (1, 2, None, true, false),
            (2, 3, Some(1), false, false),
            (3, 4, Some(0), false, false),
            (4, 8, Some(1), false, false),
            (8, 9, Some(1), false, false),
            (9, 10, Some(0), false, false),
        ];
        assert_eq!(segments(&facts), expected);
    }

    #[test]
    fn a_missing_key_was_deleted_after_it_was_seen() {
        let facts = [
            Fact::Put(2),
            Fact::There(2, (2, 1, 2)),
            Fact::Absent(5),
            Fact::There(8, (8, 1, 8)),
            Fact::Deleted(11),
        ];
        let expected = [
            (1, 2, Some(0), false, false),
            (2, 5, None, true, false),
            (5, 7, None, true, false),
            (7, 8, Some(1), false, false),
            (8, 11, None, true, true),
        ];
        assert_eq!(segments(&facts), expected);
    }
}
