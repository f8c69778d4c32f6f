//! Histories as etcd's known bugs would leave them, written by hand from the descriptions in its issues. Each
//! must be refuted, by the rule that names the broken promise.

use quorate_jepsen::etcd::{
    Compare, Delete, Error, EtcdHistory, Event, KeyValue, Keys, Options, Put, Range, Relation, Reply,
    Request, Response, Store, Target, Txn, WatchRequest, WatchResponse, WatchStream, check,
};
use quorate_jepsen::{Operation, Returned, Verdict};

/// Builds a history of operations that never overlap, one after the other.
#[derive(Default)]
struct Story {
    history: EtcdHistory,
    now: u64,
}

impl Story {
    fn step(&mut self, input: Request, output: Option<Response>) -> &mut Story {
        let call = self.now + 1;
        self.now += 2;
        let returned = output.map(|output| Returned { at: self.now, output });
        self.history.operations.operations.push(Operation { process: 1, call, input, returned });
        self
    }

    fn put(&mut self, key: &str, value: &str, revision: i64) -> &mut Story {
        let reply = Reply::Put { previous: None };
        self.step(Request::Put(Put::new(key, value)), Some(Response::at(revision, reply)))
    }

    fn lost_put(&mut self, key: &str, value: &str) -> &mut Story {
        self.step(Request::Put(Put::new(key, value)), None)
    }

    fn delete(&mut self, key: &str, revision: i64) -> &mut Story {
        let reply = Reply::Delete { deleted: 1, previous: vec![] };
        let delete = Delete { keys: Keys::one(key), prev_kv: false };
        self.step(Request::Delete(delete), Some(Response::at(revision, reply)))
    }

    fn get(&mut self, key: &str, found: &[KeyValue], revision: i64) -> &mut Story {
        let reply = Reply::Range { kvs: found.to_vec(), more: false, count: found.len() as i64 };
        self.step(Request::Range(Range::key(key)), Some(Response::at(revision, reply)))
    }

    fn compact(&mut self, revision: i64) -> &mut Story {
        self.step(Request::Compact { revision }, Some(Response::at(revision, Reply::Done)))
    }

    fn watch(&mut self, start_revision: i64, responses: Vec<WatchResponse>) -> &mut Story {
        self.now += 1;
        let at = self.now;
        let responses = responses.into_iter().map(|response| WatchResponse { at, ..response }).collect();
        let request = WatchRequest { keys: Keys::all(), start_revision, ..WatchRequest::default() };
        self.history.watches.push(WatchStream { process: 2, request, responses });
        self
    }

    /// Asserts that the story is refuted by `rule`.
    fn breaks(&self, rule: &str) {
        match check(&self.history, &Options::default()) {
            Verdict::Invalid(violation) => assert_eq!(violation.rule, rule, "{violation}"),
            other => panic!("expected a violation of {rule}: {other}"),
        }
    }

    fn is_valid(&self) {
        let verdict = check(&self.history, &Options::default());
        assert!(verdict.is_valid(), "{verdict}");
    }
}

fn kv(key: &str, value: &str, create_revision: i64, mod_revision: i64, version: i64) -> KeyValue {
    KeyValue { key: key.into(), value: value.into(), create_revision, mod_revision, version, lease: 0 }
}

fn put_event(key: &str, value: &str, create_revision: i64, mod_revision: i64, version: i64) -> Event {
    Event { deleted: false, kv: kv(key, value, create_revision, mod_revision, version), previous: None }
}

fn delete_event(key: &str, revision: i64) -> Event {
    let kv = KeyValue { key: key.into(), mod_revision: revision, ..KeyValue::default() };
    Event { deleted: true, kv, previous: None }
}

fn events(events: Vec<Event>) -> WatchResponse {
    let revision = events.last().map_or(0, |event| event.kv.mod_revision);
    WatchResponse { revision, events, ..WatchResponse::default() }
}

fn progress(revision: i64) -> WatchResponse {
    WatchResponse { revision, ..WatchResponse::default() }
}

