//! Which decisions are to blame if a key is not as it should be.
//!
//! An answer that differs from the replay differs in some key, and so does a revision that nobody claims from what is
//! seen of it. Of that key matters who wrote it since it was last seen, and how: whose values nobody compares may be
//! replaced by another put; whether it is there, and since when, is decided by the last write alone. What txns decide
//! depends on the keys that they compare, and on nothing that they read.

use std::cmp::Ordering;

use super::Gaps;
use super::choices::{Choice, Decision};
use super::reasons::{Reason, Which};
use crate::etcd::candidates::{Effect, GroupId, SPAN_MAX, Touch};
use crate::etcd::order::oldest_read;
use crate::etcd::outcome::{KeyValue, Reply};
use crate::etcd::request::{Compare, Keys, Range, Request, SortOrder, SortTarget, Target, Txn};
use crate::etcd::store::branch;
use crate::etcd::timeline::{KeyId, Timeline};

/// What of a key is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Whether it is there, and since which revision.
    LastWrite(KeyId),
    /// How often it was put, and since when it is there.
    Versions(KeyId),
    /// To which lease it is attached.
    Attached(KeyId),
    /// Its value or anything else.
    All(KeyId),
}

/// What is not as it should be; none: that cannot be said of single keys.
type Parts = Option<Vec<Part>>;

/// Why a candidate did not make a revision.
pub(super) enum Failure {
    /// It changed nothing.
    Nothing,
    /// It made no such version as was seen of this key.
    Sight(Vec<u8>),
    /// A watch showed another version of this key before it.
    Previous(KeyValue),
    /// It does to this key what facts rule out.
    Unlike(KeyId),
    /// A watch showed something else.
    Watched,
}

impl<'h> Gaps<'h> {
    /// Why a request was not answered so.
    pub fn blame_answer(
        &self,
        (request, reply): (&Request, &Reply),
        makes: bool,
        decisions: &[Decision],
        store: &Timeline<'h>,
    ) -> Reason {
        let mut parts = Vec::new();
        let known = Answer { store, makes }.differs(request, reply, false, &mut parts);
        if known && !parts.is_empty() {
            return self.blame(&parts, store.revision(), decisions, store);
        }
        let at = oldest_read(request).unwrap_or(i64::MAX).min(store.revision());
        self.bearing_on_request(request, at, decisions, store)
    }

    /// Why what a group does has not made the revision after the present one.
    pub(super) fn blame_effect(
        &self,
        request: &Request,
        failure: &Failure,
        decisions: &[Decision],
        store: &Timeline<'h>,
    ) -> Reason {
        let at = store.revision();
        let parts = match failure {
            Failure::Previous(kv) => Some(previous_differs(kv, store)),
            Failure::Nothing => nothing_done(request, store),
            Failure::Sight(key) => sight_differs(request, key, store),
            Failure::Unlike(key) => unlike(request, *key, store),
            Failure::Watched => None,
        };
        match parts {
            Some(parts) => self.blame(&parts, at, decisions, store),
            None => self.bearing_on_request(request, at, decisions, store),
        }
    }

    /// Why something that ends a lease has not made the revision after the present one.
    pub(super) fn blame_end(
        &self,
        lease: i64,
        failure: &Failure,
        decisions: &[Decision],
        store: &Timeline<'h>,
    ) -> Reason {
        let of_key = |key: Option<KeyId>| key.map(|key| vec![Part::Attached(key)]);
        let parts = match failure {
            Failure::Previous(kv) => Some(previous_differs(kv, store)),
            Failure::Sight(key) => of_key(store.id(key)),
            Failure::Unlike(key) => of_key(Some(*key)),
            Failure::Nothing => match self.leases.touch(lease) {
                Touch::One(key) => of_key(Some(key)),
                Touch::Some(keys) => Some(keys.iter().map(|key| Part::Attached(*key)).collect()),
                Touch::All => None,
            },
            Failure::Watched => None,
        };
        match parts {
            Some(parts) => self.blame(&parts, store.revision(), decisions, store),
            None => self.bearing_on_lease(lease, store.revision(), decisions),
        }
    }

    /// What of the decisions decides these parts of the state at a revision.
    fn blame(&self, parts: &[Part], at: i64, decisions: &[Decision], store: &Timeline<'_>) -> Reason {
        let mut trace = Trace::new(self, decisions);
        for part in parts {
            match *part {
                Part::LastWrite(key) => trace.last_write(key, at, store),
                Part::Versions(key) => trace.versions(key, at),
                Part::Attached(key) => trace.attached(key, at, store),
                Part::All(key) => trace.all(key, at, at),
            }
        }
        trace.finish()
    }

