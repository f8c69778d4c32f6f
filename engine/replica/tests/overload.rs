//! A member that is asked for more than it can keep waiting refuses, leases last, and recovers.

mod cluster;

use std::time::Duration;

use cluster::{Cluster, Event, Options};
use quorate_raft::NodeId;
use quorate_replica::{Consistency, Error, Input, Request};
use quorate_store::{Blob, Command, LeaseId, Put, Query};

const MEMBER: NodeId = NodeId(1);

/// A leader whose quorum does not answer keeps what it has proposed in memory, whether or not anybody still waits for
/// it. That is bounded in bytes, and leases come through.
#[test]
fn uncommitted_commands_are_bounded_in_bytes() {
    let mut cluster = Cluster::new(Options::default(), 1);
    cluster.campaign(MEMBER, false);
    cluster.settle();
    let value = Blob::from("x".repeat(4 << 20).as_str());
    let put = || {
        let (key, value, lease) = (Blob::from("k"), Some(value.clone()), Some(LeaseId::NONE));
        Request::Command(Command::Put(Put { key, value, lease, previous: false }))
    };
    let mut taken = 0;
    loop {
        let id = cluster.request(MEMBER, put());
        let events = cluster.poll(MEMBER);
        if matches!(events.as_slice(), [Event::Respond(_, Err(Error::TooManyRequests))]) {
            break;
        }
        assert!(events.is_empty(), "neither waiting nor refused: {events:?}");
        taken += 1;
        assert!(taken < 1_000, "there is a bound");
        // The client has gone, and its command is still in the log.
        cluster.handle(MEMBER, Input::Cancel { id });
    }
    assert!(taken > 10, "the bound is not narrow");
    cluster.request(MEMBER, Request::KeepAlive(LeaseId(7)));
    assert!(cluster.poll(MEMBER).is_empty(), "a keep-alive is taken");
}

#[test]
fn leases_are_refused_last_and_everything_is_answered_once() {
    let mut cluster = Cluster::new(Options::default(), 1);
    // Nobody leads, so whatever is asked waits.
    let query = || Request::Query { query: Query::Leases, consistency: Consistency::Linearizable };
    let mut asked = 0;
    let mut ask_until_refused = |cluster: &mut Cluster, request: &dyn Fn() -> Request| {
        let before = asked;
        loop {
            asked += 1;
            let id = cluster.request(MEMBER, request());
            match cluster.poll(MEMBER).as_slice() {
                [] => {}
                [Event::Respond(refused, Err(Error::TooManyRequests))] if *refused == id => break,
                other => panic!("neither waiting nor refused: {other:?}"),
            }
        }
        asked - before - 1
    };
    let queries = ask_until_refused(&mut cluster, &query);
    let keep_alives = ask_until_refused(&mut cluster, &|| Request::KeepAlive(LeaseId(7)));
    assert!(queries > 0 && keep_alives > 0, "there is a reserve for leases");
    let revokes =
        ask_until_refused(&mut cluster, &|| Request::Command(Command::LeaseRevoke { id: LeaseId(7) }));
    assert_eq!(revokes, 0, "even the reserve is bounded");
    // A serializable query need not wait, and is never refused.
    let request = Request::Query { query: Query::Leases, consistency: Consistency::Serializable };
    cluster.request(MEMBER, request);
    assert!(matches!(cluster.poll(MEMBER).as_slice(), [Event::Respond(_, Ok(_))]));
    // The rest has its time, and makes room for others.
    cluster.isolate(MEMBER);
    let events = cluster.elapse(Duration::from_secs(8));
    let given_up = |(_, event): &&_| matches!(event, Event::Respond(_, Err(Error::NoLeader)));
    assert_eq!(events.iter().filter(given_up).count(), queries + keep_alives);
    cluster.request(MEMBER, query());
    assert!(cluster.poll(MEMBER).is_empty(), "there is room again");
}
