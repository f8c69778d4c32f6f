//! What has been measured, and what a response says about its call.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::generator::{Call, Kind};
use super::wire;

/// Field numbers of etcd's responses, as far as they are looked at.
mod tag {
    pub const HEADER: u32 = 1;
    pub const HEADER_REVISION: u32 = 3;
    pub const RANGE_KVS: u32 = 2;
    pub const KV_MOD_REVISION: u32 = 3;
    pub const KV_VALUE: u32 = 5;
    pub const TXN_SUCCEEDED: u32 = 2;
    pub const TXN_RESPONSES: u32 = 3;
    pub const RESPONSE_RANGE: u32 = 1;
    pub const LEASE_ID: u32 = 2;
    pub const LEASE_TTL: u32 = 3;
    pub const WATCH_CREATED: u32 = 3;
    pub const WATCH_CANCELED: u32 = 4;
    pub const WATCH_CANCEL_REASON: u32 = 6;
    pub const WATCH_EVENTS: u32 = 11;
    pub const EVENT_KV: u32 = 2;
}

/// The results of one worker, or of all.
pub struct Tally {
    /// Nanoseconds from the start of a call, or the moment it was due, to its answer.
    pub latency: Histogram<u64>,
    /// Nanoseconds from the start of a put to its event.
    pub event_latency: Histogram<u64>,
    /// Compare-and-swaps that found another revision.
    pub conflicts: u64,
    /// Gets that found nothing.
    pub missing: u64,
    /// Calls that failed, by what the server or the connection said.
    pub errors: BTreeMap<String, u64>,
}

impl Tally {
    pub fn new() -> Self {
        // Three digits between a microsecond and ten minutes.
        let histogram =
            || Histogram::new_with_bounds(1_000, 600_000_000_000, 3).expect("constant bounds are valid");
        Self {
            latency: histogram(),
            event_latency: histogram(),
            conflicts: 0,
            missing: 0,
            errors: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, other: &Tally) {
        self.latency.add(&other.latency).expect("equal bounds");
        self.event_latency.add(&other.event_latency).expect("equal bounds");
        self.conflicts += other.conflicts;
        self.missing += other.missing;
        for (text, count) in &other.errors {
            *self.errors.entry(text.clone()).or_default() += count;
        }
    }

    pub fn failed(&mut self, text: String) {
        *self.errors.entry(text).or_default() += 1;
    }
}

/// What a response told, beyond having arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing more.
    Done,
    /// The call's key is now at this revision.
    Revision(i64),
    /// The compare failed; the key is at this revision.
    Conflict(i64),
    /// The key was not found.
    Missing,
    /// A lease of this id was granted.
    Lease(i64),
    /// The lease to keep alive is gone.
    Expired,
}

/// Reads the response of a call, as far as it matters.
pub fn meaning(call: Call, body: &[u8], wants_revision: bool) -> Meaning {
    let header_revision = || wire::integer(wire::bytes(body, tag::HEADER), tag::HEADER_REVISION);
    match call.kind {
        Kind::Put if wants_revision => Meaning::Revision(header_revision()),
        Kind::Get | Kind::Range if wire::bytes(body, tag::RANGE_KVS).is_empty() => Meaning::Missing,
        Kind::Put | Kind::Get | Kind::Range => Meaning::Done,
        Kind::Txn if wire::integer(body, tag::TXN_SUCCEEDED) != 0 => Meaning::Revision(header_revision()),
        Kind::Txn => {
            let range = wire::bytes(wire::bytes(body, tag::TXN_RESPONSES), tag::RESPONSE_RANGE);
            Meaning::Conflict(wire::integer(wire::bytes(range, tag::RANGE_KVS), tag::KV_MOD_REVISION))
        }
        Kind::LeaseGrant => Meaning::Lease(wire::integer(body, tag::LEASE_ID)),
        Kind::LeaseKeepAlive if wire::integer(body, tag::LEASE_TTL) <= 0 => Meaning::Expired,
        Kind::LeaseKeepAlive => Meaning::Done,
    }
}

