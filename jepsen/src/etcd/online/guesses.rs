//! What is certain of the revisions that nobody claims, and up to where a part of a history can be let go.
//!
//! The replay finds one explanation of a part. Others may be as good, and what comes later may need one of those. So a
//! part is let go only as far as the *state* at its end is the same in all of them: no unclaimed revision is left open, or
//! every key that one of them may have touched was shown afterwards. Which write of unknown outcome was *used* may stay
//! open. If its value was shown, and nobody else can have written it, it was, and is gone. Otherwise one of those that are
//! as good was: that is a [`Slot`], and all of them are kept. As long as every slot can be given a write of its own, the
//! whole history has an explanation; if not, it may have another one, and nothing is known.

use std::collections::{BTreeMap, BTreeSet};

use super::Held;
use crate::etcd::order::{EtcdOperation, seen_versions};
use crate::etcd::outcome::{KeyValue, Reply, Response};
use crate::etcd::request::{Bytes, Keys, Put, Range, Relation, Request, Target, Txn};
use crate::etcd::watch::{Change, Event, WatchStream};

/// Writes of unknown outcome that are as good as each other: one of them happened.
pub(super) type Slot = Vec<usize>;

/// How an unclaimed revision is explained.
#[derive(Debug, Default)]
pub(super) struct Guess {
    /// The write that surely made it.
    pub surely: Option<usize>,
    /// Those of which one made it.
    pub slot: Option<Slot>,
    /// The lease whose end made it.
    pub lease: Option<i64>,
    /// Whether its effect is the same in every explanation.
    pub is_settled: bool,
}

/// What answered operations show of keys and revisions.
pub(super) struct Sights<'a> {
    /// By mod revision: versions with their values.
    versions: BTreeMap<i64, Vec<&'a KeyValue>>,
    /// By key: at which revision it was looked at, and the mod revision that it had (zero: it was not there).
    looks: BTreeMap<&'a Bytes, Vec<(i64, i64)>>,
    /// Ranges that were read in full, and what was there.
    ranges: Vec<(&'a Keys, i64, &'a [KeyValue])>,
}

impl<'a> Sights<'a> {
    /// Collects what these show.
    pub fn new(
        answered: impl Iterator<Item = &'a EtcdOperation>,
        streams: impl Iterator<Item = &'a WatchStream>,
    ) -> Self {
        let mut sights = Sights { versions: BTreeMap::new(), looks: BTreeMap::new(), ranges: Vec::new() };
        for operation in answered {
            let Some(Response { result: Ok(reply), revision, .. }) = operation.output() else { continue };
            if !shows_bare(&operation.input) {
                seen_versions(reply, &mut |kv| sights.versions.entry(kv.mod_revision).or_default().push(kv));
            }
            if let (Request::Range(range), Reply::Range { kvs, .. }) = (&operation.input, reply) {
                sights.look(range, *revision, kvs);
            }
        }
        for event in streams.flat_map(|stream| &stream.responses).flat_map(|response| &response.events) {
            if !event.deleted {
                sights.versions.entry(event.revision()).or_default().push(&event.kv);
            }
            let there = if event.deleted { 0 } else { event.revision() };
            sights.looks.entry(&event.kv.key).or_default().push((event.revision(), there));
        }
        sights
    }

    fn look(&mut self, range: &'a Range, revision: i64, kvs: &'a [KeyValue]) {
        if range.revision > 0 || range.keys_only || range.count_only || range.has_filter() || range.limit > 0
        {
            return;
        }
        if range.keys.is_single() {
            let there = kvs.first().map_or(0, |kv| kv.mod_revision);
            self.looks.entry(&range.keys.key).or_default().push((revision, there));
        } else {
            self.ranges.push((&range.keys, revision, kvs));
        }
    }

    /// The last revision up to `until` at which everything was read.
    pub fn last_full(&self, until: i64) -> Option<i64> {
        let all =
            self.ranges.iter().filter(|(keys, revision, _)| **keys == Keys::all() && *revision <= until);
        all.map(|(_, revision, _)| *revision).max()
    }

    /// Whether the state of these keys at `until` is known by somebody who looked at or after `since`.
    fn show(&self, keys: &Keys, since: i64, until: i64) -> bool {
        let tells = |at: i64, there: i64| at >= since && (at <= until || (there != 0 && there <= until));
        let of_all = |key: Option<&Bytes>| {
            self.ranges.iter().any(|(range, at, kvs)| match key {
                Some(key) => {
                    range.contains(key.as_slice())
                        && tells(*at, kvs.iter().find(|kv| kv.key == *key).map_or(0, |kv| kv.mod_revision))
                }
                None => (**range == *keys || **range == Keys::all()) && tells(*at, 0),
            })
        };
        if !keys.is_single() {
            return of_all(None);
        }
        let looks = self.looks.get(&keys.key);
        looks.is_some_and(|looks| looks.iter().any(|(at, there)| tells(*at, *there)))
            || of_all(Some(&keys.key))
    }

