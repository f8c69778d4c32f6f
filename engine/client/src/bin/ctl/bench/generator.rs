//! The requests of a workload: which key comes next, and its message on the wire.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::hpack::Method;
use super::options::{Plan, Workload};
use super::wire;

/// Field numbers of etcd's messages, as far as they are written or read here.
mod tag {
    pub const RANGE_KEY: u32 = 1;
    pub const RANGE_END: u32 = 2;
    pub const RANGE_SERIALIZABLE: u32 = 7;
    pub const PUT_KEY: u32 = 1;
    pub const PUT_VALUE: u32 = 2;
    pub const TXN_COMPARE: u32 = 1;
    pub const TXN_SUCCESS: u32 = 2;
    pub const TXN_FAILURE: u32 = 3;
    pub const COMPARE_TARGET: u32 = 2;
    pub const COMPARE_KEY: u32 = 3;
    pub const COMPARE_MOD_REVISION: u32 = 6;
    pub const OP_RANGE: u32 = 1;
    pub const OP_PUT: u32 = 2;
    pub const LEASE_GRANT_TTL: u32 = 1;
    pub const KEEP_ALIVE_ID: u32 = 1;
    pub const WATCH_CREATE: u32 = 1;
    pub const WATCH_KEY: u32 = 1;
}

/// `Compare.CompareTarget.MOD`.
const TARGET_MOD: i64 = 2;
/// Leases outlive any measurement that anybody waits for.
const LEASE_TTL_SECONDS: i64 = 600;

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Put,
    Get,
    Range,
    Txn,
    LeaseGrant,
    LeaseKeepAlive,
}

impl Kind {
    pub fn method(self) -> Method {
        match self {
            Kind::Put => Method::Put,
            Kind::Get | Kind::Range => Method::Range,
            Kind::Txn => Method::Txn,
            Kind::LeaseGrant => Method::LeaseGrant,
            Kind::LeaseKeepAlive => Method::LeaseKeepAlive,
        }
    }
}

/// A call and the key it is about; its message is in `Generator::message`.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub kind: Kind,
    pub key: u64,
}

/// What the calls are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Put every key once.
    Preload,
    /// Grant one lease per request in flight.
    GrantLeases,
    /// The workload itself.
    Load,
}

/// Makes the calls of one worker.
pub struct Generator {
    workload: Workload,
    stage: Stage,
    random: StdRng,
    sequential: bool,
    serializable: bool,
    read_percent: u32,
    range_keys: u64,
    keys: KeySpace,
    next: u64,
    key: Vec<u8>,
    end: Vec<u8>,
    value: Vec<u8>,
    /// The encoded request of the call made last.
    pub message: Vec<u8>,
    /// txn: the revision at which each of this worker's keys was last seen.
    revisions: Vec<i64>,
    /// Lease keep-alive: the leases, one for each request in flight.
    pub leases: Vec<i64>,
}

/// The keys of one worker: every `stride`-th from `first` on, so that workers do not meet in compare-and-swap.
struct KeySpace {
    first: u64,
    stride: u64,
    count: u64,
    prefix: Vec<u8>,
    size: usize,
}

