//! A dumb, correct etcd and a register, and clients that use them concurrently: the source of random histories.
#![allow(dead_code, reason = "every test binary uses a part of this")]

pub mod naive;
pub mod partitions;

use quorate_jepsen::etcd::{
    Bytes, Compare, Delete, EtcdHistory, Event, KeyValue, Keys, Put, Range, Relation, Reply, Request,
    Response, SortOrder, SortTarget, Store, Target, Txn, WatchRequest, WatchResponse, WatchStream,
};
use quorate_jepsen::models::{RegisterInput, RegisterOutput};
use quorate_jepsen::{History, Operation, Returned, Value};

/// A small deterministic generator (xorshift), so that a failing case is named by its seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

/// What kind of history to make.
#[derive(Clone, Copy)]
pub struct Shape {
    pub operations: usize,
    pub processes: u64,
    pub keys: u64,
    /// Percentage of operations that are never answered.
    pub unknown: u64,
    /// Values are drawn from so many; zero: every value is new.
    pub values: u64,
    /// Leases, compactions and reads at old revisions as well.
    pub everything: bool,
    /// Nothing but gets (40 %), puts (35 %), compare-and-puts (15 %) and deletions of single keys.
    pub plain: bool,
}

/// The truth behind a history, for the watches.
pub struct Recorded {
    pub history: EtcdHistory,
    pub store: Store,
    pub log: Vec<(i64, u64, Vec<Event>)>,
}

/// A history as a correct etcd would give it.
pub fn correct_history(random: &mut Random, shape: Shape) -> Recorded {
    // Every operation takes effect at one moment between its call and its return.
    let mut store = Store::new();
    let mut history = EtcdHistory::default();
    let mut log = Vec::new();
    let mut idle: Vec<u64> = vec![0; shape.processes as usize];
    let mut pending: Vec<(u64, u64, u64, u64)> = Vec::new();
    for _ in 0..shape.operations {
        let process = (0..shape.processes).min_by_key(|process| idle[*process as usize]).unwrap();
        let call = idle[process as usize] + 1 + random.below(4);
        let effect = call + random.below(20);
        let end = effect + random.below(20);
        idle[process as usize] = end + 1;
        pending.push((effect, call, end, process));
    }
    pending.sort_unstable();
    let mut counter = 0;
    for (effect, call, end, process) in pending {
        let request = random_request(random, shape, &store, &mut counter);
        let unknown = random.chance(shape.unknown);
        let mut operation = Operation { process, call, input: request, returned: None };
        if !(unknown && random.chance(50)) {
            let response = execute(&mut store, &operation.input, effect, &mut log);
            operation.returned = (!unknown).then_some(Returned { at: end, output: response });
        }
        history.operations.operations.push(operation);
    }
    history.operations.operations.sort_by_key(|operation| operation.call);
    Recorded { history, store, log }
}

fn execute(store: &mut Store, request: &Request, at: u64, log: &mut Vec<(i64, u64, Vec<Event>)>) -> Response {
    match store.execute(request) {
        Err(error) => Response::refused(error),
        Ok(applied) => {
            let revision = store.revision();
            if !applied.changed.is_empty() {
                let event = |key: &Bytes| event_of(store, key, revision);
                log.push((revision, at, applied.changed.iter().map(event).collect()));
            }
            Response::at(revision, applied.expected.into_reply())
        }
    }
}

fn event_of(store: &Store, key: &Bytes, revision: i64) -> Event {
    let previous = store.version_at(key.as_slice(), revision - 1).cloned();
    match store.current(key.as_slice()) {
        Some(kv) => Event { deleted: false, kv: kv.clone(), previous },
        None => {
            let kv = KeyValue { key: key.clone(), mod_revision: revision, ..KeyValue::default() };
            Event { deleted: true, kv, previous }
        }
    }
}

fn key(random: &mut Random, shape: Shape) -> String {
    format!("k{}", random.below(shape.keys))
}

fn value(random: &mut Random, shape: Shape, counter: &mut u64) -> String {
    *counter += 1;
    if shape.values == 0 { counter.to_string() } else { random.below(shape.values).to_string() }
}

