//! What encoding costs: an append of a hundred puts to a peer, and the same as a write to the log.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quorate_node::testing::put;
use quorate_node::wal::record::{SegmentEncoder, SegmentHeader, scan};
use quorate_node::{ClusterId, decode_message, encode_message};
use quorate_raft::{Body, Entry, HardState, Index, NodeId, Position, Term};
use quorate_replica::{Message, SharedProposal};

fn entries() -> Vec<Entry<SharedProposal>> {
    let value = "v".repeat(256);
    (1..=100).map(|index| put(1, index, &format!("/registry/pods/{index:08}"), &value)).collect()
}

fn messages(c: &mut Criterion) {
    let message = Message::Raft(quorate_raft::Message {
        term: Term(1),
        body: Body::Append { previous: Position::default(), entries: entries(), commit: Index(0), round: 1 },
    });
    let mut bytes = Vec::new();
    encode_message(&message, &mut bytes).expect("small");
    let mut group = c.benchmark_group("append of 100 puts");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("encode", |b| {
        let mut out = Vec::new();
        b.iter(|| {
            out.clear();
            encode_message(black_box(&message), &mut out).expect("small");
        });
    });
    group.bench_function("decode", |b| b.iter(|| decode_message(black_box(&bytes)).expect("whole")));
    group.finish();
}

fn log(c: &mut Criterion) {
    let header = SegmentHeader {
        cluster: ClusterId(1),
        member: NodeId(1),
        sequence: 1,
        first_index: Index(1),
        previous_len: 0,
    };
    let entries = entries();
    let hard_state = HardState { term: Term(1), vote: Some(NodeId(1)), commit: Index(0) };
    let mut bytes = Vec::new();
    let mut encoder = SegmentEncoder::begin(&header, &mut bytes);
    encoder.write(Some(&hard_state), &entries, &mut bytes).expect("small");
    let mut group = c.benchmark_group("write of 100 puts");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("encode", |b| {
        let mut out = Vec::new();
        b.iter(|| {
            out.clear();
            encoder.write(Some(black_box(&hard_state)), black_box(&entries), &mut out).expect("small");
        });
    });
    group.bench_function("scan", |b| b.iter(|| scan(black_box(&bytes), true).expect("whole")));
    group.finish();
}

criterion_group!(benches, messages, log);
criterion_main!(benches);
