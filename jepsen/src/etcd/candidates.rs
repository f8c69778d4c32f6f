//! Operations that may have taken effect without anybody being told, and the lease expiries that may have
//! happened.
//!
//! Many of them are as good as each other: of two puts to the same key whose values nobody ever saw, it makes
//! no difference which one happened. Such candidates are one *group*, and a search that has failed with one
//! of them does not try another.

use super::facts::Facts;
use super::order::Options;
use super::outcome::{Reply, Response};
use super::records::{Atom, Rare};
use super::request::{Bytes, Compare, Keys, Put, Relation, Request, Target, Txn};
use super::timeline::{KeyId, Timeline};
use crate::hash::FastMap;

/// The number of a group.
pub(super) type GroupId = u32;

/// An operation that may have taken effect.
pub(super) struct Candidate {
    pub call: u64,
    pub cause: Cause,
    /// The one key that it writes, if it writes one.
    pub key: Option<KeyId>,
    /// The decision that uses it, or [`UNUSED`].
    pub used_by: u32,
}

#[derive(Clone, Copy)]
pub(super) enum Cause {
    /// An operation of unknown outcome: its number among the rare ones.
    Operation(u32),
    /// The end of a lease's time to live.
    Expiry(i64),
}

/// Candidates that are as good as each other.
pub(super) struct Group {
    /// By call.
    pub members: Vec<u32>,
    pub key: Option<KeyId>,
    pub effect: Effect,
    /// Nothing but a put or a deletion of one key.
    pub is_plain: bool,
    /// The mod revision that the key must have.
    pub expects: Option<i64>,
    /// The last revision that it can make.
    pub until: i64,
    /// The unclaimed revision that has no other explanation.
    pub reserved: Option<i64>,
}

/// What a candidate does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Effect {
    /// It puts its key.
    Put,
    /// It deletes its key.
    Deletion,
    /// That depends.
    Any,
}

/// What makes candidates as good as each other, the key aside. Values count where they matter.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Like {
    Put(Option<Atom>),
    Deletion,
    /// A put if the key has this mod revision.
    Guarded(i64, Option<Atom>),
}

/// Collects the candidates of a history, by call.
pub(super) fn collect(rare: &[Rare<'_>], store: &Timeline<'_>, options: &Options) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    let attached = Attached::of(rare, store);
    for (number, Rare { operation, .. }) in rare.iter().enumerate() {
        let (call, cause, key) = match (&operation.input, operation.output()) {
            (Request::LeaseGrant { id, ttl }, output) => {
                let (id, ttl) = match output {
                    Some(Response { result: Ok(Reply::Lease { id, ttl }), .. }) => (*id, *ttl),
                    Some(_) => continue,
                    None => (*id, *ttl),
                };
                let ticks = options.ticks_per_second.unwrap_or(0);
                let life = u64::try_from(ttl).unwrap_or(0).saturating_mul(ticks);
                let Some(key) = attached.to(id) else { continue };
                (operation.call.saturating_add(life), Cause::Expiry(id), key.only())
            }
            (Request::LeaseRevoke { id }, None) => {
                let Some(key) = attached.to(*id) else { continue };
                (operation.call, Cause::Operation(number as u32), key.only())
            }
            (request, None) if request.may_write() => {
                let key = single_key(request).and_then(|key| store.id(key.as_slice()));
                (operation.call, Cause::Operation(number as u32), key)
            }
            _ => continue,
        };
        candidates.push(Candidate { call, cause, key, used_by: UNUSED });
    }
    // How long leases from before the history still live is not known.
    let expiry = |id| Candidate { call: 0, cause: Cause::Expiry(id), key: None, used_by: UNUSED };
    candidates.extend(options.initial.leases().map(expiry));
    candidates.sort_by_key(|candidate| candidate.call);
    candidates
}

/// The keys that leases may ever have had.
///
/// What ends a lease deletes what is attached to it then. Where that can only be one key, the end of the lease is a
/// deletion of that key or nothing, so a search need not hold all that was guessed before against it.
struct Attached<'s, 'h> {
    store: &'s Timeline<'h>,
    /// By lease: what the history's requests attach to it.
    keyed: FastMap<i64, Keyed>,
}

/// Which keys a lease may have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keyed {
    /// This one, and no other.
    One(KeyId),
    /// Several.
    Many,
}

impl Keyed {
    fn only(self) -> Option<KeyId> {
        match self {
            Keyed::One(key) => Some(key),
            Keyed::Many => None,
        }
    }
}

