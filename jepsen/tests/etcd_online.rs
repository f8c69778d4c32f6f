//! Judging a history of etcd as it comes: the verdict is that of the whole, and what is held does not grow with it.

mod common;

use common::{Random, Shape, correct_history, correct_watch, spoil};
use quorate_jepsen::Verdict;
use quorate_jepsen::etcd::online::Online;
use quorate_jepsen::etcd::{
    EtcdHistory, KeyValue, Keys, Options, Range, Reply, Request, Response, Store, WatchStream, check,
};
use quorate_jepsen::online::Bounds;
use quorate_jepsen::{Operation, Returned};

const SHAPE: Shape =
    Shape { operations: 300, processes: 4, keys: 3, unknown: 10, values: 0, everything: false, plain: false };

const SMALL: Bounds = Bounds {
    part: 12,
    lag: 40,
    operations: 4000,
    open: 4000,
    leases: 4000,
    past_bytes: 4 << 20,
    configurations: 1 << 12,
};

/// Feeds a history, and gives the verdict and how much was held.
fn judge(history: &EtcdHistory, options: &Options, bounds: Bounds) -> (Verdict, usize) {
    let mut online = Online::new(options.clone(), bounds);
    let mut watches: Vec<WatchStream> = history.watches.clone();
    watches.sort_by_key(|stream| stream.responses.last().map_or(0, |response| response.at));
    for operation in &history.operations.operations {
        let (due, later) = watches.into_iter().partition::<Vec<_>, _>(|stream| {
            stream.responses.first().is_none_or(|response| response.at < operation.call)
        });
        due.into_iter().for_each(|stream| online.push_watch(stream));
        watches = later;
        online.push(operation.clone());
    }
    watches.into_iter().for_each(|stream| online.push_watch(stream));
    let verdict = online.conclude();
    (verdict, online.peak())
}

/// Counts valid, invalid and undecided histories; there are no others.
fn compare(shape: Shape, seeds: u64, bounds: Bounds, watches: u64) -> [u64; 3] {
    let mut seen = [0; 3];
    for seed in 0..seeds {
        let mut random = Random::new(seed);
        let mut recorded = correct_history(&mut random, shape);
        for _ in 0..random.below(watches + 1) {
            let stream = correct_watch(&mut random, &recorded, shape);
            recorded.history.watches.push(stream);
        }
        let mut history = recorded.history;
        for _ in 0..random.below(3) {
            spoil(&mut random, &mut history);
        }
        let whole = check(&history, &Options::default());
        let (online, _) = judge(&history, &Options::default(), bounds);
        let agree = matches!(
            (&whole, &online),
            (Verdict::Valid, Verdict::Valid)
                | (Verdict::Invalid(_), Verdict::Invalid(_))
                | (_, Verdict::Unknown(_))
        );
        assert!(agree, "seed {seed}: as a whole {whole}\nas it came {online}");
        let place = match online {
            Verdict::Valid => 0,
            Verdict::Invalid(_) => 1,
            Verdict::Unknown(_) => 2,
        };
        seen[place] += 1;
    }
    seen
}

#[test]
fn what_is_judged_as_it_comes_is_what_is_judged_as_a_whole() {
    let [valid, invalid, unknown] = compare(Shape { unknown: 0, ..SHAPE }, 600, SMALL, 0);
    assert!(
        valid > 200 && invalid > 200 && unknown == 0,
        "{valid} valid, {invalid} invalid, {unknown} unknown"
    );
    let [valid, invalid, unknown] = compare(SHAPE, 600, SMALL, 0);
    assert!(
        valid > 150 && invalid > 200 && unknown < 40,
        "{valid} valid, {invalid} invalid, {unknown} unknown"
    );
    let shape = Shape { values: 2, unknown: 40, operations: 60, ..SHAPE };
    let [valid, invalid, unknown] = compare(shape, 600, SMALL, 0);
    assert!(
        valid > 200 && invalid > 200 && unknown < 20,
        "{valid} valid, {invalid} invalid, {unknown} unknown"
    );
}

#[test]
fn leases_compactions_and_reads_of_the_past_are_judged_as_they_come() {
    let shape = Shape { everything: true, ..SHAPE };
    let [valid, invalid, unknown] = compare(Shape { unknown: 0, ..shape }, 500, SMALL, 0);
    assert!(
        valid > 150 && invalid > 150 && unknown < 10,
        "{valid} valid, {invalid} invalid, {unknown} unknown"
    );
    let [valid, invalid, unknown] = compare(shape, 500, SMALL, 0);
    assert!(
        valid > 100 && invalid > 150 && unknown < 100,
        "{valid} valid, {invalid} invalid, {unknown} unknown"
    );
}

