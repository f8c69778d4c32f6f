//! The exact bytes of every type and format version, in `tests/golden/formats.txt`.
//!
//! When this test fails, an encoding has moved, and members or files of the version before would be
//! misread. Either take the change back, or raise the number in
//! [`Kind::format`](crate::codec::Kind::format), teach the decoder the older format, and keep its bytes as
//! a golden file of their own. Then write the new ones with `UPDATE_GOLDENFILES=1`. (Before the first
//! release, writing them is enough.)

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use quorate_raft::{
    Body, Configuration, Entry, HardState, Index, Membership, NodeId, Payload, Position, SnapshotMeta, Term,
};
use quorate_replica::{ChunkBody, Message, RequestId, SharedProposal, SnapshotChunk};
use quorate_store::{
    AlarmKind, Blob, Branch, Command, Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, KeyValue,
    LeaseId, Operation, Put, RangeQuery, Revision, RevisionFilter, SnapshotPart, Sort, SortBy, Txn,
};

use crate::codec::{self, Greeting, Hello, Kind, Verdict, decode_message, encode_frame, encode_message};
use crate::establish::{Identity, Owner};
use crate::meta::{ClusterId, Meta};
use crate::question::{
    Answer, Genesis, Question, decode_answer, decode_question, encode_answer, encode_question,
};
use crate::snapshot_file::{SnapshotFooter, SnapshotHeader};
use crate::testing::{configuration, founder, identity, put};
use crate::wal::record::{self, Record, SegmentEncoder, SegmentHeader};

const GOLDEN: &str = "tests/golden/formats.txt";

/// Collects named bytes.
#[derive(Default)]
struct Samples(Vec<(String, Vec<u8>)>);

impl Samples {
    fn add(&mut self, name: &str, bytes: Vec<u8>) {
        assert!(self.0.iter().all(|(other, _)| other != name), "names are unique");
        self.0.push((name.to_owned(), bytes));
    }

    fn message(&mut self, name: &str, message: &Message) {
        let mut bytes = Vec::new();
        encode_message(message, &mut bytes).expect("small");
        assert_eq!(decode_message(&bytes).as_ref(), Ok(message), "{name} survives the journey");
        self.add(&format!("message {name}"), bytes);
    }

    fn frame<T: serde::Serialize>(&mut self, name: &str, kind: Kind, value: &T) {
        let mut bytes = Vec::new();
        encode_frame(kind, value, &mut bytes).expect("small");
        self.add(&format!("frame {name}"), bytes);
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, bytes) in &self.0 {
            writeln!(text, "{name}: {} bytes", bytes.len()).expect("a string takes all");
            for line in bytes.chunks(32) {
                let hex: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
                writeln!(text, "    {}", hex.join(" ")).expect("a string takes all");
            }
        }
        text
    }
}

fn position(term: u64, index: u64) -> Position {
    Position { term: Term(term), index: Index(index) }
}

fn id(sequence: u64) -> RequestId {
    RequestId { boot: 2, sequence }
}

/// A command of every variant, and a transaction with every type that occurs in one.
fn commands() -> Vec<(&'static str, Command)> {
    let range = KeyRange::from_wire(b"a", b"z");
    let compares = [
        CompareTarget::Version(1),
        CompareTarget::Create(2),
        CompareTarget::Mod(3),
        CompareTarget::Value(Blob::from("v")),
        CompareTarget::Lease(-4),
    ]
    .into_iter()
    .zip([
        CompareResult::Equal,
        CompareResult::Greater,
        CompareResult::Less,
        CompareResult::NotEqual,
        CompareResult::Always,
    ])
    .map(|(target, result)| Compare { range: KeyRange::single("k"), result, target })
    .collect();
    let query = RangeQuery {
        revision: Some(Revision(5)),
        limit: 300,
        sort: Some(Sort { by: SortBy::Mod, descending: true, limit_first: false }),
        keys_only: true,
        filter: Some(RevisionFilter { min_mod: 1, max_mod: 2, min_create: 3, max_create: 4 }),
        ..RangeQuery::of(KeyRange::from_wire(b"a", b"\0"))
    };
    let put = Put { key: Blob::from("k"), value: None, lease: None, previous: true };
    let delete = DeleteRange { range, previous: true };
    let outer = Branch {
        compares,
        success: vec![Operation::Range(query), Operation::Put(put.clone()), Operation::Nested(1)],
        failure: vec![Operation::DeleteRange(delete.clone())],
    };
    let (id, name) = (0x8e9e_05c5_2164_694d, String::from("default"));
    let urls = vec![String::from("http://localhost:2380")];
    vec![
        ("put", Command::Put(Put { value: Some(Blob::from("v")), lease: Some(LeaseId(9)), ..put })),
        ("delete range", Command::DeleteRange(delete)),
        ("txn", Command::Txn(Txn { branches: vec![outer, Branch::default()] })),
        ("compact", Command::Compact(Revision(1000))),
        ("lease grant", Command::LeaseGrant { id: LeaseId(i64::MAX), ttl: 60 }),
        ("lease revoke", Command::LeaseRevoke { id: LeaseId(1) }),
        (
            "member publish",
            Command::MemberPublish { id, name: name.clone(), client_urls: urls.clone(), priority: 100 },
        ),
        (
            "member add",
            Command::MemberAdd { id, peer_urls: urls.clone(), learner: true, auto_promote: false },
        ),
        ("member remove", Command::MemberRemove { id }),
        ("member update", Command::MemberUpdate { id, peer_urls: urls.clone() }),
        ("member promote", Command::MemberPromote { id }),
        ("member demote", Command::MemberDemote { id }),
        ("member join", Command::MemberJoin { id, owner: 7, name, peer_urls: urls }),
        ("member refused", Command::MemberRefused { error: quorate_store::Error::LearnerNotReady }),
        ("alarm", Command::Alarm { member: 1, kind: AlarmKind::Corrupt, active: true }),
    ]
}

