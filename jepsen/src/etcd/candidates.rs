//! Operations that may have taken effect without anybody being told, and the lease expiries that may have
//! happened.
//!
//! Many of them are as good as each other: of two puts to the same key whose values nobody ever saw, it makes
//! no difference which one happened. What nobody was told does not matter either: a txn that puts a key and reads
//! three is a put. So candidates that do the same (see [`Effects`]) are one *group*, and a search that has failed with
//! one of them does not try another.

use std::collections::HashSet;

use super::facts::Facts;
use super::order::{Options, seen_versions};
use super::outcome::{KeyValue, Reply, Response};
use super::records::{Atom, Rare, Records};
use super::request::{Bytes, Compare, Delete, Keys, Put, Relation, Request, SortTarget, Target, Txn};
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
    /// What its first member does, without what it reads; `None`: it ends a lease.
    pub request: Option<Request>,
    pub key: Option<KeyId>,
    /// The keys that it may write, ascending, if they are several; `None`: perhaps every one.
    pub keys: Option<Vec<KeyId>>,
    pub effect: Effect,
    /// It writes this or that, depending on the state.
    pub is_conditional: bool,
    /// The keys that it then depends on, ascending; `None`: perhaps on every one.
    pub compares: Option<Vec<KeyId>>,
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

/// What makes candidates as good as each other.
#[derive(PartialEq, Eq, Hash)]
enum Like {
    /// They put this key, with a value of this class.
    Put(KeyId, Class),
    /// They delete this key.
    Deletion(KeyId),
    /// They end this lease, whether by a revocation or by its time.
    End(i64),
    /// They do this, what nobody was told left out.
    Effect(Request),
}

/// Values of a key that nobody can tell apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Class {
    /// This one alone.
    Only(Atom),
    /// Those that nobody saw and that lie behind so many of the values that somebody compared the key with.
    Behind(usize),
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

/// The keys that the compares of a request are about, ascending; none if they are too many.
fn compared_keys(request: &Request, store: &Timeline<'_>) -> Option<Vec<KeyId>> {
    fn collect(request: &Request, store: &Timeline<'_>, keys: &mut Vec<KeyId>) -> bool {
        let Request::Txn(txn) = request else { return true };
        for compare in &txn.compares {
            let span = store.span(&compare.keys);
            if span.len() > SPAN_MAX {
                return false;
            }
            keys.extend(span);
        }
        txn.success.iter().chain(&txn.failure).all(|request| collect(request, store, keys))
    }
    let mut keys = Vec::new();
    let are_few = collect(request, store, &mut keys);
    keys.sort_unstable();
    keys.dedup();
    are_few.then_some(keys)
}

