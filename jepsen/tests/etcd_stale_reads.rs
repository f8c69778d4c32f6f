//! A serializable read answers from whatever its member has applied: an old state, for which a revision may
//! still lie in the future and a compaction not have happened.

use quorate_jepsen::etcd::{self, Error, EtcdHistory, KeyValue, Put, Range, Reply, Request, Response};

/// Two puts, a compaction of both, and then a read of the first one's revision.
fn history(read: Range, answer: Response) -> EtcdHistory {
    let mut history = EtcdHistory::default();
    let mut done = |at, request, response| {
        let id = history.operations.invoke(at, at, request);
        history.operations.ok(id, at + 1, response);
    };
    done(10, Request::Put(Put::new("k", "1")), Response::at(2, Reply::Put { previous: None }));
    done(20, Request::Put(Put::new("k", "2")), Response::at(3, Reply::Put { previous: None }));
    done(30, Request::Compact { revision: 3 }, Response::at(3, Reply::Done));
    done(40, Request::Range(read), answer);
    history
}

fn is_valid(serializable: bool, answer: Response) -> bool {
    let read = Range { revision: 2, serializable, ..Range::key("k") };
    etcd::check(&history(read, answer), &etcd::Options::default()).is_valid()
}

#[test]
fn a_stale_read_may_not_know_the_revision_yet() {
    assert!(is_valid(true, Response::refused(Error::FutureRevision)));
    assert!(!is_valid(false, Response::refused(Error::FutureRevision)));
}

#[test]
fn a_stale_read_may_not_know_of_the_compaction_yet() {
    let kv = KeyValue {
        key: "k".into(),
        value: "1".into(),
        create_revision: 2,
        mod_revision: 2,
        version: 1,
        lease: 0,
    };
    let found = Reply::Range { kvs: vec![kv], more: false, count: 1 };
    assert!(is_valid(true, Response::at(2, found.clone())));
    assert!(!is_valid(false, Response::at(3, found)));
}
