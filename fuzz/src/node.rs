//! Targets of the node's formats: peers' messages, the log, snapshot files.

use std::fmt::Debug;

use quorate_node::codec::{self, Kind};
use quorate_node::testing::{
    CLUSTER, MEMBER, MemoryDisk, SNAPSHOT, Survival, founder, frame, load_snapshot, put, recover,
    save_snapshot,
};
use quorate_node::wal::Recovered;
use quorate_node::wal::record::{Record, SegmentEncoder, SegmentHeader, scan};
use quorate_node::{
    Answer, CodecError, Genesis, Question, decode_answer, decode_message, decode_question, encode_answer,
    encode_message, encode_question,
};
use quorate_raft::{Body, Entry, HardState, Index, Payload, Position, Term};
use quorate_replica::{ChunkBody, Message, RequestId, SharedProposal};
use quorate_store::{Command, LeaseId, Revision, Store};

/// The input is a frame.
const WHOLE: u8 = 0;
/// The input is what the target frames itself, or does to something whole.
const INSIDE: u8 = 1;

/// What comes from a peer: a message, or a stranger's question, or its answer. What can be decoded survives another
/// journey, and its second encoding is the first.
pub fn codec_message(data: &[u8]) {
    let (&mode, data) = data.split_first().unwrap_or((&WHOLE, &[]));
    let _ = codec::decode_frame(data);
    let kind = [Kind::Message, Kind::Question, Kind::Answer][usize::from(mode / 2) % 3];
    let bytes = match mode % 2 {
        WHOLE => data.to_vec(),
        _ => frame(kind, data),
    };
    let encode = |message: &Message| {
        let mut bytes = Vec::new();
        encode_message(message, &mut bytes).map(|()| bytes)
    };
    match kind {
        Kind::Question => journey(&bytes, decode_question, encode_question),
        Kind::Answer => journey(&bytes, decode_answer, encode_answer),
        _ => journey(&bytes, decode_message, encode),
    }
}

fn journey<T: PartialEq + Debug>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, CodecError>,
    encode: impl Fn(&T) -> Result<Vec<u8>, CodecError>,
) {
    if let Ok(value) = decode(bytes) {
        // An answer longer than those that are sent cannot be encoded.
        let Ok(first) = encode(&value) else { return };
        let again = decode(&first).expect("what is encoded can be decoded");
        assert_eq!(again, value, "a value survives the journey");
        assert_eq!(encode(&again), Ok(first), "an encoding is a function of the value");
    }
}

/// The newest segment of a log, as a whole or as damage to a good one.
///
/// What is found is stable: the valid part alone gives the same records, and is not torn. Out of a good
/// segment that has been damaged come its first writes or an error, and never anything else.
pub fn wal_recovery(data: &[u8]) {
    let (&mode, data) = data.split_first().unwrap_or((&WHOLE, &[]));
    let (good, records) = segment();
    let bytes = match mode % 2 {
        WHOLE => data.to_vec(),
        _ => damaged(good.clone(), data),
    };
    let Ok(found) = scan(&bytes, true) else {
        assert!(bytes != good, "a good segment is accepted");
        return;
    };
    let valid = usize::try_from(found.valid_len).expect("it is a part of a slice");
    let again = scan(&bytes[..valid], false).expect("the valid part is not torn");
    assert_eq!(again, found, "cutting the torn tail off changes nothing");
    if mode % 2 == INSIDE {
        assert!(
            records.starts_with(&found.records),
            "nothing but the first writes comes out of a damaged segment"
        );
    }
    let mut recovered = Recovered::default();
    found.records.into_iter().for_each(|record| recovered.apply(record));
    let next = recovered.next_index();
    if let Ok((hard_state, entries)) = recovered.finish(Position::default()) {
        assert_eq!(next.0, entries.len() as u64 + 1, "the log begins at one");
        assert!(hard_state.commit < next, "what is committed is there");
    }

    // The same through files: whatever a member makes of them, it makes the same of what that leaves.
    let disk = MemoryDisk::default();
    if recover(&disk).is_ok() {
        disk.install("0000000000000001-0000000000000001.wal", &bytes);
        if let Ok(saved) = recover(&disk) {
            let again = recover(&disk.after_power_cut(Survival::Nothing)).expect("it was made durable");
            assert_eq!((again.hard_state, again.entries), (saved.hard_state, saved.entries));
        }
    }
}

/// A snapshot file, as a whole or as frames; and the store that is made of it.
pub fn snapshot_file(data: &[u8]) {
    let (&mode, data) = data.split_first().unwrap_or((&WHOLE, &[]));
    let loaded = match mode % 2 {
        WHOLE => load_snapshot(data),
        _ => load_snapshot(&frames(data)),
    };
    let Ok((meta, chunks)) = loaded else { return };
    assert_eq!(meta.position, SNAPSHOT, "it is what its name says");
    assert!(chunks.last().is_some_and(|chunk| chunk.last), "it is complete");
    let parts = chunks
        .into_iter()
        .filter_map(|chunk| match chunk.body {
            ChunkBody::Store(part) => Some(part),
            ChunkBody::Sessions(_) => None,
        })
        .collect();
    // Hostile parts may be refused, and that is all that they can do.
    if let Ok(store) = Store::import(parts) {
        let _ = store.state_hash();
    }
}