impl KeySpace {
    fn write(&self, index: u64, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.prefix);
        out.resize(self.size, b'0');
        let (mut rest, mut at) = (index, self.size);
        while rest > 0 {
            at -= 1;
            out[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
}

impl Generator {
    pub fn new(plan: &Plan, thread: u32) -> Self {
        let (first, stride) = (u64::from(thread), u64::from(plan.threads));
        let keys = KeySpace {
            first,
            stride,
            count: plan.keys.saturating_sub(first).div_ceil(stride),
            prefix: plan.prefix.as_bytes().to_vec(),
            size: plan.key_size,
        };
        let mut random = StdRng::seed_from_u64(u64::from(thread));
        let value = (0..plan.value_size).map(|_| random.random()).collect();
        let revisions =
            if plan.workload == Workload::Txn { vec![0; keys.count as usize] } else { Vec::new() };
        Self {
            workload: plan.workload,
            stage: Stage::Load,
            random,
            sequential: plan.sequential,
            serializable: plan.serializable,
            read_percent: plan.read_percent,
            range_keys: plan.range_keys,
            keys,
            next: 0,
            key: Vec::new(),
            end: Vec::new(),
            value,
            message: Vec::new(),
            revisions,
            leases: Vec::new(),
        }
    }

    /// Turns to another purpose, beginning with the first key.
    pub fn begin(&mut self, stage: Stage) {
        self.stage = stage;
        self.next = 0;
    }

    /// How many calls the stage needs, if that is known.
    pub fn keys(&self) -> u64 {
        self.keys.count
    }

    /// Makes the next call, on behalf of the slot; `now` is stamped into values that watchers will see.
    pub fn next(&mut self, slot: u32, now: u64) -> Call {
        let kind = self.kind();
        let key = match kind {
            Kind::LeaseGrant | Kind::LeaseKeepAlive => 0,
            Kind::Range => self.next_range_start(),
            _ => self.next_key(),
        };
        self.message.clear();
        match kind {
            Kind::Put => {
                if self.workload == Workload::Watch {
                    self.value[..8].copy_from_slice(&now.to_be_bytes());
                }
                self.keys.write(key, &mut self.key);
                put(&self.key, &self.value, &mut self.message);
            }
            Kind::Get => {
                self.keys.write(key, &mut self.key);
                range(&self.key, &[], self.serializable, &mut self.message);
            }
            Kind::Range => {
                self.keys.write(key, &mut self.key);
                // The first key after the range; one past the last key has no number, so that its prefix ends it.
                self.keys.write(key + self.range_keys - 1, &mut self.end);
                self.end.push(0);
                range(&self.key, &self.end, self.serializable, &mut self.message);
            }
            Kind::Txn => {
                self.keys.write(key, &mut self.key);
                let revision = self.revisions[self.position(key)];
                compare_and_swap(&self.key, revision, &self.value, &mut self.message);
            }
            Kind::LeaseGrant => {
                wire::write_integer(tag::LEASE_GRANT_TTL, LEASE_TTL_SECONDS, &mut self.message);
            }
            Kind::LeaseKeepAlive => {
                wire::write_integer(tag::KEEP_ALIVE_ID, self.leases[slot as usize], &mut self.message);
            }
        }
        Call { kind, key }
    }

    /// The message that creates a watcher of the key.
    pub fn watch(&mut self, key: u64) -> &[u8] {
        self.keys.write(key, &mut self.key);
        self.message.clear();
        let key = &self.key;
        wire::write_message(tag::WATCH_CREATE, &mut self.message, |create| {
            wire::write_bytes(tag::WATCH_KEY, key, create);
        });
        &self.message
    }

    /// Remembers at which revision a key of this worker was seen.
    pub fn saw_revision(&mut self, key: u64, revision: i64) {
        if !self.revisions.is_empty() {
            let position = self.position(key);
            self.revisions[position] = revision;
        }
    }

    fn position(&self, key: u64) -> usize {
        ((key - self.keys.first) / self.keys.stride) as usize
    }

    fn kind(&mut self) -> Kind {
        match (self.stage, self.workload) {
            (Stage::Preload, _) | (_, Workload::Put | Workload::Watch) => Kind::Put,
            (Stage::GrantLeases, _) | (_, Workload::LeaseGrant) => Kind::LeaseGrant,
            (_, Workload::LeaseKeepAlive) => Kind::LeaseKeepAlive,
            (_, Workload::Get) => Kind::Get,
            (_, Workload::Range) => Kind::Range,
            (_, Workload::Txn) => Kind::Txn,
            (_, Workload::Mixed) if self.random.random_range(0..100) < self.read_percent => Kind::Get,
            (_, Workload::Mixed) => Kind::Put,
        }
    }

    fn next_key(&mut self) -> u64 {
        let position = if self.sequential || self.stage == Stage::Preload {
            self.next = if self.next >= self.keys.count { 1 } else { self.next + 1 };
            self.next - 1
        } else {
            self.random.random_range(0..self.keys.count)
        };
        self.keys.first + position * self.keys.stride
    }

    fn next_range_start(&mut self) -> u64 {
        let starts = self.keys.count * self.keys.stride - self.range_keys + 1;
        self.random.random_range(0..starts)
    }
}

fn put(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    wire::write_bytes(tag::PUT_KEY, key, out);
    wire::write_bytes(tag::PUT_VALUE, value, out);
}

fn range(key: &[u8], end: &[u8], serializable: bool, out: &mut Vec<u8>) {
    wire::write_bytes(tag::RANGE_KEY, key, out);
    wire::write_bytes(tag::RANGE_END, end, out);
    wire::write_integer(tag::RANGE_SERIALIZABLE, i64::from(serializable), out);
}

/// If the key is at `revision`, put it, else get it: what a Kubernetes API server does to update an object.
fn compare_and_swap(key: &[u8], revision: i64, value: &[u8], out: &mut Vec<u8>) {
    wire::write_message(tag::TXN_COMPARE, out, |compare| {
        wire::write_integer(tag::COMPARE_TARGET, TARGET_MOD, compare);
        wire::write_bytes(tag::COMPARE_KEY, key, compare);
        wire::write_integer(tag::COMPARE_MOD_REVISION, revision, compare);
    });
    wire::write_message(tag::TXN_SUCCESS, out, |op| {
        wire::write_message(tag::OP_PUT, op, |message| put(key, value, message));
    });
    wire::write_message(tag::TXN_FAILURE, out, |op| {
        wire::write_message(tag::OP_RANGE, op, |message| range(key, &[], false, message));
    });
}

#[cfg(test)]
mod tests {
    use quorate_proto::etcdserverpb as pb;
    use quorate_proto::prost::Message;

    use super::*;

    /// The encodings by hand agree with the generated types.
    #[test]
    fn messages_are_what_etcd_expects() {
        let mut bytes = Vec::new();
        put(b"key", b"value", &mut bytes);
        let expected = pb::PutRequest { key: "key".into(), value: "value".into(), ..Default::default() };
        assert_eq!(pb::PutRequest::decode(bytes.as_slice()), Ok(expected.clone()));

        bytes.clear();
        range(b"a", b"b", true, &mut bytes);
        let range = pb::RangeRequest {
            key: "a".into(),
            range_end: "b".into(),
            serializable: true,
            ..Default::default()
        };
        assert_eq!(pb::RangeRequest::decode(bytes.as_slice()), Ok(range));

        bytes.clear();
        compare_and_swap(b"key", 5, b"value", &mut bytes);
        let compare = pb::Compare {
            target: pb::compare::CompareTarget::Mod.into(),
            key: "key".into(),
            target_union: Some(pb::compare::TargetUnion::ModRevision(5)),
            ..Default::default()
        };
        let op = |request| pb::RequestOp { request: Some(request) };
        let get = pb::RangeRequest { key: "key".into(), ..Default::default() };
        let txn = pb::TxnRequest {
            compare: vec![compare],
            success: vec![op(pb::request_op::Request::RequestPut(expected))],
            failure: vec![op(pb::request_op::Request::RequestRange(get))],
        };
        assert_eq!(pb::TxnRequest::decode(bytes.as_slice()), Ok(txn));
    }

    #[test]
    fn keys_have_one_length_and_keep_their_order() {
        let space = KeySpace { first: 1, stride: 3, count: 4, prefix: b"b/".to_vec(), size: 5 };
        let mut key = Vec::new();
        space.write(7, &mut key);
        assert_eq!(key, b"b/007");
        space.write(120, &mut key);
        assert_eq!(key, b"b/120");
    }
}