    fn shows(&self, revision: i64, kv: &KeyValue) -> bool {
        let versions = self.versions.get(&revision);
        versions.is_some_and(|versions| versions.iter().any(|shown| **shown == *kv))
    }
}

/// Whether some answer to it comes without values.
fn shows_bare(request: &Request) -> bool {
    match request {
        Request::Range(range) => range.keys_only,
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).any(shows_bare),
        _ => false,
    }
}

/// Explains a revision that nobody claims, as the replay did. `unknown` may have happened; `deadline` is when the
/// revision, or a later one, was seen first, and `present` the keys that were there before it.
pub(super) fn explain(
    change: &Change,
    unknown: &[&Held],
    sights: &Sights<'_>,
    (deadline, present): (u64, &BTreeSet<Bytes>),
) -> Guess {
    let in_time = || unknown.iter().filter(|held| held.operation.call <= deadline);
    if let Some(event) = change.events.iter().find(|event| !event.deleted) {
        let shown = sights.shows(change.revision, &event.kv);
        let writers: Vec<&&Held> = in_time().filter(|held| puts(&held.operation.input, &event.kv)).collect();
        if let ([only], true) = (&writers[..], shown) {
            let is_settled = has_one_effect(&only.operation.input);
            return Guess { surely: Some(only.index), is_settled, ..Guess::default() };
        }
        let chosen = writers.iter().find(|held| held.operation.call == change.since);
        let [alone] = &change.events[..] else {
            return Guess {
                slot: Some(chosen.map(|held| held.index).into_iter().collect()),
                ..Guess::default()
            };
        };
        let does = |held: &&&Held| match put_by(&held.operation.input, alone) {
            Some(put) => put.lease == alone.kv.lease && (!shown || put.value == alone.kv.value),
            None => false,
        };
        let slot = match chosen {
            Some(chosen) if does(chosen) => in_time().filter(does).map(|held| held.index).collect(),
            Some(chosen) => vec![chosen.index],
            None => Vec::new(),
        };
        return Guess { slot: Some(slot), ..Guess::default() };
    }
    let chosen = in_time().find(|held| {
        held.operation.call == change.since
            && change.events.iter().all(|event| deletes(&held.operation.input, event))
    });
    if let Some(chosen) = chosen {
        let does = |held: &&&Held| match (&held.operation.input, &change.events[..]) {
            (Request::Delete(delete), events) => {
                // The same keys go, and no others.
                let met = present.iter().filter(|key| delete.keys.contains(key.as_slice())).count();
                met == events.len() && events.iter().all(|event| deletes(&held.operation.input, event))
            }
            (request, [alone]) => deleted_by(request, alone),
            _ => false,
        };
        let slot = if does(&chosen) {
            in_time().filter(does).map(|held| held.index).collect()
        } else {
            vec![chosen.index]
        };
        return Guess { slot: Some(slot), ..Guess::default() };
    }
    let lease = change.events.first().and_then(|event| event.previous.as_ref()).map_or(0, |kv| kv.lease);
    Guess { lease: Some(lease), ..Guess::default() }
}

/// The put by which a request alone does what an event shows, to a key of that version before it, its value aside.
fn put_by<'r>(request: &'r Request, event: &Event) -> Option<&'r Put> {
    match request {
        Request::Put(put) => {
            (put.key == event.kv.key && !put.ignore_value && !put.ignore_lease).then_some(put)
        }
        Request::Txn(txn) => done_by(txn, event).and_then(|request| put_by(request, event)),
        _ => None,
    }
}

/// Whether a request alone deletes what an event shows, and nothing else.
fn deleted_by(request: &Request, event: &Event) -> bool {
    match request {
        Request::Delete(delete) => delete.keys.is_single() && delete.keys.key == event.kv.key,
        Request::Txn(txn) => done_by(txn, event).is_some_and(|request| deleted_by(request, event)),
        _ => false,
    }
}