fn random_request(random: &mut Random, shape: Shape, store: &Store, counter: &mut u64) -> Request {
    if shape.plain {
        let name = key(random, shape);
        return match random.below(20) {
            0..=7 => Request::Range(Range::key(name.as_str())),
            8..=14 => Request::Put(Put::new(name.as_str(), value(random, shape, counter).as_str())),
            15..=17 => compare_and_put(random, shape, store, counter),
            _ => Request::Delete(Delete { keys: Keys::one(name.as_str()), prev_kv: false }),
        };
    }
    match random.below(if shape.everything { 28 } else { 17 }) {
        0..=5 => Request::Range(Range::key(key(random, shape).as_str())),
        6..=10 => {
            let key = key(random, shape);
            let prev_kv = random.chance(20);
            Request::Put(Put { prev_kv, ..Put::new(key.as_str(), value(random, shape, counter).as_str()) })
        }
        11 => Request::Delete(Delete {
            keys: Keys::one(key(random, shape).as_str()),
            prev_kv: random.chance(50),
        }),
        12..=14 => compare_and_put(random, shape, store, counter),
        15 => Request::Range(Range { limit: random.below(4) as i64, ..Range::of(Keys::all()) }),
        16 => Request::Txn(Txn {
            compares: vec![],
            success: vec![
                Request::Put(Put::new(key(random, shape).as_str(), value(random, shape, counter).as_str())),
                Request::Range(Range::of(Keys::between("k0", "k9"))),
            ],
            failure: vec![],
        }),
        17 => Request::LeaseGrant { id: 1 + random.below(1000) as i64, ttl: 60 },
        18 => Request::LeaseRevoke { id: some_lease(random, store) },
        19 | 20 => {
            let lease = some_lease(random, store);
            let put = Put::new(key(random, shape).as_str(), value(random, shape, counter).as_str());
            Request::Put(Put { lease, ..put })
        }
        21 => {
            let put = Put::new(key(random, shape).as_str(), value(random, shape, counter).as_str());
            Request::Put(Put { value: "".into(), ignore_value: true, ..put })
        }
        22 => Request::Range(intricate_range(random, shape)),
        23 => Request::Delete(Delete {
            keys: Keys::between(key(random, shape).as_str(), key(random, shape).as_str()),
            prev_kv: random.chance(50),
        }),
        24 => Request::Txn(Txn {
            compares: vec![Compare {
                keys: Keys::all(),
                result: Relation::Greater,
                target: Target::Version(random.below(3) as i64),
            }],
            success: vec![compare_and_put(random, shape, store, counter)],
            failure: vec![Request::Range(intricate_range(random, shape))],
        }),
        25 => Request::Compact { revision: random.below(store.revision() as u64 + 1) as i64 },
        _ => {
            let revision = random.below(store.revision() as u64 + 2) as i64;
            Request::Range(Range { revision, ..Range::of(Keys::all()) })
        }
    }
}

/// A range that is sorted, cut and filtered in some way.
fn intricate_range(random: &mut Random, shape: Shape) -> Range {
    let keys = match random.below(3) {
        0 => Keys::all(),
        1 => Keys::between(key(random, shape).as_str(), "\0"),
        _ => Keys::between("k", "k2"),
    };
    Range {
        limit: random.below(4) as i64,
        sort_order: *random.pick(&[SortOrder::None, SortOrder::Ascend, SortOrder::Descend]),
        sort_target: *random.pick(&[
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
            SortTarget::Value,
        ]),
        keys_only: random.chance(30),
        count_only: random.chance(20),
        min_mod_revision: if random.chance(20) { random.below(9) as i64 } else { 0 },
        max_create_revision: if random.chance(20) { random.below(9) as i64 } else { 0 },
        ..Range::of(keys)
    }
}

/// A lease that is attached to something, or one that may not exist.
fn some_lease(random: &mut Random, store: &Store) -> i64 {
    let present: Vec<i64> = (1..1000).filter(|id| store.has_lease(*id)).collect();
    if present.is_empty() || random.chance(10) { 2000 } else { *random.pick(&present) }
}

fn compare_and_put(random: &mut Random, shape: Shape, store: &Store, counter: &mut u64) -> Request {
    let key = key(random, shape);
    let current = store.current(key.as_bytes()).map_or(0, |kv| kv.mod_revision);
    let expected = if random.chance(70) { current } else { random.below(1 + current as u64) as i64 };
    let compare =
        Compare { keys: Keys::one(key.as_str()), result: Relation::Equal, target: Target::Mod(expected) };
    Request::Txn(Txn {
        compares: vec![compare],
        success: vec![Request::Put(Put::new(key.as_str(), value(random, shape, counter).as_str()))],
        failure: if random.chance(50) { vec![Request::Range(Range::key(key.as_str()))] } else { vec![] },
    })
}