#[test]
fn issue_13766_revisions_diverge_after_a_kill_under_load() {
    // Two members applied different entries as the same revision.
    Story::default().put("a", "1", 2).put("b", "1", 2).breaks("one-writer");
    // A member that skipped entries answers with a revision from the past.
    Story::default().put("a", "1", 2).put("a", "2", 3).get("b", &[], 2).breaks("real-time");
}

#[test]
fn issue_14370_a_single_node_loses_an_acknowledged_write() {
    Story::default()
        .put("a", "1", 2)
        .put("a", "2", 3)
        .get("a", &[kv("a", "1", 2, 2, 1)], 2)
        .breaks("real-time");
    // The lost revision is given to the next write.
    Story::default().put("a", "1", 2).put("b", "1", 3).put("c", "1", 3).breaks("one-writer");
}

#[test]
fn issue_14685_a_crash_in_defragmentation_applies_entries_twice() {
    // The version counts a put that nobody made.
    Story::default().put("a", "1", 2).get("a", &[kv("a", "1", 2, 3, 2)], 3).breaks("unexplained-revision");
}

#[test]
fn issue_15220_progress_is_notified_ahead_of_the_stream() {
    Story::default()
        .put("a", "1", 2)
        .put("a", "2", 3)
        .watch(
            2,
            vec![
                events(vec![put_event("a", "1", 2, 2, 1)]),
                progress(3),
                events(vec![put_event("a", "2", 2, 3, 2)]),
            ],
        )
        .breaks("watch-bookmarkable");
}

#[test]
fn issue_15271_a_watch_goes_back_in_time() {
    let (first, second) = (put_event("a", "1", 2, 2, 1), put_event("a", "2", 2, 3, 2));
    Story::default()
        .put("a", "1", 2)
        .put("a", "2", 3)
        .watch(2, vec![events(vec![second]), events(vec![first])])
        .breaks("watch-ordered");
}

#[test]
fn issue_17247_an_event_of_a_txn_arrives_twice() {
    let event = put_event("a", "1", 2, 2, 1);
    Story::default()
        .put("a", "1", 2)
        .watch(2, vec![events(vec![event.clone(), event.clone()])])
        .breaks("watch-unique");
    Story::default()
        .put("a", "1", 2)
        .watch(2, vec![events(vec![event.clone()]), events(vec![event])])
        .breaks("watch-atomic");
}

#[test]
fn issue_17529_a_starved_watch_loses_events() {
    Story::default()
        .put("a", "1", 2)
        .put("a", "2", 3)
        .put("a", "3", 4)
        .watch(
            2,
            vec![events(vec![put_event("a", "1", 2, 2, 1)]), events(vec![put_event("a", "3", 2, 4, 3)])],
        )
        .breaks("watch-reliable");
}

#[test]
fn issue_17780_the_revision_decreases_after_a_crash_in_compaction() {
    Story::default().put("a", "1", 2).delete("a", 3).compact(3).put("b", "1", 3).breaks("one-writer");
    Story::default().put("a", "1", 2).delete("a", 3).compact(3).get("a", &[], 2).breaks("real-time");
}

#[test]
fn issue_18089_compacting_on_a_deletion_drops_its_event() {
    Story::default()
        .put("a", "1", 2)
        .delete("a", 3)
        .compact(3)
        .put("b", "1", 4)
        .watch(3, vec![events(vec![put_event("b", "1", 4, 4, 1)])])
        .breaks("watch-resumable");
}

#[test]
fn issue_18667_a_txn_that_fails_on_a_compacted_read_leaves_a_write_behind() {
    let read = Request::Range(Range { revision: 2, ..Range::key("a") });
    let txn = Txn { success: vec![Request::Put(Put::new("a", "3")), read], ..Txn::default() };
    Story::default()
        .put("a", "1", 2)
        .put("a", "2", 3)
        .compact(3)
        .step(Request::Txn(txn), Some(Response::refused(Error::Compacted)))
        .get("a", &[kv("a", "3", 2, 4, 3)], 4)
        .breaks("unexplained-revision");
}

#[test]
fn issue_19179_a_watch_opened_at_the_compacted_revision_misses_a_deletion() {
    Story::default()
        .put("a", "1", 2)
        .delete("a", 3)
        .compact(3)
        .watch(3, vec![progress(3)])
        .breaks("watch-reliable");
}