#[test]
fn watches_are_judged_as_they_come() {
    let [valid, invalid, unknown] = compare(Shape { operations: 100, ..SHAPE }, 800, SMALL, 3);
    assert!(
        valid > 250 && invalid > 250 && unknown < 50,
        "{valid} valid, {invalid} invalid, {unknown} unknown"
    );
}

/// A long right history, and one operation behind it.
fn long(operations: usize, unknown: u64) -> (EtcdHistory, Store, u64) {
    let shape = Shape { operations, unknown, keys: 5, processes: 8, ..SHAPE };
    let recorded = correct_history(&mut Random::new(operations as u64 + unknown), shape);
    let all = &recorded.history.operations.operations;
    let end = all.iter().filter_map(|operation| Some(operation.returned.as_ref()?.at)).max().unwrap_or(0);
    (recorded.history, recorded.store, end + 1)
}

fn add(history: &mut EtcdHistory, at: u64, request: Request, response: Response) {
    let returned = Some(Returned { at: at + 1, output: response });
    history.operations.operations.push(Operation { process: 77, call: at, input: request, returned });
}

/// Puts something wrong behind a history.
type Plant = Box<dyn Fn(&mut EtcdHistory, &Store, u64)>;

/// What may be wrong in the end; each with the rule that it breaks.
fn planted() -> Vec<(&'static str, Plant)> {
    let everything = || Request::Range(Range::of(Keys::all()));
    let read = |store: &Store, change: &dyn Fn(&mut Vec<KeyValue>)| {
        let mut present: Vec<KeyValue> =
            (0..5).filter_map(|key| store.current(format!("k{key}").as_bytes()).cloned()).collect();
        change(&mut present);
        let count = present.len() as i64;
        Response::at(store.revision(), Reply::Range { kvs: present, more: false, count })
    };
    let put = |revision: i64| {
        (
            Request::Put(quorate_jepsen::etcd::Put::new("k0", "planted")),
            Response::at(revision, Reply::Put { previous: None }),
        )
    };
    vec![
        (
            "replay",
            Box::new(move |history, store, at| {
                add(history, at, everything(), read(store, &|kvs| kvs[0].value = "never".into()));
            }),
        ),
        (
            "replay",
            Box::new(move |history, store, at| {
                add(
                    history,
                    at,
                    everything(),
                    read(store, &|kvs| {
                        kvs.remove(0);
                    }),
                );
            }),
        ),
        (
            "real-time",
            Box::new(move |history, store, at| {
                add(history, at, everything(), read(store, &|_| ()));
                let older = Response { revision: store.revision() - 1, ..read(store, &|_| ()) };
                add(history, at + 10, everything(), older);
            }),
        ),
        (
            "one-writer",
            Box::new(move |history, store, at| {
                for _ in 0..2 {
                    let (request, response) = put(store.revision() + 1);
                    add(history, at, request, response);
                }
            }),
        ),
        (
            "unexplained-revision",
            Box::new(move |history, store, at| {
                add(history, at, everything(), read(store, &|_| ()));
                let (request, response) = put(store.revision() + 2000);
                add(history, at + 10, request, response);
            }),
        ),
    ]
}

#[test]
fn what_is_planted_is_found_and_told_in_the_same_words() {
    for (rule, plant) in planted() {
        let (mut history, store, end) = long(3000, 0);
        plant(&mut history, &store, end);
        let Verdict::Invalid(whole) = check(&history, &Options::default()) else { panic!("{rule} is found") };
        let bounds = Bounds { part: 100, ..SMALL };
        let Verdict::Invalid(online) = judge(&history, &Options::default(), bounds).0 else {
            panic!("{rule} is found as it comes")
        };
        assert_eq!(online.rule, rule);
        assert_eq!(online.sentence, whole.sentence);
        // Who wrote what was seen may have been let go.
        assert_eq!(online.operations[0], whole.operations[0]);
        assert!(
            online.operations.iter().all(|index| whole.operations.contains(index)),
            "{online:?} {whole:?}"
        );
    }
}

#[test]
fn what_is_held_does_not_grow_with_the_history() {
    let bounds = Bounds { part: 100, past_bytes: 1 << 14, ..SMALL };
    for (unknown, share) in [(0, 0), (2, 1)] {
        let mut peaks = Vec::new();
        for operations in [3_000, 12_000] {
            let (history, _, _) = long(operations, unknown);
            let (verdict, peak) = judge(&history, &Options::default(), bounds);
            assert!(verdict.is_valid(), "{verdict}");
            // Writes that may still happen are kept.
            let lost =
                history.operations.operations.iter().filter(|operation| operation.returned.is_none()).count();
            assert!(peak < 400 + share * lost, "{peak} held of {operations}, {lost} lost");
            peaks.push(peak.saturating_sub(share * lost));
        }
        assert!(peaks[1] < peaks[0] + 200, "{peaks:?}");
    }
}