    /// What of the decisions decides what a request answers, or does, at a revision.
    pub fn bearing_on_request(
        &self,
        request: &Request,
        at: i64,
        decisions: &[Decision],
        store: &Timeline<'_>,
    ) -> Reason {
        if let Request::LeaseRevoke { id } = request {
            return self.bearing_on_lease(*id, at, decisions);
        }
        let mut footprint = Vec::new();
        request.footprint(&mut |keys| footprint.push(keys));
        let mut trace = Trace::new(self, decisions);
        for range in &footprint {
            let span = store.span(range);
            if span.len() > SPAN_MAX {
                // Too many keys are taken as all of them.
                return all_of(decisions);
            }
            span.for_each(|key| trace.all(key, at, i64::MAX));
        }
        trace.finish()
    }

    /// As [`Gaps::bearing_on_request`], of what goes with a lease.
    pub fn bearing_on_lease(&self, lease: i64, at: i64, decisions: &[Decision]) -> Reason {
        let mut trace = Trace::new(self, decisions);
        match self.leases.touch(lease) {
            Touch::One(key) => trace.all(key, at, at),
            Touch::Some(keys) => keys.iter().for_each(|key| trace.all(*key, at, at)),
            Touch::All => return all_of(decisions),
        }
        trace.finish()
    }

    /// What of the decisions decides whether a key is there, and at which revision it was put.
    pub fn last_write(&self, key: KeyId, at: i64, decisions: &[Decision], store: &Timeline<'_>) -> Reason {
        self.blame(&[Part::LastWrite(key)], at, decisions, store)
    }
}

/// Follows keys back through the decisions.
struct Trace<'g, 'h> {
    gaps: &'g Gaps<'h>,
    decisions: &'g [Decision],
    reason: Reason,
    /// Keys to follow back from a revision, for a txn compared them then; and how many have been.
    compared: Vec<(KeyId, i64)>,
    followed: usize,
    /// A txn compares too many keys.
    is_all: bool,
}

impl<'g, 'h> Trace<'g, 'h> {
    fn new(gaps: &'g Gaps<'h>, decisions: &'g [Decision]) -> Self {
        let reason = Reason::default();
        Trace { gaps, decisions, reason, compared: Vec::new(), followed: 0, is_all: false }
    }

    fn finish(mut self) -> Reason {
        while let Some((key, at)) = self.compared.get(self.followed).copied() {
            self.followed += 1;
            self.all(key, at, at);
            if self.is_all {
                break;
            }
        }
        if self.is_all { all_of(self.decisions) } else { self.reason }
    }

    /// All that a key is at a revision, or may become until another one.
    fn all(&mut self, key: KeyId, at: i64, until: i64) {
        let gaps = self.gaps;
        // What is guessed about revisions up to where all of it was seen changes nothing.
        self.since(key, gaps.facts.seen_before(key, at), until, |choice| {
            match gaps.only(choice, Effect::Deletion) {
                Some(_) => Which::Deletes(key),
                None => Which::Is(choice),
            }
        });
    }

    /// How often a key was put since it is there, and since when that is.
    fn versions(&mut self, key: KeyId, at: i64) {
        let gaps = self.gaps;
        self.since(key, gaps.facts.seen_before(key, at), at, |choice| gaps.how(choice, key));
    }

    /// Whether a key is there, and since which revision it is as it is.
    fn last_write(&mut self, key: KeyId, at: i64, store: &Timeline<'_>) {
        let gaps = self.gaps;
        let written = store.changed_at(key).saturating_sub(1);
        if self.writes_several(key, written, at) {
            // Which of several keys go with a lease, say, depends on what they were before.
            return self.attached(key, at, store);
        }
        let after = written.max(gaps.facts.seen_before(key, at));
        self.since(key, after, at, |choice| gaps.how(choice, key));
    }