#[test]
fn issue_20221_a_watch_on_a_future_revision_gets_old_events() {
    let event = put_event("a", "1", 2, 2, 1);
    Story::default().put("a", "1", 2).watch(5, vec![events(vec![event])]).breaks("watch-resumable");
    Story::default().put("a", "1", 2).watch(5, vec![progress(2)]).breaks("watch-bookmarkable");
}

#[test]
fn issue_20418_a_paused_leader_answers_a_stale_read() {
    Story::default()
        .put("a", "1", 2)
        .put("a", "2", 3)
        .get("a", &[kv("a", "1", 2, 2, 1)], 2)
        .breaks("real-time");
}

#[test]
fn a_lost_put_explains_what_was_read_or_it_did_not_happen() {
    let mut story = Story::default();
    story.put("a", "1", 2).lost_put("a", "2").is_valid();
    story.get("a", &[kv("a", "2", 2, 3, 2)], 3).is_valid();
    story.put("b", "1", 4).is_valid();
    // Used once: it cannot explain a second revision.
    story.get("a", &[kv("a", "2", 2, 5, 3)], 5).breaks("unexplained-revision");
    // Nor can it have happened before it was asked for.
    let mut story = Story::default();
    story.put("a", "1", 3).lost_put("b", "1").breaks("unexplained-revision");
}

#[test]
fn a_read_of_a_value_that_nobody_wrote_is_refuted() {
    Story::default().put("a", "1", 2).get("a", &[kv("a", "9", 2, 2, 1)], 2).breaks("replay");
    Story::default().put("a", "1", 2).get("a", &[kv("a", "1", 2, 2, 7)], 2).breaks("replay");
}

#[test]
fn a_txn_that_took_the_wrong_branch_is_refuted() {
    let compare = Compare { keys: Keys::one("a"), result: Relation::Equal, target: Target::Mod(0) };
    let txn =
        Txn { compares: vec![compare], success: vec![Request::Put(Put::new("a", "2"))], failure: vec![] };
    let reply = Reply::Txn { succeeded: true, replies: vec![Reply::Put { previous: None }] };
    Story::default().put("a", "1", 2).step(Request::Txn(txn), Some(Response::at(3, reply))).breaks("replay");
}

#[test]
fn a_lease_takes_its_keys_along_and_nothing_else() {
    let granted = Response::at(1, Reply::Lease { id: 7, ttl: 60 });
    let attached = Request::Put(Put { lease: 7, ..Put::new("a", "1") });
    let put = Response::at(2, Reply::Put { previous: None });
    let begin = || {
        let mut story = Story::default();
        story
            .step(Request::LeaseGrant { id: 7, ttl: 60 }, Some(granted.clone()))
            .step(attached.clone(), Some(put.clone()));
        story
    };
    let revoke = Request::LeaseRevoke { id: 7 };
    begin().step(revoke.clone(), Some(Response::at(3, Reply::Done))).get("a", &[], 3).is_valid();
    // The key outlives its lease.
    let survivor = KeyValue { lease: 7, ..kv("a", "1", 2, 2, 1) };
    begin()
        .step(revoke.clone(), Some(Response::at(2, Reply::Done)))
        .get("a", &[survivor], 2)
        .breaks("replay");
    // A put finds the lease that was revoked before.
    begin()
        .step(revoke, Some(Response::at(3, Reply::Done)))
        .step(attached.clone(), Some(Response::at(4, Reply::Put { previous: None })))
        .breaks("lease");
    // A lease that nobody granted.
    let stranger = Request::Put(Put { lease: 9, ..Put::new("b", "1") });
    begin().step(stranger, Some(Response::at(3, Reply::Put { previous: None }))).breaks("lease");
}

#[test]
fn a_lease_may_end_by_itself_but_not_before_its_time() {
    let mut story = Story::default();
    story
        .step(Request::LeaseGrant { id: 7, ttl: 60 }, Some(Response::at(1, Reply::Lease { id: 7, ttl: 60 })))
        .step(
            Request::Put(Put { lease: 7, ..Put::new("a", "1") }),
            Some(Response::at(2, Reply::Put { previous: None })),
        )
        .get("a", &[], 3);
    story.is_valid();
    let options = Options { ticks_per_second: Some(1), ..Options::default() };
    let verdict = check(&story.history, &options);
    assert!(
        matches!(&verdict, Verdict::Invalid(violation) if violation.rule == "unexplained-revision"),
        "{verdict}"
    );
}