fn bodies() -> Vec<(&'static str, Body<SharedProposal>)> {
    vec![
        ("pre vote", Body::PreVote { last: position(3, 300), campaign: 1 << 33 }),
        ("pre vote reply", Body::PreVoteReply { granted: true, campaign: 1 << 33 }),
        ("vote", Body::Vote { last: position(3, 300), transfer: false }),
        ("vote reply", Body::VoteReply { granted: false }),
        (
            "append",
            Body::Append {
                previous: position(3, 300),
                entries: vec![put(4, 301, "key", "value")],
                commit: Index(299),
                round: 70_000,
            },
        ),
        ("append ack", Body::AppendAck { matched: Index(301), round: 1 }),
        ("append reject", Body::AppendReject { rejected: Index(301), hint: position(2, 250), round: 1 }),
        ("heartbeat", Body::Heartbeat { commit: Index(300), round: 2 }),
        ("heartbeat ack", Body::HeartbeatAck { matched: Index(300), round: 2 }),
        ("outdated", Body::Outdated),
        ("read index", Body::ReadIndex { request: 1 << 40 }),
        ("read index reply", Body::ReadIndexReply { request: 1 << 40, index: Index(300) }),
        ("campaign now", Body::CampaignNow),
    ]
}

fn chunk() -> SnapshotChunk {
    let pair = KeyValue {
        key: Blob::from("key"),
        value: Blob::from("value"),
        create_revision: Revision(2),
        mod_revision: Revision(3),
        version: 2,
        lease: LeaseId::NONE,
    };
    SnapshotChunk {
        meta: SnapshotMeta { position: position(3, 300), configuration: configuration(&[1, 2, 3]) },
        sequence: 1,
        last: false,
        body: ChunkBody::Store(SnapshotPart::Base(vec![Arc::new(pair)])),
    }
}

fn messages(samples: &mut Samples) {
    for (name, body) in bodies() {
        samples.message(name, &Message::Raft(quorate_raft::Message { term: Term(4), body }));
    }
    for (name, command) in commands() {
        let proposal = SharedProposal::new(NodeId(7), id(5), command);
        samples.message(&format!("forward {name}"), &Message::Forward(vec![proposal]));
    }
    samples.message("keep alive", &Message::KeepAlive { id: id(1), lease: LeaseId(2) });
    samples.message("kept alive", &Message::KeptAlive { id: id(1), ttl: 60 });
    samples.message("time to live", &Message::TimeToLive { id: id(1), lease: LeaseId(2), keys: true });
    let keys = vec![Blob::from("a"), Blob::from("b")];
    samples.message(
        "time to live reply",
        &Message::TimeToLiveReply { id: id(1), ttl: -1, granted_ttl: 0, keys },
    );
    samples.message("chunk", &Message::Chunk { term: Term(4), chunk: Arc::new(chunk()) });
    samples.message("chunk ack", &Message::ChunkAck { position: position(3, 300), sequence: 1 });
}