    /// To which lease a key is attached, if it is there: what its last write made of it, which is all that decides
    /// what later ones of several keys do to it.
    fn attached(&mut self, key: KeyId, at: i64, store: &Timeline<'_>) {
        let gaps = self.gaps;
        let written = store.changed_at(key);
        let by = self.decisions.partition_point(|decision| decision.revision < written);
        let by = self.decisions.get(by).filter(|decision| decision.revision == written);
        let by_several = by.is_some_and(|decision| !matches!(gaps.touch(decision.choice()), Touch::One(_)));
        if written == i64::MIN || by_several || gaps.keeps[key as usize] {
            return self.all(key, at, at);
        }
        let after = gaps.facts.seen_before(key, at).max(written - 1);
        self.since(key, after, at, |choice| match gaps.only(choice, Effect::Deletion) {
            Some(_) => Which::Deletes(key),
            None => Which::Is(choice),
        });
    }

    /// Whether a decision about a revision after one and up to another writes several keys, this one among them.
    fn writes_several(&self, key: KeyId, after: i64, at: i64) -> bool {
        let first = self.decisions.partition_point(|decision| decision.revision <= after);
        let decisions = self.decisions[first..].iter().take_while(|decision| decision.revision <= at);
        decisions.filter(|decision| decision.may_touch(key)).any(|decision| {
            match self.gaps.touch(decision.choice()) {
                Touch::One(_) => false,
                Touch::Some(keys) => keys.binary_search(&key).is_ok(),
                Touch::All => true,
            }
        })
    }

    /// Of the decisions after one revision and up to another: that they leave a key alone, or how they write it.
    fn since(&mut self, key: KeyId, after: i64, at: i64, how: impl Fn(Choice) -> Which) {
        let first = self.decisions.partition_point(|decision| decision.revision <= after);
        for (index, decision) in (first as u32..).zip(&self.decisions[first..]) {
            if decision.revision > at {
                break;
            }
            if !decision.may_touch(key) {
                continue;
            }
            let choice = decision.choice();
            if self.gaps.is(choice, Which::Avoids(key)) {
                self.reason.add(index, Which::Avoids(key));
                continue;
            }
            self.reason.add(index, how(choice));
            if let Choice::Group(id) = choice
                && self.gaps.groups[id as usize].is_conditional
            {
                // What it writes depends on what it compared.
                self.compare(id, decision.revision - 1);
            }
        }
    }

    /// Notes the keys that a group compares.
    fn compare(&mut self, group: GroupId, at: i64) {
        match &self.gaps.groups[group as usize].compares {
            None => self.is_all = true,
            Some(keys) => {
                keys.iter().for_each(|key| self.follow(*key, at));
            }
        }
    }

    fn follow(&mut self, key: KeyId, at: i64) {
        if !self.compared.contains(&(key, at)) {
            self.compared.push((key, at));
        }
    }
}

impl Gaps<'_> {
    /// How a choice writes a key, as far as versions and revisions show.
    fn how(&self, choice: Choice, key: KeyId) -> Which {
        match (self.only(choice, Effect::Put), self.only(choice, Effect::Deletion)) {
            (Some(_), _) => Which::Puts(key),
            (_, Some(_)) => Which::Deletes(key),
            _ => Which::Is(choice),
        }
    }
}

/// That all decisions are as they are.
fn all_of(decisions: &[Decision]) -> Reason {
    let mut reason = Reason::default();
    for (index, decision) in (0_u32..).zip(decisions) {
        reason.add(index, Which::Is(decision.choice()));
    }
    reason
}

/// The version before a change that a watch showed is not the present one.
fn previous_differs(kv: &KeyValue, store: &Timeline<'_>) -> Vec<Part> {
    let Some(key) = store.id(kv.key.as_slice()) else { return Vec::new() };
    vec![version_differs(key, kv.mod_revision, store)]
}

/// The part of a key that differs, given the mod revision that it should have.
fn version_differs(key: KeyId, modified: i64, store: &Timeline<'_>) -> Part {
    match store.version_of(key) {
        Some((revision, _, _)) if revision == modified => Part::All(key),
        _ => Part::LastWrite(key),
    }
}

/// Why a request changes nothing.
fn nothing_done(request: &Request, store: &Timeline<'_>) -> Parts {
    let mut parts = Vec::new();
    add_path(request, store, &mut parts).then_some(())?;
    add_written(request, store, &mut parts, &|key| Part::LastWrite(key)).then_some(parts)
}

/// Why a request leaves a key otherwise than it was seen.
fn sight_differs(request: &Request, key: &[u8], store: &Timeline<'_>) -> Parts {
    let mut parts = Vec::new();
    add_path(request, store, &mut parts).then_some(())?;
    let key = store.id(key)?;
    parts.push(if keeps(request) { Part::All(key) } else { Part::Versions(key) });
    Some(parts)
}