#[test]
fn compactions_only_go_up_and_are_obeyed() {
    let at_two = |result| (Request::Range(Range { revision: 2, ..Range::key("a") }), result);
    let found = Reply::Range { kvs: vec![kv("a", "1", 2, 2, 1)], more: false, count: 1 };
    let begin = || {
        let mut story = Story::default();
        story.put("a", "1", 2).put("a", "2", 3);
        story
    };
    let (read, answer) = at_two(Response::at(3, found));
    begin().step(read.clone(), Some(answer.clone())).is_valid();
    begin().compact(3).step(read.clone(), Some(answer)).breaks("compaction");
    begin().compact(3).step(read.clone(), Some(Response::refused(Error::Compacted))).is_valid();
    begin().step(read, Some(Response::refused(Error::Compacted))).breaks("compaction");
    begin().compact(3).compact(2).breaks("compaction");
}

#[test]
fn a_member_answers_serializable_reads_from_a_prefix_that_never_shrinks() {
    let read = |revision: i64, found: &[KeyValue]| {
        let range = Range { serializable: true, ..Range::key("a") };
        let reply = Reply::Range { kvs: found.to_vec(), more: false, count: found.len() as i64 };
        (Request::Range(range), Some(Response { member: Some(5), ..Response::at(revision, reply) }))
    };
    let begin = || {
        let mut story = Story::default();
        story.put("a", "1", 2).put("a", "2", 3);
        story
    };
    let (old, new) = (kv("a", "1", 2, 2, 1), kv("a", "2", 2, 3, 2));
    let (request, stale) = read(2, std::slice::from_ref(&old));
    begin().step(request.clone(), stale.clone()).is_valid();
    let (_, fresh) = read(3, &[new]);
    begin().step(request.clone(), fresh).step(request.clone(), stale).breaks("member-monotonic");
    let (_, mixed) = read(3, &[old]);
    begin().step(request, mixed).breaks("stale-prefix");
}

#[test]
fn events_carry_the_version_before_if_asked_for() {
    let mut story = Story::default();
    story.put("a", "1", 2).put("a", "2", 3).watch(3, vec![events(vec![put_event("a", "2", 2, 3, 2)])]);
    story.is_valid();
    story.history.watches[0].request.prev_kv = true;
    story.breaks("watch-previous");
    story.history.watches[0].responses[0].events[0].previous = Some(kv("a", "1", 2, 2, 1));
    story.is_valid();
}

#[test]
fn a_deletion_is_seen_as_one_event_of_its_revision() {
    let mut story = Story::default();
    story.put("a", "1", 2).delete("a", 3);
    let whole = vec![events(vec![put_event("a", "1", 2, 2, 1), delete_event("a", 3)])];
    story.watch(1, whole).is_valid();
    story.history.watches[0].responses[0].events[1].kv.mod_revision = 4;
    story.breaks("watch-header");
}

#[test]
fn a_history_may_begin_with_leases_and_compactions_of_before() {
    let mut before = Store::new();
    for request in [
        Request::LeaseGrant { id: 7, ttl: 60 },
        Request::Put(Put { lease: 7, ..Put::new("a", "1") }),
        Request::Put(Put { lease: 7, ..Put::new("a", "2") }),
        Request::Compact { revision: 3 },
    ] {
        before.execute(&request).expect("nothing to refuse");
    }
    let read = Request::Range(Range { revision: 2, ..Range::key("a") });
    let put = Request::Put(Put { lease: 7, ..Put::new("b", "1") });
    let mut story = Story::default();
    story
        .step(read, Some(Response::refused(Error::Compacted)))
        .step(put, Some(Response::at(4, Reply::Put { previous: None })))
        .get("a", &[], 5);
    let options = Options { initial: before, ..Options::default() };
    let verdict = check(&story.history, &options);
    assert!(verdict.is_valid(), "{verdict}");
}
