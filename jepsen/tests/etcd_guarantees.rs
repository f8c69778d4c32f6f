//! Watch properties, locks, leases and hashes: a violation of each, planted by hand, is found by its own rule, and
//! the same story without it is valid.

use quorate_jepsen::Verdict;
use quorate_jepsen::etcd::{
    Change, Error, EtcdHistory, Event, HashSeen, Hold, KeyValue, Keys, Log, Options, Put, Reply, Request,
    Response, WatchRequest, WatchResponse, WatchStream, check, check_fencing, check_hashes, check_ownership,
    check_watch, overlaps,
};

fn kv(key: &str, value: &str, created: i64, revision: i64, version: i64) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: value.into(),
        create_revision: created,
        mod_revision: revision,
        version,
        lease: 0,
    }
}

fn put(key: &str, value: &str, created: i64, revision: i64, version: i64) -> Event {
    Event { deleted: false, kv: kv(key, value, created, revision, version), previous: None }
}

fn deletion(key: &str, revision: i64) -> Event {
    let kv = KeyValue { key: key.into(), mod_revision: revision, ..KeyValue::default() };
    Event { deleted: true, kv, previous: None }
}

fn log(events: Vec<Vec<Event>>) -> Log {
    let change = |events: Vec<Event>| Change { revision: events[0].kv.mod_revision, since: 0, events };
    Log { changes: events.into_iter().map(change).collect(), compacted: false }
}

/// `a` is put, put again, deleted and made anew; then `b` and `c` in one revision.
fn changes() -> Log {
    let second = Event { previous: Some(kv("a", "1", 2, 2, 1)), ..put("a", "2", 2, 3, 2) };
    let third = Event { previous: Some(kv("a", "2", 2, 3, 2)), ..deletion("a", 4) };
    log(vec![
        vec![put("a", "1", 2, 2, 1)],
        vec![second],
        vec![third],
        vec![put("a", "3", 5, 5, 1)],
        vec![put("b", "1", 6, 6, 1), put("c", "1", 6, 6, 1)],
    ])
}

/// What a watch of everything from revision 2 on receives: a response per revision.
fn received() -> WatchStream {
    let changes = changes().changes;
    let responses = changes.into_iter().map(|change| WatchResponse {
        at: 10,
        revision: change.revision,
        events: change.events,
        ..WatchResponse::default()
    });
    let request =
        WatchRequest { keys: Keys::all(), start_revision: 2, prev_kv: true, ..WatchRequest::default() };
    WatchStream { process: 1, request, responses: responses.collect() }
}

#[track_caller]
fn breaks(rule: &str, change: impl FnOnce(&mut WatchStream)) {
    let mut stream = received();
    change(&mut stream);
    let violation = check_watch(&stream, &changes()).expect_err("a property is broken");
    assert_eq!(violation.rule, rule, "{violation}");
}

#[test]
fn an_honest_watch_has_all_nine_properties() {
    assert_eq!(check_watch(&received(), &changes()), Ok(()));
}

#[test]
fn each_broken_property_of_a_watch_is_named() {
    breaks("watch-filter", |stream| stream.request.keys = Keys::one("a"));
    breaks("watch-filter", |stream| stream.request.no_delete = true);
    breaks("watch-ordered", |stream| stream.responses.swap(0, 1));
    breaks("watch-unique", |stream| {
        let twin = stream.responses[1].events[0].clone();
        stream.responses[1].events.push(twin);
    });
    breaks("watch-atomic", |stream| {
        let half = WatchResponse {
            events: vec![stream.responses[4].events.remove(1)],
            ..stream.responses[4].clone()
        };
        stream.responses.push(half);
    });
    breaks("watch-bookmarkable", |stream| {
        stream.responses.insert(2, WatchResponse { at: 10, revision: 4, ..WatchResponse::default() });
    });
    breaks("watch-resumable", |stream| stream.request.start_revision = 3);
    breaks("watch-resumable", |stream| drop(stream.responses.remove(0)));
    breaks("watch-reliable", |stream| drop(stream.responses.remove(2)));
    breaks("watch-reliable", |stream| stream.responses[3].events[0].kv.value = "4".into());
    breaks("watch-is-create", |stream| stream.responses[1].events[0].kv.create_revision = 3);
    breaks("watch-is-create", |stream| stream.responses[3].events[0].kv.create_revision = 2);
    breaks("watch-previous", |stream| stream.responses[1].events[0].previous = None);
    breaks("watch-previous", |stream| stream.responses[2].events[0].previous = Some(kv("a", "1", 2, 2, 1)));
    breaks("watch-canceled", |stream| stream.responses[1].canceled = true);
}