/// Why a request does what it does to a key.
fn unlike(request: &Request, key: KeyId, store: &Timeline<'_>) -> Parts {
    let mut parts = Vec::new();
    add_path(request, store, &mut parts).then_some(())?;
    parts.push(Part::LastWrite(key));
    Some(parts)
}

/// Whether a request may keep the value or the lease of a key.
fn keeps(request: &Request) -> bool {
    match request {
        Request::Put(put) => put.ignore_value || put.ignore_lease,
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).any(keeps),
        Request::LeaseRevoke { .. } => true,
        _ => false,
    }
}

/// Adds why the compares of a request turn out as they do. False if they are about too many keys.
fn add_path(request: &Request, store: &Timeline<'_>, parts: &mut Vec<Part>) -> bool {
    let Request::Txn(txn) = request else { return true };
    let succeeded = match txn.compares.iter().find(|compare| !store.holds(compare)) {
        // One that does not hold is enough.
        Some(compare) => {
            if !add_compare(compare, store, parts) {
                return false;
            }
            false
        }
        None => {
            if !txn.compares.iter().all(|compare| add_compare(compare, store, parts)) {
                return false;
            }
            true
        }
    };
    branch(txn, succeeded).iter().all(|request| add_path(request, store, parts))
}

/// Adds what decides a compare.
fn add_compare(compare: &Compare, store: &Timeline<'_>, parts: &mut Vec<Part>) -> bool {
    let span = store.span(&compare.keys);
    if span.len() > SPAN_MAX {
        return false;
    }
    parts.extend(span.map(|key| match compare.target {
        Target::Mod(_) => Part::LastWrite(key),
        Target::Create(0) | Target::Version(0) => Part::LastWrite(key),
        Target::Create(_) | Target::Version(_) => Part::Versions(key),
        Target::Value(_) | Target::Lease(_) => Part::All(key),
    }));
    true
}

/// Adds, of every key that a request writes on the path that it takes, that part. False if they are too many.
fn add_written(
    request: &Request,
    store: &Timeline<'_>,
    parts: &mut Vec<Part>,
    part: &impl Fn(KeyId) -> Part,
) -> bool {
    match request {
        Request::Put(put) => parts.extend(store.id(put.key.as_slice()).map(part)),
        Request::Delete(delete) => {
            let span = store.span(&delete.keys);
            if span.len() > SPAN_MAX {
                return false;
            }
            parts.extend(span.map(part));
        }
        Request::Txn(txn) => {
            let succeeded = txn.compares.iter().all(|compare| store.holds(compare));
            let requests = branch(txn, succeeded);
            return requests.iter().all(|request| add_written(request, store, parts, part));
        }
        Request::LeaseRevoke { .. } => return false,
        _ => {}
    }
    true
}

/// An answered request, held against the state before it.
struct Answer<'a, 'h> {
    store: &'a Timeline<'h>,
    /// It made the revision after the present one.
    makes: bool,
}

impl Answer<'_, '_> {
    /// Adds what differs of a request from its reply. False if that cannot be said; nothing added: nothing was found.
    fn differs(&self, request: &Request, reply: &Reply, in_txn: bool, parts: &mut Vec<Part>) -> bool {
        // What a txn reads or deletes may be what it wrote before.
        let is_clear = !(in_txn && self.makes);
        match (request, reply) {
            (Request::Range(range), Reply::Range { kvs, count, .. }) => {
                self.range_differs(range, kvs, *count, is_clear, parts);
            }
            (Request::Put(put), Reply::Put { previous }) if put.prev_kv => match previous {
                Some(kv) => self.version_differs(kv, parts),
                None => parts.extend(
                    self.store
                        .id(put.key.as_slice())
                        .filter(|key| self.store.version_of(*key).is_some())
                        .map(Part::LastWrite),
                ),
            },
            (Request::Delete(delete), Reply::Delete { deleted, previous }) if is_clear => {
                match previous.iter().find(|kv| !self.store.is_present(kv, false)) {
                    Some(kv) => self.version_differs(kv, parts),
                    None => self.count_differs(&delete.keys, *deleted, parts),
                }
            }
            (Request::Txn(txn), Reply::Txn { succeeded, replies }) => {
                return self.txn_differs(txn, *succeeded, replies, parts);
            }
            _ => {}
        }
        true
    }