/// The only write of a transaction whose conditions are of the event's key, and hold of the version before the event.
fn done_by<'t>(txn: &'t Txn, event: &Event) -> Option<&'t Request> {
    let before = event.previous.as_ref();
    let number = |of: fn(&KeyValue) -> i64| before.map_or(0, of);
    let holds = txn.compares.iter().all(|compare| {
        let is_equal = match &compare.target {
            Target::Version(version) => number(|kv| kv.version) == *version,
            Target::Create(revision) => number(|kv| kv.create_revision) == *revision,
            Target::Mod(revision) => number(|kv| kv.mod_revision) == *revision,
            Target::Value(_) | Target::Lease(_) => false,
        };
        compare.keys.is_single()
            && compare.keys.key == event.kv.key
            && compare.result == Relation::Equal
            && is_equal
    });
    let mut writes = txn.success.iter().filter(|request| request.may_write());
    match (writes.next(), writes.next()) {
        (Some(only), None) if holds && !matches!(only, Request::Txn(_)) => Some(only),
        _ => None,
    }
}

/// Whether what it does, if it does anything, is the same in every state.
fn has_one_effect(request: &Request) -> bool {
    match request {
        Request::Put(put) => !put.ignore_value && !put.ignore_lease,
        Request::Txn(txn) => {
            let writes = |branch: &[Request]| branch.iter().any(Request::may_write);
            !(writes(&txn.success) && writes(&txn.failure))
                && txn.success.iter().chain(&txn.failure).all(|request| match request {
                    Request::Put(put) => !put.ignore_value && !put.ignore_lease,
                    Request::Range(_) => true,
                    _ => false,
                })
        }
        _ => false,
    }
}

/// Whether a request may put this version.
fn puts(request: &Request, kv: &KeyValue) -> bool {
    match request {
        Request::Put(put) => put.key == kv.key && (put.value == kv.value || put.ignore_value),
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).any(|request| puts(request, kv)),
        _ => false,
    }
}

/// Whether a request may do what an event shows, which is a deletion.
fn deletes(request: &Request, event: &Event) -> bool {
    match request {
        Request::Delete(delete) => delete.keys.contains(event.kv.key.as_slice()),
        Request::LeaseRevoke { id } => event.previous.as_ref().is_some_and(|kv| kv.lease == *id),
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).any(|request| deletes(request, event)),
        _ => false,
    }
}

/// Calls `visit` with the keys that a request may write.
fn written(request: &Request, visit: &mut impl FnMut(&Keys)) {
    match request {
        Request::Put(put) => visit(&Keys::one(put.key.clone())),
        Request::Delete(delete) => visit(&delete.keys),
        Request::Txn(txn) => {
            txn.success.iter().chain(&txn.failure).for_each(|request| written(request, visit));
        }
        _ => {}
    }
}

/// Whether everything that some unclaimed revision may have touched is known at `until`. `since`: the last of those that are
/// not settled. `leased`: keys that may go with a lease.
pub(super) fn is_known(
    unknown: &[&Held],
    leased: &BTreeSet<Bytes>,
    sights: &Sights<'_>,
    (since, until): (i64, i64),
) -> bool {
    if sights.last_full(until).is_some_and(|at| at >= since) {
        return true;
    }
    let mut needed: BTreeSet<Keys> = leased.iter().map(|key| Keys::one(key.clone())).collect();
    for held in unknown {
        written(&held.operation.input, &mut |keys| {
            needed.insert(keys.clone());
        });
    }
    needed.iter().all(|keys| sights.show(keys, since, until))
}

/// Whether each slot can be given a write of its own: augmenting paths, the smallest slots first.
pub(super) fn can_be_filled(slots: &[Slot]) -> bool {
    let mut order: Vec<&Slot> = slots.iter().collect();
    order.sort_by_key(|slot| slot.len());
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    (0..order.len()).all(|slot| give(slot, &order, &mut taken, &mut BTreeSet::new()))
}

fn give(
    slot: usize,
    slots: &[&Slot],
    taken: &mut BTreeMap<usize, usize>,
    tried: &mut BTreeSet<usize>,
) -> bool {
    for write in slots[slot] {
        if !tried.insert(*write) {
            continue;
        }
        let other = taken.get(write).copied();
        if other.is_none_or(|other| give(other, slots, taken, tried)) {
            taken.insert(*write, slot);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::can_be_filled;

    #[test]
    fn every_slot_needs_a_write_of_its_own() {
        assert!(can_be_filled(&[]));
        assert!(can_be_filled(&[vec![1, 2], vec![1], vec![2, 3]]));
        assert!(!can_be_filled(&[vec![1, 2], vec![1], vec![2]]));
        assert!(!can_be_filled(&[vec![]]));
    }
}