/// Reads a watch response; `on_event` is called with the time stamped into each event's value.
pub fn read_watch_response(body: &[u8], mut on_event: impl FnMut(u64)) -> Result<Watched, String> {
    let (mut created, mut canceled) = (false, false);
    for (tag, value) in wire::fields(body) {
        match (tag, value) {
            (tag::WATCH_CREATED, wire::Value::Integer(flag)) => created = flag != 0,
            (tag::WATCH_CANCELED, wire::Value::Integer(flag)) => canceled = flag != 0,
            (tag::WATCH_EVENTS, wire::Value::Bytes(event)) => {
                let stamp = wire::bytes(wire::bytes(event, tag::EVENT_KV), tag::KV_VALUE).first_chunk();
                on_event(stamp.map_or(0, |bytes| u64::from_be_bytes(*bytes)));
            }
            _ => {}
        }
    }
    match (created, canceled) {
        (_, true) => {
            let reason = String::from_utf8_lossy(wire::bytes(body, tag::WATCH_CANCEL_REASON));
            Err(format!("the server canceled a watcher: {reason}"))
        }
        (true, false) => Ok(Watched::Created),
        (false, false) => Ok(Watched::Events),
    }
}

/// The two kinds of watch responses that a measurement expects.
#[derive(Debug, PartialEq, Eq)]
pub enum Watched {
    Created,
    Events,
}

#[cfg(test)]
mod tests {
    use quorate_proto::etcdserverpb as pb;
    use quorate_proto::mvccpb;
    use quorate_proto::prost::Message;

    use super::*;

    #[test]
    fn reads_what_matters_of_responses() {
        let header = Some(pb::ResponseHeader { cluster_id: 1, member_id: 2, revision: 9, raft_term: 3 });
        let txn = Call { kind: Kind::Txn, key: 0 };
        let response = pb::TxnResponse { header, succeeded: true, responses: vec![] };
        assert_eq!(meaning(txn, &response.encode_to_vec(), true), Meaning::Revision(9));

        let kv = mvccpb::KeyValue { key: "k".into(), mod_revision: 4, ..Default::default() };
        let range = pb::RangeResponse { kvs: vec![kv], count: 1, ..Default::default() };
        let get = Call { kind: Kind::Get, key: 0 };
        assert_eq!(meaning(get, &range.encode_to_vec(), false), Meaning::Done);
        assert_eq!(meaning(get, &pb::RangeResponse::default().encode_to_vec(), false), Meaning::Missing);

        let op = pb::ResponseOp { response: Some(pb::response_op::Response::ResponseRange(range)) };
        let response = pb::TxnResponse { header, succeeded: false, responses: vec![op] };
        assert_eq!(meaning(txn, &response.encode_to_vec(), true), Meaning::Conflict(4));
    }

    #[test]
    fn reads_events_and_the_end_of_watchers() {
        let stamped = |stamp: u64| mvccpb::Event {
            kv: Some(mvccpb::KeyValue { value: stamp.to_be_bytes().to_vec().into(), ..Default::default() }),
            ..Default::default()
        };
        let response = pb::WatchResponse { events: vec![stamped(5), stamped(6)], ..Default::default() };
        let mut stamps = Vec::new();
        assert_eq!(
            read_watch_response(&response.encode_to_vec(), |stamp| stamps.push(stamp)),
            Ok(Watched::Events)
        );
        assert_eq!(stamps, [5, 6]);
        let created = pb::WatchResponse { created: true, ..Default::default() };
        assert_eq!(read_watch_response(&created.encode_to_vec(), |_| {}), Ok(Watched::Created));
        let refused = pb::WatchResponse {
            created: true,
            canceled: true,
            cancel_reason: "no".into(),
            ..Default::default()
        };
        assert!(read_watch_response(&refused.encode_to_vec(), |_| {}).is_err());
    }
}
