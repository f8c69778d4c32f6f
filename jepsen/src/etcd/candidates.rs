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
use super::request::{Bytes, Compare, Put, Relation, Request, Target, Txn};
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
    /// The keys that it may write, ascending, if they are several; `None`: perhaps every one.
    pub keys: Option<Vec<KeyId>>,
    pub effect: Effect,
    /// It writes this or that, depending on the state.
    pub is_conditional: bool,
    /// Nothing but a put or a deletion of one key.
    pub is_plain: bool,
    /// The mod revision that the key must have.
    pub expects: Option<i64>,
    /// The last revision that it can make.
    pub until: i64,
    /// The unclaimed revision that has no other explanation.
    pub reserved: Option<i64>,
}

impl Group {
    /// The keys that it may write.
    pub fn touch(&self) -> Touch<'_> {
        match (self.key, &self.keys) {
            (Some(key), _) => Touch::One(key),
            (None, Some(keys)) => Touch::Some(keys),
            (None, None) => Touch::All,
        }
    }
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
    /// The end of a lease, which has no other key, by itself or by a revocation.
    End(i64),
}

/// Collects the candidates of a history, by call.
pub(super) fn collect(
    rare: &[Rare<'_>],
    (leases, store): (&Leases, &Timeline<'_>),
    options: &Options,
) -> Vec<Candidate> {
    let key_of = |lease| match leases.touch(lease) {
        Touch::One(key) => Some(Some(key)),
        // It never had any, so that its end changes nothing.
        Touch::Some([]) => None,
        Touch::Some(_) | Touch::All => Some(None),
    };
    let mut candidates = Vec::new();
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
                let Some(key) = key_of(id) else { continue };
                (operation.call.saturating_add(life), Cause::Expiry(id), key)
            }
            (Request::LeaseRevoke { id }, None) => {
                let Some(key) = key_of(*id) else { continue };
                (operation.call, Cause::Operation(number as u32), key)
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
#[derive(Default)]
pub(super) struct Leases {
    /// By lease: the keys that the history's requests attach to it, ascending; `None` if it had keys before.
    keys: FastMap<i64, Option<Vec<KeyId>>>,
}

impl Leases {
    pub fn of(rare: &[Rare<'_>], store: &Timeline<'_>, options: &Options) -> Leases {
        let mut leases = Leases::default();
        rare.iter().for_each(|rare| leases.note(&rare.operation.input, store));
        for (id, keys) in store.leased() {
            leases
                .keys
                .entry(id)
                .or_insert_with(|| Some(Vec::new()))
                .iter_mut()
                .for_each(|all| all.extend(keys));
        }
        // What was attached before the history began is not looked at more closely.
        for id in options.initial.leases().filter(|id| store.attached(*id).is_some()) {
            leases.keys.insert(id, None);
        }
        for keys in leases.keys.values_mut().flatten() {
            keys.sort_unstable();
            keys.dedup();
        }
        leases
    }

    /// Notes what a request attaches, if it is carried out.
    fn note(&mut self, request: &Request, store: &Timeline<'_>) {
        match request {
            Request::Put(put) if put.lease != 0 => {
                let key = store.id(put.key.as_slice()).expect("the keys of all puts are numbered");
                self.keys
                    .entry(put.lease)
                    .or_insert_with(|| Some(Vec::new()))
                    .iter_mut()
                    .for_each(|keys| keys.push(key));
            }
            Request::Txn(txn) => {
                txn.success.iter().chain(&txn.failure).for_each(|request| self.note(request, store));
            }
            _ => {}
        }
    }

    /// The keys that may go with a lease.
    pub fn touch(&self, lease: i64) -> Touch<'_> {
        match self.keys.get(&lease) {
            None => Touch::Some(&[]),
            Some(None) => Touch::All,
            Some(Some(keys)) => Touch::of(keys),
        }
    }
}

/// The keys that something may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touch<'a> {
    /// This one.
    One(KeyId),
    /// These, ascending.
    Some(&'a [KeyId]),
    /// Perhaps every one.
    All,
}

impl<'a> Touch<'a> {
    fn of(keys: &'a [KeyId]) -> Touch<'a> {
        if let [only] = keys { Touch::One(*only) } else { Touch::Some(keys) }
    }
}

/// Adds the keys that a request may write. False if they are too many.
fn written(request: &Request, store: &Timeline<'_>, leases: &Leases, keys: &mut Vec<KeyId>) -> bool {
    match request {
        Request::Put(put) => keys.extend(store.id(put.key.as_slice())),
        Request::Delete(delete) => keys.extend(store.span(&delete.keys)),
        Request::Txn(txn) => {
            let mut requests = txn.success.iter().chain(&txn.failure);
            return requests.all(|request| written(request, store, leases, keys));
        }
        Request::LeaseRevoke { id } => match leases.touch(*id) {
            Touch::One(key) => keys.push(key),
            Touch::Some(of_lease) => keys.extend(of_lease),
            Touch::All => return false,
        },
        _ => {}
    }
    keys.len() <= TOUCHED_MAX
}

/// Whether a request writes this or that, depending on the state, if it writes anything.
fn is_conditional(request: &Request) -> bool {
    let Request::Txn(txn) = request else { return false };
    let writes = |requests: &[Request]| requests.iter().any(Request::may_write);
    let nests = |request: &Request| matches!(request, Request::Txn(_)) && request.may_write();
    let (is_alone, nested) = match (writes(&txn.success), writes(&txn.failure)) {
        (true, true) => return true,
        (true, false) => (txn.success.len() == 1, &txn.success),
        _ => (txn.failure.len() == 1, &txn.failure),
    };
    match nested.iter().find(|request| nests(request)) {
        Some(only) if is_alone => is_conditional(only),
        Some(_) => true,
        None => false,
    }
}

/// Whether everything that a request may write is a put, or everything a deletion.
fn effect(request: &Request) -> Effect {
    match request {
        Request::Put(_) => Effect::Put,
        Request::Delete(_) | Request::LeaseRevoke { .. } => Effect::Deletion,
        Request::Txn(txn) => {
            let mut effects =
                txn.success.iter().chain(&txn.failure).filter(|request| request.may_write()).map(effect);
            let first = effects.next().unwrap_or(Effect::Any);
            if effects.all(|other| other == first) { first } else { Effect::Any }
        }
        _ => Effect::Any,
    }
}

/// The mod revision that the one key of a txn must have, if the txn is to write it.
fn expectation(txn: &Txn) -> Option<i64> {
    if txn.failure.iter().any(Request::may_write) {
        return None;
    }
    let written = txn.success.iter().find(|request| request.may_write()).and_then(single_key)?;
    txn.compares.iter().find_map(|compare| match compare.target {
        _ if compare.result != Relation::Equal
            || !compare.keys.is_single()
            || compare.keys.key != *written =>
        {
            None
        }
        Target::Mod(expected) => Some(expected),
        // It must not be there.
        Target::Create(0) | Target::Version(0) => Some(0),
        _ => None,
    })
}

/// The groups of some candidates. `wanted` says which values somebody saw at an unclaimed revision.
pub(super) fn group(
    candidates: &[Candidate],
    rare: &[Rare<'_>],
    (facts, leases, store): (&Facts, &Leases, &Timeline<'_>),
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
        let like = match (candidate.cause, request, candidate.key) {
            (_, Some(Request::Put(put)), Some(key)) if is_plain_put(put) => {
                Some((key, Like::Put(value_of(put, key))))
            }
            (_, Some(Request::Delete(_)), Some(key)) => Some((key, Like::Deletion)),
            (_, Some(Request::Txn(txn)), Some(key)) => {
                guarded_put(txn).map(|(expected, put)| (key, Like::Guarded(expected, value_of(put, key))))
            }
            (_, Some(Request::LeaseRevoke { id }), Some(key)) => Some((key, Like::End(*id))),
            (Cause::Expiry(id), None, Some(key)) => Some((key, Like::End(id))),
            _ => None,
        };
        let next = groups.len() as GroupId;
        let id = like.map_or(next, |like| *known.entry(like).or_insert(next));
        if id == next {
            let (until, expects) = match request {
                Some(Request::Txn(txn)) if candidate.key.is_some() => {
                    (last_chance(txn, facts, candidate.key), expectation(txn))
                }
                _ => (None, None),
            };
            let effect = match (candidate.key, request) {
                (Some(_), Some(request)) => effect(request),
                (Some(_), None) => Effect::Deletion,
                (None, _) => Effect::Any,
            };
            groups.push(Group {
                members: Vec::new(),
                key: candidate.key,
                keys: keys_of(candidate, request, store, leases),
                effect,
                is_conditional: request.is_some_and(is_conditional),
                is_plain: matches!(like, Some((_, Like::Put(_) | Like::Deletion))),
                expects,
                until: until.unwrap_or(i64::MAX),
                reserved: None,
            });
        }
        groups[id as usize].members.push(number as u32);
    }
    groups
}

/// The keys of a candidate that may write several.
fn keys_of(
    candidate: &Candidate,
    request: Option<&Request>,
    store: &Timeline<'_>,
    leases: &Leases,
) -> Option<Vec<KeyId>> {
    if candidate.key.is_some() {
        return None;
    }
    let mut keys = Vec::new();
    let are_few = match (candidate.cause, request) {
        (Cause::Expiry(id), _) => written(&Request::LeaseRevoke { id }, store, leases, &mut keys),
        (_, Some(request)) => written(request, store, leases, &mut keys),
        (_, None) => false,
    };
    keys.sort_unstable();
    keys.dedup();
    are_few.then_some(keys)
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

/// With more keys than this, a candidate is taken to write any.
const TOUCHED_MAX: usize = 256;

/// Stands for a decision where there is none.
pub(super) const UNUSED: u32 = u32::MAX;