/// What is said before there are messages.
fn introductions(samples: &mut Samples) {
    let cluster = ClusterId(0xcdf8_1818_e32d_e3ae);
    let peer_urls = vec!["http://127.0.0.1:2380".to_owned()];
    let hello = Hello { cluster, genesis: 1 << 60, from: NodeId(1), to: NodeId(2), peer_urls };
    samples.add("frame hello", codec::encode_hello(&hello));
    for verdict in [Verdict::Welcome, Verdict::WrongPlace, Verdict::Removed] {
        let greeting = Greeting { hello: hello.clone(), verdict };
        samples.add(&format!("frame greeting {verdict:?}"), codec::encode_greeting(&greeting));
    }
    let genesis = Genesis::new(vec![founder(2, 1 << 63), founder(1, 7)]);
    let name = "m1".to_owned();
    let peer_urls = vec!["http://127.0.0.1:2380".to_owned()];
    let questions = [
        ("meet", Question::Meet { cluster, founder: founder(1, 7), accepted: Some(genesis.clone()) }),
        ("join", Question::Join { owner: 1 << 40, name, peer_urls }),
    ];
    for (name, question) in questions {
        let bytes = encode_question(&question).expect("small");
        assert_eq!(decode_question(&bytes), Ok(question), "{name} survives the journey");
        samples.add(&format!("question {name}"), bytes);
    }
    let answers = [
        ("met", Answer::Met { founder: founder(2, 8), accepted: None }),
        ("begun", Answer::Begun { genesis: genesis.clone() }),
        ("joined", Answer::Joined { cluster, id: NodeId(9), genesis }),
        ("later", Answer::Later("why".into())),
        ("refused", Answer::Refused("why".into())),
    ];
    for (name, answer) in answers {
        let bytes = encode_answer(&answer).expect("small");
        assert_eq!(decode_answer(&bytes), Ok(answer), "{name} survives the journey");
        samples.add(&format!("answer {name}"), bytes);
    }
}

fn files(samples: &mut Samples) {
    let (cluster, member) = (ClusterId(0xcdf8_1818_e32d_e3ae), NodeId(0x8e9e_05c5_2164_694d));
    let initial = Configuration { learners: [NodeId(4)].into(), ..configuration(&[1, 2, 3]) };
    let identity = Identity { cluster, member, ..identity(7, 1, &[1, 2]) };
    samples.frame("meta", Kind::Meta, &Meta { identity, boot: 3, removed: false });
    let genesis = Genesis::new(vec![founder(2, 1 << 63), founder(1, 7)]);
    samples.frame("owner", Kind::Owner, &Owner { owner: 7, accepted: Some(genesis) });
    let header = SnapshotHeader { cluster, member, position: position(3, 300) };
    samples.frame("snapshot header", Kind::SnapshotHeader, &header);
    samples.frame("snapshot chunk", Kind::SnapshotChunk, &chunk());
    samples.frame(
        "snapshot footer",
        Kind::SnapshotFooter,
        &SnapshotFooter { chunks: 2, checksum: 0x1234_5678 },
    );

    let header =
        SegmentHeader { cluster, member, sequence: 2, first_index: Index(300), previous_len: 1 << 26 };
    let hard_state = HardState { term: Term(4), vote: Some(NodeId(2)), commit: Index(299) };
    let entries = [
        Entry { term: Term(4), index: Index(300), payload: Payload::Noop },
        put(4, 301, "key", "value"),
        Entry {
            term: Term(4),
            index: Index(302),
            payload: Payload::Membership(Membership { configuration: initial, command: None }),
        },
    ];
    let mut segment = Vec::new();
    let mut encoder = SegmentEncoder::begin(&header, &mut segment);
    samples.add("segment header", segment.clone());
    encoder.write(Some(&hard_state), &entries, &mut segment).expect("small");
    encoder.mark_synced();
    encoder.snapshot(position(4, 301), &mut segment).expect("small");
    let scan = record::scan(&segment, true).expect("whole");
    let mut records = vec![Record::HardState(hard_state)];
    records.extend(entries.into_iter().map(Record::Entry));
    records.push(Record::Snapshot(position(4, 301)));
    assert_eq!((scan.header, scan.records), (header, records), "the segment survives the journey");
    samples.add("segment with a hard state, three entries and a snapshot", segment);
}

#[test]
fn no_encoding_has_moved() {
    let mut samples = Samples::default();
    messages(&mut samples);
    introductions(&mut samples);
    files(&mut samples);
    let text = samples.text();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
        std::fs::write(&path, &text).expect("the golden file can be written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    for (line, (expected, found)) in golden.lines().zip(text.lines()).enumerate() {
        assert_eq!(found, expected, "{GOLDEN}:{}: see the documentation of this test", line + 1);
    }
    assert_eq!(text.lines().count(), golden.lines().count(), "{GOLDEN}: see the documentation of this test");
}