/// A watch stream as a correct etcd would give it, for all keys or one.
pub fn correct_watch(random: &mut Random, recorded: &Recorded, shape: Shape) -> WatchStream {
    let last = recorded.store.revision();
    let start = 1 + random.below(last as u64) as i64;
    let keys = if random.chance(50) { Keys::all() } else { Keys::one(key(random, shape).as_str()) };
    let prev_kv = random.chance(50);
    let request = WatchRequest { keys, start_revision: start, prev_kv, ..WatchRequest::default() };
    let end = recorded.log.last().map_or(0, |(_, at, _)| *at) + 50;
    let mut stream = WatchStream { process: 99, request, responses: vec![] };
    let mut response = WatchResponse { at: end, revision: last, ..WatchResponse::default() };
    stream.responses.push(WatchResponse { created: true, ..response.clone() });
    for (revision, _, events) in &recorded.log {
        let wanted = events.iter().filter(|event| stream.request.keys.contains(event.kv.key.as_slice()));
        if *revision < start {
            continue;
        }
        response.events.extend(
            wanted
                .cloned()
                .map(|event| Event { previous: event.previous.filter(|_| stream.request.prev_kv), ..event }),
        );
        if !response.events.is_empty() && random.chance(50) {
            let events = std::mem::take(&mut response.events);
            stream.responses.push(WatchResponse { events, ..response.clone() });
            if random.chance(30) {
                stream.responses.push(WatchResponse { revision: *revision, ..response.clone() });
            }
        }
    }
    if !response.events.is_empty() {
        stream.responses.push(response);
    }
    stream
}

/// Makes one response wrong or one time earlier; gives false if it found nothing to change.
pub fn spoil(random: &mut Random, history: &mut EtcdHistory) -> bool {
    let answered: Vec<usize> = history
        .operations
        .operations
        .iter()
        .enumerate()
        .filter(|(_, operation)| operation.output().is_some_and(|response| response.result.is_ok()))
        .map(|(index, _)| index)
        .collect();
    if answered.is_empty() {
        return false;
    }
    let operation = &mut history.operations.operations[*random.pick(&answered)];
    let returned = operation.returned.as_mut().expect("answered");
    let response = &mut returned.output;
    match random.below(4) {
        0 => response.revision += if response.revision == 1 || random.chance(50) { 1 } else { -1 },
        1 => returned.at = operation.call,
        _ => match response.result.as_mut().expect("answered") {
            Reply::Range { kvs, count, .. } if kvs.is_empty() => *count += 1,
            Reply::Range { kvs, .. } | Reply::Delete { previous: kvs, .. } if !kvs.is_empty() => {
                let kv = &mut kvs[0];
                match random.below(3) {
                    0 => kv.value = "wrong".into(),
                    1 => kv.version += 1,
                    _ => kv.mod_revision -= 1,
                }
            }
            Reply::Txn { succeeded, .. } => *succeeded = !*succeeded,
            Reply::Put { previous } => *previous = previous.is_none().then(KeyValue::default),
            _ => return false,
        },
    }
    true
}

/// A register as a correct system would serve it; `values` zero: every write is of a new value.
pub fn register_history(
    operations: u64,
    clients: u64,
    values: u64,
) -> History<RegisterInput, RegisterOutput> {
    let mut random = Random::new(operations + clients);
    let mut idle = vec![0; clients as usize];
    let mut plan: Vec<(u64, u64, u64, u64)> = (0..operations)
        .map(|number| {
            let process = number % clients;
            let call = idle[process as usize] + 1;
            let effect = call + random.below(1000);
            let end = effect + random.below(1000);
            idle[process as usize] = end;
            (effect, call, end, process)
        })
        .collect();
    plan.sort_unstable();
    let mut state = Value::Nil;
    let mut written = 0;
    let mut value = |random: &mut Random| {
        written += 1;
        Value::Int(if values == 0 { written } else { random.below(values) as i64 })
    };
    let mut history = History::new();
    for (_, call, end, process) in plan {
        let (input, output) = match random.below(if values == 0 { 2 } else { 3 }) {
            0 => (RegisterInput::Read(None), RegisterOutput::Value(state.clone())),
            1 => {
                state = value(&mut random);
                (RegisterInput::Write(None, state.clone()), RegisterOutput::Done)
            }
            _ => {
                let (from, to) = (value(&mut random), value(&mut random));
                let swapped = from == state;
                if swapped {
                    state = to.clone();
                }
                (RegisterInput::CompareAndSet(None, from, to), RegisterOutput::Swapped(swapped))
            }
        };
        history.operations.push(Operation {
            process,
            call,
            input,
            returned: Some(Returned { at: end, output }),
        });
    }
    history
}