impl<'s, 'h> Attached<'s, 'h> {
    fn of(rare: &[Rare<'_>], store: &'s Timeline<'h>) -> Attached<'s, 'h> {
        let mut attached = Attached { store, keyed: FastMap::default() };
        rare.iter().for_each(|rare| attached.note(&rare.operation.input));
        attached
    }

    /// Notes what a request attaches, if it is carried out.
    fn note(&mut self, request: &Request) {
        match request {
            Request::Put(put) if put.lease != 0 => {
                let key = self.store.id(put.key.as_slice()).map_or(Keyed::Many, Keyed::One);
                let keyed = self.keyed.entry(put.lease).or_insert(key);
                if *keyed != key {
                    *keyed = Keyed::Many;
                }
            }
            Request::Txn(txn) => {
                txn.success.iter().chain(&txn.failure).for_each(|request| self.note(request));
            }
            _ => {}
        }
    }

    /// The keys of a lease; none if it never had any, so that its end changes nothing.
    fn to(&self, lease: i64) -> Option<Keyed> {
        // What was attached before the history began is not looked at more closely.
        let before = self.store.attached(lease).map(|_| Keyed::Many);
        before.or_else(|| self.keyed.get(&lease).copied())
    }
}

/// The groups of some candidates. `wanted` says which values somebody saw at an unclaimed revision.
pub(super) fn group(
    candidates: &[Candidate],
    rare: &[Rare<'_>],
    (facts, store): (&Facts, &Timeline<'_>),
    wanted: &FastMap<(KeyId, Atom), u32>,
) -> Vec<Group> {
    // Where values are compared, or kept, each of them matters.
    let values_matter = rare.iter().any(|rare| uses_values(&rare.operation.input));
    let mut groups: Vec<Group> = Vec::new();
    let mut known: FastMap<(KeyId, Like), GroupId> = FastMap::default();
    for (number, candidate) in candidates.iter().enumerate() {
        let request = match candidate.cause {
            Cause::Operation(number) => Some(&rare[number as usize].operation.input),
            Cause::Expiry(_) => None,
        };
        let value_of = |put: &Put, key: KeyId| {
            let value = store.atom(put.value.as_slice());
            value.filter(|value| values_matter || wanted.contains_key(&(key, *value)))
        };
        let like = match (request, candidate.key) {
            (Some(Request::Put(put)), Some(key)) if is_plain_put(put) => {
                Some((key, Like::Put(value_of(put, key))))
            }
            (Some(Request::Delete(_)), Some(key)) => Some((key, Like::Deletion)),
            (Some(Request::Txn(txn)), Some(key)) => {
                guarded_put(txn).map(|(expected, put)| (key, Like::Guarded(expected, value_of(put, key))))
            }
            _ => None,
        };
        let next = groups.len() as GroupId;
        let id = like.map_or(next, |like| *known.entry(like).or_insert(next));
        if id == next {
            let until = match request {
                Some(Request::Txn(txn)) => last_chance(txn, facts, candidate.key),
                _ => None,
            };
            let like = like.map(|(_, like)| like);
            let effect = match (like, request) {
                (Some(Like::Put(_)), _) => Effect::Put,
                (Some(Like::Deletion), _) => Effect::Deletion,
                (None, Some(Request::Put(_))) if candidate.key.is_some() => Effect::Put,
                // The end of a lease.
                (None, None | Some(Request::LeaseRevoke { .. })) if candidate.key.is_some() => {
                    Effect::Deletion
                }
                _ => Effect::Any,
            };
            let expects = if let Some(Like::Guarded(expected, _)) = like { Some(expected) } else { None };
            let until = until.unwrap_or(i64::MAX);
            groups.push(Group {
                members: Vec::new(),
                key: candidate.key,
                effect,
                is_plain: like.is_some() && expects.is_none(),
                expects,
                until,
                reserved: None,
            });
        }
        groups[id as usize].members.push(number as u32);
    }
    groups
}

/// The one key that a request writes, if it writes one.
fn single_key(request: &Request) -> Option<&Bytes> {
    match request {
        Request::Put(put) => Some(&put.key),
        Request::Delete(delete) if delete.keys.is_single() => Some(&delete.keys.key),
        Request::Txn(txn) => {
            let mut writes = txn.success.iter().chain(&txn.failure).filter(|request| request.may_write());
            let first = writes.next().and_then(single_key)?;
            writes.all(|other| single_key(other) == Some(first)).then_some(first)
        }
        _ => None,
    }
}

/// The last revision that a txn can make that writes only if its key has a certain mod revision: the key was
/// put by others after that.
fn last_chance(txn: &Txn, facts: &Facts, key: Option<KeyId>) -> Option<i64> {
    let key = key?;
    if txn.failure.iter().any(Request::may_write) {
        return None;
    }
    let written = txn.success.iter().find(|request| request.may_write()).and_then(single_key);
    let expected = txn.compares.iter().find_map(|compare| match compare.target {
        Target::Mod(expected) if compare.result == Relation::Equal && compare.keys.is_single() => {
            (written == Some(&compare.keys.key)).then_some(expected)
        }
        _ => None,
    })?;
    // A key that is expected to be missing may go missing again.
    if expected == 0 { None } else { facts.next_put(key, expected) }
}

fn is_plain_put(put: &Put) -> bool {
    !put.ignore_value && !put.ignore_lease && put.lease == 0
}

/// The mod revision that a txn expects, and the put that it then does, if that is all it may do.
fn guarded_put(txn: &Txn) -> Option<(i64, &Put)> {
    let ([compare], [Request::Put(put)]) = (txn.compares.as_slice(), txn.success.as_slice()) else {
        return None;
    };
    let Compare { keys, result: Relation::Equal, target: Target::Mod(expected) } = compare else {
        return None;
    };
    let is_all = is_plain_put(put) && !txn.failure.iter().any(Request::may_write);
    (is_all && keys.is_single() && keys.key == put.key).then_some((*expected, put))
}

/// Whether a request's effect depends on a value.
fn uses_values(request: &Request) -> bool {
    match request {
        Request::Put(put) => put.ignore_value,
        Request::Txn(txn) => {
            txn.compares.iter().any(|compare| matches!(compare.target, Target::Value(_)))
                || txn.success.iter().chain(&txn.failure).any(uses_values)
        }
        _ => false,
    }
}

/// What a candidate reads and writes.
pub(super) fn footprint(candidate: &Candidate, rare: &[Rare<'_>]) -> Vec<Keys> {
    let mut footprint = Vec::new();
    match candidate.cause {
        Cause::Operation(number) => {
            rare[number as usize].operation.input.footprint(&mut |keys| footprint.push(keys));
        }
        Cause::Expiry(_) => footprint.push(Keys::all()),
    }
    footprint
}

/// Stands for a decision where there is none.
pub(super) const UNUSED: u32 = u32::MAX;