/// A good segment of three batches, and the records in it.
fn segment() -> (Vec<u8>, Vec<Record>) {
    let header = SegmentHeader {
        cluster: CLUSTER,
        member: MEMBER,
        sequence: 1,
        first_index: Index(1),
        previous_len: 0,
    };
    let mut bytes = Vec::new();
    let mut records = Vec::new();
    let mut encoder = SegmentEncoder::begin(&header, &mut bytes);
    for term in 1..=3 {
        let hard_state = HardState { term: Term(term), vote: Some(MEMBER), commit: Index((term - 1) * 2) };
        let index = (term - 1) * 2 + 1;
        let entries = [
            Entry { term: Term(term), index: Index(index), payload: Payload::Noop },
            put(term, index + 1, "key", "a value of some length"),
        ];
        encoder.write(Some(&hard_state), &entries, &mut bytes).expect("small");
        encoder.mark_synced();
        records.push(Record::HardState(hard_state));
        records.extend(entries.into_iter().map(Record::Entry));
    }
    (bytes, records)
}

/// Does what the input says: four bytes are a place (two), a kind of damage and a value.
fn damaged(mut bytes: Vec<u8>, edits: &[u8]) -> Vec<u8> {
    for edit in edits.chunks_exact(4) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]]));
        if bytes.is_empty() {
            break;
        }
        let at = at % bytes.len();
        let len = usize::from(edit[3]).min(bytes.len() - at);
        match edit[2] % 5 {
            0 => bytes[at] ^= edit[3],
            1 => bytes.truncate(at),
            2 => bytes[at..at + len].fill(0),
            3 => bytes.extend_from_within(at..at + len),
            _ => drop(bytes.drain(at..at + len)),
        }
    }
    bytes
}

/// Frames of the kinds in a snapshot file: a kind, a length (two bytes), a body, and so on.
fn frames(mut data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let [kind, low, high, rest @ ..] = data {
        let kind = [Kind::SnapshotHeader, Kind::SnapshotChunk, Kind::SnapshotFooter][usize::from(*kind) % 3];
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        bytes.extend(frame(kind, &rest[..len]));
        data = &rest[len..];
    }
    bytes
}

pub(crate) fn message_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let append = Body::Append {
        previous: Position { term: Term(3), index: Index(300) },
        entries: vec![put(4, 301, "key", "value")],
        commit: Index(299),
        round: 70_000,
    };
    let id = RequestId { boot: 1, sequence: 300 };
    let grant = Command::LeaseGrant { id: LeaseId(5), ttl: 60 };
    let compact = Command::Compact(Revision(9));
    let messages = [
        ("append", Message::Raft(quorate_raft::Message { term: Term(4), body: append })),
        ("keep_alive", Message::KeepAlive { id, lease: LeaseId(7) }),
        (
            "forward",
            Message::Forward(vec![
                SharedProposal::new(MEMBER, id, grant),
                SharedProposal::new(MEMBER, id, compact),
            ]),
        ),
    ];
    let genesis = Genesis::new(vec![founder(1, 7), founder(2, 8)]);
    let meet = Question::Meet { cluster: CLUSTER, founder: founder(1, 7), accepted: Some(genesis.clone()) };
    let join =
        Question::Join { owner: 9, name: "m3".into(), peer_urls: vec!["http://127.0.0.1:2380".into()] };
    let inside = |kind: u8, frame: Result<Vec<u8>, CodecError>| {
        [&[INSIDE + 2 * kind], &frame.expect("small")[codec::HEADER_BYTES..]].concat()
    };
    let mut seeds = vec![
        ("question_meet", inside(1, encode_question(&meet))),
        ("question_join", inside(1, encode_question(&join))),
        ("answer_begun", inside(2, encode_answer(&Answer::Begun { genesis }))),
        ("answer_refused", inside(2, encode_answer(&Answer::Refused("why".into())))),
    ];
    for (name, message) in messages {
        let mut frame = Vec::new();
        encode_message(&message, &mut frame).expect("small");
        seeds.push((name, [&[INSIDE], &frame[codec::HEADER_BYTES..]].concat()));
        if name == "append" {
            seeds.push(("whole_append", [&[WHOLE], &frame[..]].concat()));
        }
    }
    seeds
}

pub(crate) fn wal_seeds() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("whole", [&[WHOLE], &segment().0[..]].concat()),
        ("undamaged", vec![INSIDE]),
        ("bit_flipped_in_the_middle", vec![INSIDE, 150, 0, 0, 4]),
        ("cut_short", vec![INSIDE, 200, 0, 1, 0]),
        ("sector_lost_and_tail_repeated", vec![INSIDE, 100, 1, 2, 64, 0, 1, 3, 200]),
        ("hole", vec![INSIDE, 120, 0, 4, 8]),
    ]
}

pub(crate) fn snapshot_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut store = Store::new();
    for revision in 0..5 {
        let entry = put(1, 1, ["a", "b"][revision % 2], "value");
        if let Payload::Command(proposal) = entry.payload {
            let _ = store.apply(&proposal.0.command);
        }
    }
    let mut cursor = store.open_snapshot();
    let mut bodies = Vec::new();
    while let Some(part) = store.next_part(&mut cursor, 64) {
        bodies.push(ChunkBody::Store(part));
    }
    store.close_snapshot(cursor);
    bodies.push(ChunkBody::Sessions(Vec::new()));
    let whole = save_snapshot(&bodies).expect("memory does not fail");
    let mut inside = vec![INSIDE];
    let mut rest = &whole[..];
    while let Some(frame) = codec::decode_frame(rest).expect("whole") {
        let kind = [Kind::SnapshotHeader, Kind::SnapshotChunk, Kind::SnapshotFooter]
            .into_iter()
            .position(|kind| kind == frame.kind);
        inside.push(u8::try_from(kind.expect("one of these")).expect("below three"));
        inside.extend(u16::try_from(frame.body.len()).expect("small").to_le_bytes());
        inside.extend(frame.body);
        rest = &rest[frame.len()..];
    }
    vec![("whole", [&[WHOLE], &whole[..]].concat()), ("frames", inside)]
}