    fn txn_differs(&self, txn: &Txn, succeeded: bool, replies: &[Reply], parts: &mut Vec<Part>) -> bool {
        let failing = txn.compares.iter().find(|compare| !self.store.holds(compare));
        match (failing, succeeded) {
            (Some(compare), true) => return add_compare(compare, self.store, parts),
            (None, false) => {
                return txn.compares.iter().all(|compare| add_compare(compare, self.store, parts));
            }
            _ => {}
        }
        for (request, reply) in branch(txn, succeeded).iter().zip(replies) {
            if !self.differs(request, reply, true, parts) {
                return false;
            }
            if !parts.is_empty() {
                // One that differs is enough.
                break;
            }
        }
        true
    }

    fn range_differs(
        &self,
        range: &Range,
        kvs: &[KeyValue],
        count: i64,
        is_clear: bool,
        parts: &mut Vec<Part>,
    ) {
        if range.revision > 0 {
            // What it was then is found by its footprint.
            return;
        }
        for kv in kvs {
            if !self.is_shown(kv, range.keys_only) {
                self.version_differs(kv, parts);
                return;
            }
        }
        if !is_clear {
            return;
        }
        if count == kvs.len() as i64 || !range.has_filter() && !range.count_only {
            let mut shown: Vec<KeyId> =
                kvs.iter().filter_map(|kv| self.store.id(kv.key.as_slice())).collect();
            shown.sort_unstable();
            let last = kvs.last().filter(|_| count > kvs.len() as i64);
            let is_missed = |key: &KeyId| {
                shown.binary_search(key).is_err()
                    && last.map_or(count == kvs.len() as i64, |last| self.is_before(*key, last, range))
            };
            let live = self.store.live_keys(&range.keys);
            if let Some(key) = live.into_iter().find(is_missed) {
                let by_key = last.is_none() || range.sort_target == SortTarget::Key;
                parts.push(if by_key { Part::LastWrite(key) } else { Part::Versions(key) });
                return;
            }
        }
        self.count_differs(&range.keys, count, parts);
    }

    /// Whether a range that shows this version, and not all keys, would have shown a key that is there before it.
    fn is_before(&self, key: KeyId, last: &KeyValue, range: &Range) -> bool {
        let Some((modified, version, created)) = self.store.version_of(key) else { return false };
        let Some(last_key) = self.store.id(last.key.as_slice()) else { return false };
        let order = match range.sort_target {
            SortTarget::Key => key.cmp(&last_key),
            SortTarget::Version => version.cmp(&last.version),
            SortTarget::Create => created.cmp(&last.create_revision),
            SortTarget::Mod => modified.cmp(&last.mod_revision),
            SortTarget::Value => return false,
        };
        match (range.sort_order, range.sort_target) {
            (SortOrder::Descend, _) => order == Ordering::Greater,
            // Without an order it sorts what it has read, and that is not all.
            (SortOrder::None, target) if target != SortTarget::Key => false,
            _ => order == Ordering::Less,
        }
    }

    /// So many keys should be there.
    fn count_differs(&self, keys: &Keys, count: i64, parts: &mut Vec<Part>) {
        let span = self.store.span(keys);
        let live = self.store.live_keys(keys);
        let found = live.len() as i64;
        // Too many are there, or too few: whoever is not counts as well.
        if found > count {
            parts.extend(live.into_iter().map(Part::LastWrite));
        } else if found < count && span.len() <= MISSING_MAX {
            parts.extend(span.filter(|key| live.binary_search(key).is_err()).map(Part::LastWrite));
        }
    }

    /// Whether a version that a request showed is the present one, or one that it made.
    fn is_shown(&self, kv: &KeyValue, keys_only: bool) -> bool {
        if self.makes && kv.mod_revision == self.store.revision() + 1 {
            let Some(key) = self.store.id(kv.key.as_slice()) else { return false };
            let (version, created) = match self.store.version_of(key) {
                Some((_, version, created)) => (version + 1, created),
                None => (1, kv.mod_revision),
            };
            return version == kv.version && created == kv.create_revision;
        }
        self.store.is_present(kv, keys_only)
    }

    /// A version that should have been the present one.
    fn version_differs(&self, kv: &KeyValue, parts: &mut Vec<Part>) {
        let Some(key) = self.store.id(kv.key.as_slice()) else { return };
        if self.makes && kv.mod_revision == self.store.revision() + 1 {
            parts.push(Part::Versions(key));
        } else if !self.store.is_present(kv, false) {
            parts.push(version_differs(key, kv.mod_revision, self.store));
        }
    }
}

/// With more keys than this, not every one that is missing is looked at.
const MISSING_MAX: usize = 4096;