#[test]
fn fragments_of_one_response_are_one_response() {
    let mut stream = received();
    let rest =
        WatchResponse { events: vec![stream.responses[4].events.remove(1)], ..stream.responses[4].clone() };
    stream.responses[4].fragment = true;
    stream.responses.push(rest);
    assert_eq!(check_watch(&stream, &changes()), Ok(()));
}

fn hold(process: u64, key: &str, token: i64, revision: i64, times: (u64, u64)) -> Hold {
    Hold { process, key: key.into(), token, revision, acquired: times.0, released: times.1 }
}

/// Two clients queue for a lock; the first one's key goes at revision 4.
fn queue() -> Log {
    log(vec![
        vec![put("lock/1", "", 2, 2, 1)],
        vec![put("lock/2", "", 3, 3, 1)],
        vec![deletion("lock/1", 4)],
        vec![put("other", "", 5, 5, 1)],
    ])
}

#[test]
fn the_owner_of_a_lock_is_the_smallest_key_that_is_there() {
    let holds = [hold(1, "lock/1", 2, 2, (0, 5)), hold(2, "lock/2", 3, 4, (6, 9))];
    assert_eq!(check_ownership(&queue(), b"lock/", &holds), Ok(()));
    for wrong in
        [hold(2, "lock/2", 3, 3, (6, 9)), hold(1, "lock/1", 2, 4, (0, 5)), hold(2, "lock/2", 2, 4, (6, 9))]
    {
        let violation = check_ownership(&queue(), b"lock/", &[wrong]).expect_err("not the owner");
        assert_eq!(violation.rule, "lock-ownership");
    }
}

#[test]
fn tokens_never_decrease_and_die_with_their_key() {
    assert_eq!(check_fencing(&queue(), b"lock/", &[(4, 2), (6, 3), (5, 3)]), Ok(()));
    for wrong in [vec![(5, 3), (6, 2)], vec![(5, 2)], vec![(3, 9)]] {
        let violation = check_fencing(&queue(), b"lock/", &wrong).expect_err("a stale token");
        assert_eq!(violation.rule, "lock-fencing");
    }
}

#[test]
fn clients_that_believe_to_own_a_lock_at_once_are_found() {
    let holds = [
        hold(1, "lock/1", 2, 2, (0, 10)),
        hold(2, "lock/2", 3, 4, (9, 12)),
        hold(3, "lock/3", 5, 6, (12, 13)),
    ];
    assert_eq!(overlaps(&holds), [(0, 1)]);
}

#[test]
fn equal_revisions_have_equal_hashes() {
    let seen =
        |member, revision, compact_revision, hash| HashSeen { member, revision, compact_revision, hash };
    let fine = [seen(1, 5, 0, 7), seen(2, 5, 0, 7), seen(3, 6, 0, 8), seen(1, 5, 3, 9)];
    assert_eq!(check_hashes(&fine), Ok(()));
    let violation = check_hashes(&[seen(1, 5, 0, 7), seen(2, 5, 0, 8)]).expect_err("members diverge");
    assert_eq!(violation.rule, "history-hash");
}

#[test]
fn a_lease_that_was_kept_alive_does_not_end_before_its_new_time() {
    let second = 1000;
    let story = |gone_at: u64| {
        let mut history = EtcdHistory::default();
        let mut step = |call: u64, request: Request, response: Response| {
            let id = history.operations.invoke(1, call, request);
            history.operations.ok(id, call + 10, response);
        };
        let alive = |revision| Response::at(revision, Reply::Lease { id: 7, ttl: 5 });
        step(0, Request::LeaseGrant { id: 7, ttl: 5 }, alive(1));
        step(4 * second, Request::LeaseKeepAlive { id: 7 }, alive(1));
        let put = Request::Put(Put { lease: 7, ..Put::new("k", "v") });
        step(gone_at, put, Response::refused(Error::LeaseNotFound));
        check(&history, &Options { ticks_per_second: Some(second), ..Options::default() })
    };
    assert!(story(9 * second).is_valid(), "its time is over");
    match story(8 * second) {
        Verdict::Invalid(violation) => assert_eq!(violation.rule, "lease"),
        other => panic!("it was kept alive until 9 seconds: {other}"),
    }
}

#[test]
fn the_last_second_of_a_lease_is_not_its_end() {
    let story = |ttl: i64| {
        let mut history = EtcdHistory::default();
        let mut step = |call: u64, request: Request, ttl: i64| {
            let id = history.operations.invoke(1, call, request);
            history.operations.ok(id, call + 10, Response::at(1, Reply::Lease { id: 7, ttl }));
        };
        step(0, Request::LeaseGrant { id: 7, ttl: 2 }, 2);
        step(1500, Request::LeaseTimeToLive { id: 7 }, ttl);
        check(&history, &Options { ticks_per_second: Some(1000), ..Options::default() })
    };
    assert!(story(0).is_valid(), "half a second is left");
    assert!(story(-1).is_invalid(), "it was there for two seconds");
}
