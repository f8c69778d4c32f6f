//! What the store costs per operation, with a million keys in it. Tracked, never gating.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use quorate_store::{
    Branch, Command, Compare, CompareResult, CompareTarget, Key, KeyRange, LeaseId, Operation, Put, Query,
    RangeEnd, RangeQuery, Revision, Store, Txn, Value, WatchId, WatchRequest,
};

const KEYS: u64 = 1_000_000;

criterion_group! {
    name = benches;
    config = Criterion::default()
        .without_plots()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = keys, watchers
}
criterion_main!(benches);

/// A number that looks random.
fn scramble(number: u64) -> u64 {
    let x = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20
}

fn key(number: u64) -> Key {
    Key::from(format!("/registry/things/{:08}", number % KEYS).as_str())
}

fn put(key: Key, value: &Value) -> Command {
    let (value, lease) = (Some(value.clone()), Some(LeaseId::NONE));
    Command::Put(Put { key, value, lease, previous: false })
}

fn keys(criterion: &mut Criterion) {
    let value = Value::from([b'v'; 256].as_slice());
    let mut store = Store::new();
    for i in 0..KEYS {
        store.apply(&put(key(i), &value));
    }
    // Commands come parsed; making them is not the store's work. Compaction goes along, as in real life.
    let mut next = 0;
    let mut count = 0u64;
    criterion.bench_function("put", |bencher| {
        let command = || {
            next += 1;
            put(key(scramble(next)), &Value::from([b'w'; 256].as_slice()))
        };
        let apply = |command| {
            count += 1;
            if count.is_multiple_of(10_000) {
                store.apply(&Command::Compact(Revision(store.revision().0 - 5_000)));
            }
            store.apply(&command)
        };
        bencher.iter_batched(command, apply, BatchSize::SmallInput);
    });
    criterion.bench_function("compare and swap", |bencher| {
        let txn = || {
            next += 1;
            let key = key(scramble(next));
            let range = KeyRange::single(key.clone());
            let target = CompareTarget::Version(0);
            let compare = Compare { range: range.clone(), result: CompareResult::Greater, target };
            let Command::Put(put) = put(key, &value) else { unreachable!("it is a put") };
            Command::Txn(Txn {
                branches: vec![Branch {
                    compares: vec![compare],
                    success: vec![Operation::Put(put)],
                    failure: vec![Operation::Range(RangeQuery::of(range))],
                }],
            })
        };
        bencher.iter_batched(txn, |command| store.apply(&command), BatchSize::SmallInput);
    });
    criterion.bench_function("get", |bencher| {
        let query = || {
            next += 1;
            Query::Range(RangeQuery::of(KeyRange::single(key(scramble(next)))))
        };
        bencher.iter_batched(query, |query| store.query(&query), BatchSize::SmallInput);
    });
    let page = KeyRange { start: key(500_000), end: RangeEnd::Before(key(900_000)) };
    criterion.bench_function("range of 1,000 out of 400,000", |bencher| {
        let query = Query::Range(RangeQuery { limit: 1000, ..RangeQuery::of(page.clone()) });
        bencher.iter(|| store.query(black_box(&query)));
    });
    let thousand = KeyRange { start: key(500_000), end: RangeEnd::Before(key(501_000)) };
    criterion.bench_function("range of 1,000 at a past revision", |bencher| {
        let revision = Some(Revision(store.revision().0 - 1));
        let query = Query::Range(RangeQuery { revision, ..RangeQuery::of(thousand.clone()) });
        bencher.iter(|| store.query(black_box(&query)));
    });
    criterion.bench_function("count of all", |bencher| {
        let everything = KeyRange { start: Key::default(), end: RangeEnd::Unbounded };
        let query = Query::Range(RangeQuery { count_only: true, ..RangeQuery::of(everything) });
        bencher.iter(|| store.query(black_box(&query)));
    });
}

fn watchers(criterion: &mut Criterion) {
    let value = Value::from([b'v'; 256].as_slice());
    let watch = |store: &mut Store, id, range| {
        let request = WatchRequest { range, start: None, previous: false, no_put: false, no_delete: false };
        store.watch(WatchId(id), request);
        store.credit(WatchId(id), u32::MAX);
    };

    let mut store = Store::new();
    (0..1000).for_each(|id| watch(&mut store, id, KeyRange::single(key(1))));
    criterion.bench_function("put of a key with 1,000 watchers, and their events", |bencher| {
        bencher.iter(|| {
            store.apply(&put(key(1), &value));
            while let Some(update) = store.poll_watch() {
                black_box(update);
            }
        });
    });

    let mut store = Store::new();
    for id in 0..10_000 {
        let start = Key::from(format!("/watched/{id:05}/").as_str());
        let end = RangeEnd::Before(Key::from(format!("/watched/{id:05}0").as_str()));
        watch(&mut store, id, KeyRange { start, end });
    }
    let mut next = 0;
    criterion.bench_function("64 puts under 10,000 watched prefixes, and their events", |bencher| {
        bencher.iter(|| {
            for _ in 0..64 {
                next += 1;
                let name = format!("/watched/{:05}/thing", scramble(next) % 10_000);
                store.apply(&put(Key::from(name.as_str()), &value));
            }
            while let Some(update) = store.poll_watch() {
                black_box(update);
            }
        });
    });
}