/// Whether everything that a request may write is a put, or everything a deletion.
fn effect(request: &Request) -> Effect {
    match request {
        Request::Put(_) => Effect::Put,
        Request::Delete(_) | Request::LeaseRevoke { .. } => Effect::Deletion,
        Request::Txn(txn) => {
            let writes = |request: &&Request| request.may_write();
            if [&txn.success, &txn.failure].iter().any(|branch| branch.iter().filter(writes).count() > 1) {
                return Effect::Any;
            }
            let mut effects = txn.success.iter().chain(&txn.failure).filter(writes).map(effect);
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
    records: &Records<'_>,
    (facts, leases, store): (&Facts, &Leases, &Timeline<'_>),
    wanted: &FastMap<(KeyId, Atom), u32>,
) -> Vec<Group> {
    let rare = records.rare();
    let effects = Effects::new(records, store, wanted);
    let mut groups: Vec<Group> = Vec::new();
    let mut known: FastMap<Like, GroupId> = FastMap::default();
    for (number, candidate) in candidates.iter().enumerate() {
        let request = match candidate.cause {
            Cause::Operation(number) => Some(&rare[number as usize].operation.input),
            Cause::Expiry(_) => None,
        };
        let done = request.and_then(effect_of);
        let like = match (candidate.cause, &done) {
            (Cause::Expiry(id), _) => Like::End(id),
            (_, Some(Request::LeaseRevoke { id })) => Like::End(*id),
            (_, Some(done)) => effects.like(done, candidate.key),
            (_, None) => unreachable!("what is a candidate may write"),
        };
        let next = groups.len() as GroupId;
        let is_plain = matches!(like, Like::Put(..) | Like::Deletion(_));
        let id = *known.entry(like).or_insert(next);
        if id == next {
            let (until, expects) = match &done {
                Some(Request::Txn(txn)) if candidate.key.is_some() => {
                    (last_chance(txn, facts, candidate.key), expectation(txn))
                }
                _ => (None, None),
            };
            groups.push(Group {
                members: Vec::new(),
                key: candidate.key,
                keys: keys_of(candidate, done.as_ref(), store, leases),
                effect: match (candidate.key, &done) {
                    (Some(_), Some(request)) => effect(request),
                    (Some(_), None) => Effect::Deletion,
                    (None, _) => Effect::Any,
                },
                is_conditional: done.as_ref().is_some_and(is_conditional),
                compares: done.as_ref().map_or(Some(Vec::new()), |done| compared_keys(done, store)),
                is_plain,
                request: done,
                expects,
                until: until.unwrap_or(i64::MAX),
                reserved: None,
            });
        }
        groups[id as usize].members.push(number as u32);
    }
    groups
}

/// What of a request changes anything, if any of it does: without what it reads, in one form of many that mean the same.
fn effect_of(request: &Request) -> Option<Request> {
    match request {
        Request::Put(put) => Some(Request::Put(Put { prev_kv: false, ..put.clone() })),
        Request::Delete(delete) => Some(Request::Delete(Delete { prev_kv: false, ..delete.clone() })),
        Request::LeaseRevoke { id } => Some(Request::LeaseRevoke { id: *id }),
        Request::Txn(txn) => {
            let mut compares: Vec<Compare> = Vec::with_capacity(txn.compares.len());
            for compare in &txn.compares {
                if !compares.contains(compare) {
                    compares.push(compare.clone());
                }
            }
            // A txn that reads the future is refused as a whole.
            let matters = |request: &&Request| match request {
                Request::Range(range) => range.revision > 0,
                _ => true,
            };
            let done = |requests: &[Request]| -> Vec<Request> {
                let kept = requests.iter().filter(matters);
                kept.filter_map(|request| match request {
                    Request::Range(_) => Some(request.clone()),
                    _ => effect_of(request),
                })
                .collect()
            };
            let (mut success, failure) = (done(&txn.success), done(&txn.failure));
            if compares.is_empty() && success.len() == 1 && success[0].may_write() {
                return success.pop();
            }
            let writes = success.iter().chain(&failure).any(Request::may_write);
            writes.then_some(Request::Txn(Txn { compares, success, failure }))
        }
        _ => None,
    }
}

/// What tells candidates apart.
struct Effects<'a, 'h> {
    store: &'a Timeline<'h>,
    /// The values that somebody saw at an unclaimed revision.
    wanted: &'a FastMap<(KeyId, Atom), u32>,
    /// By key: what its value is held against.
    uses: Vec<Uses>,
    /// Of keys whose values are kept by later puts: those that somebody saw at all.
    shown: HashSet<(KeyId, Atom)>,
}

/// How the values of a key are used, beyond being shown at their own revision.
#[derive(Clone, Default)]
struct Uses {
    /// What they are compared with, in order.
    compared: Vec<Bytes>,
    /// They decide about an order.
    sort: bool,
    /// Later puts may keep them.
    are_kept: bool,
}

/// How a value is used.
enum Use<'a> {
    Compared(&'a Bytes),
    Sorted,
    Kept,
}

impl<'a, 'h> Effects<'a, 'h> {
    fn new(
        records: &Records<'_>,
        store: &'a Timeline<'h>,
        wanted: &'a FastMap<(KeyId, Atom), u32>,
    ) -> Effects<'a, 'h> {
        let mut uses = vec![Uses::default(); store.key_count()];
        for rare in records.rare() {
            uses_values(&rare.operation.input, &mut |keys, how| {
                for key in store.span(keys) {
                    let uses = &mut uses[key as usize];
                    match how {
                        Use::Compared(value) => uses.compared.push(value.clone()),
                        Use::Sorted => uses.sort = true,
                        Use::Kept => uses.are_kept = true,
                    }
                }
            });
        }
        for uses in &mut uses {
            uses.compared.sort_unstable();
            uses.compared.dedup();
        }
        let mut effects = Effects { store, wanted, uses, shown: HashSet::new() };
        if effects.uses.iter().any(|uses| uses.are_kept) {
            effects.collect_shown(records);
        }
        effects
    }

    fn collect_shown(&mut self, records: &Records<'_>) {
        let Effects { store, uses, shown, .. } = self;
        let mut show = |kv: &KeyValue| {
            if let (Some(key), Some(value)) = (store.id(kv.key.as_slice()), store.atom(kv.value.as_slice()))
                && uses[key as usize].are_kept
            {
                shown.insert((key, value));
            }
        };
        for record in records.all() {
            match (records.rare_of(record), records.shown(record)) {
                (Some(operation), _) => {
                    if let Some(Response { result: Ok(reply), .. }) = operation.output() {
                        seen_versions(reply, &mut show);
                    }
                }
                (None, Some(kv)) => show(&kv),
                (None, None) => {}
            }
        }
        for event in records.watches().iter().flat_map(|stream| &stream.responses).flat_map(|r| &r.events) {
            show(&event.kv);
            event.previous.iter().for_each(&mut show);
        }
    }

    fn like(&self, done: &Request, key: Option<KeyId>) -> Like {
        match (done, key) {
            (Request::Put(put), Some(key)) if is_plain_put(put) => Like::Put(key, self.class(put)),
            (Request::Delete(_), Some(key)) => Like::Deletion(key),
            _ => {
                let mut done = done.clone();
                self.forget_values(&mut done);
                Like::Effect(done)
            }
        }
    }

    /// The class of what a put writes.
    fn class(&self, put: &Put) -> Class {
        let key = self.store.id(put.key.as_slice()).expect("the keys of all puts are numbered");
        let value = self.store.atom(put.value.as_slice()).expect("what may be written has a number");
        let uses = &self.uses[key as usize];
        let place = (key, value);
        if uses.sort || self.wanted.contains_key(&place) || self.shown.contains(&place) {
            return Class::Only(value);
        }
        match uses.compared.binary_search(&put.value) {
            Ok(_) => Class::Only(value),
            Err(place) => Class::Behind(place),
        }
    }

    /// Replaces values that nobody can tell apart by the name of their class.
    fn forget_values(&self, request: &mut Request) {
        match request {
            Request::Put(put) => {
                if let Class::Behind(place) = self.class(put) {
                    put.value = Bytes::from(place.to_string().as_str());
                    // Not the same as a put of this value, which somebody may have seen.
                    put.prev_kv = true;
                }
            }
            Request::Txn(txn) => {
                txn.success
                    .iter_mut()
                    .chain(&mut txn.failure)
                    .for_each(|request| self.forget_values(request));
            }
            _ => {}
        }
    }
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

/// Calls `visit` with the keys whose values decide what a request does or answers, beyond showing them at their own
/// revision, and how.
fn uses_values(request: &Request, visit: &mut impl FnMut(&Keys, Use<'_>)) {
    match request {
        // Without a limit it shows all values that it sorts.
        Request::Range(range) if range.sort_target == SortTarget::Value && range.limit > 0 => {
            visit(&range.keys, Use::Sorted);
        }
        Request::Put(put) if put.ignore_value => visit(&Keys::one(put.key.clone()), Use::Kept),
        Request::Txn(txn) => {
            for compare in &txn.compares {
                if let Target::Value(value) = &compare.target {
                    visit(&compare.keys, Use::Compared(value));
                }
            }
            txn.success.iter().chain(&txn.failure).for_each(|request| uses_values(request, visit));
        }
        _ => {}
    }
}

/// Which keys candidates may write.
pub(super) struct Written {
    /// By key: whether one may write it at all.
    pub at_all: Vec<bool>,
    /// By key: whether one may put it.
    pub by_put: Vec<bool>,
}

impl Written {
    pub fn new(
        candidates: &[Candidate],
        rare: &[Rare<'_>],
        (leases, store): (&Leases, &Timeline<'_>),
    ) -> Written {
        let none = vec![false; store.key_count()];
        let mut written = Written { at_all: none.clone(), by_put: none };
        for candidate in candidates {
            match candidate.cause {
                Cause::Expiry(lease) => written.end(leases.touch(lease)),
                Cause::Operation(number) => {
                    written.note(&rare[number as usize].operation.input, leases, store);
                }
            }
        }
        written
    }

    fn note(&mut self, request: &Request, leases: &Leases, store: &Timeline<'_>) {
        match request {
            Request::Put(put) => {
                let key = store.id(put.key.as_slice()).expect("the keys of all puts are numbered");
                self.at_all[key as usize] = true;
                self.by_put[key as usize] = true;
            }
            Request::Delete(delete) => {
                let span = store.span(&delete.keys);
                // Of so many keys, not every one is looked at.
                if span.len() <= SPAN_MAX {
                    span.for_each(|key| self.at_all[key as usize] = true);
                }
            }
            Request::Txn(txn) => {
                txn.success.iter().chain(&txn.failure).for_each(|request| self.note(request, leases, store));
            }
            Request::LeaseRevoke { id } => self.end(leases.touch(*id)),
            _ => {}
        }
    }

    fn end(&mut self, touch: Touch<'_>) {
        match touch {
            Touch::One(key) => self.at_all[key as usize] = true,
            Touch::Some(keys) => keys.iter().for_each(|key| self.at_all[*key as usize] = true),
            Touch::All => {}
        }
    }
}

/// With more keys than this, not every one is looked at.
pub(super) const SPAN_MAX: usize = 256;
/// With more keys than this, a candidate is taken to write any.
const TOUCHED_MAX: usize = 256;

/// Stands for a decision where there is none.
pub(super) const UNUSED: u32 = u32::MAX;
