//! Requests that are empty, wrong, too large, malformed or hostile: etcd's codes and texts, and a server that goes on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use quorate_client::proto::etcdserverpb as pb;
use quorate_client::proto::prost::Message;
use quorate_tests::{Cluster, program};

const UNKNOWN: u32 = 2;
const INVALID_ARGUMENT: u32 = 3;
const NOT_FOUND: u32 = 5;
const RESOURCE_EXHAUSTED: u32 = 8;
const FAILED_PRECONDITION: u32 = 9;
const OUT_OF_RANGE: u32 = 11;
const UNIMPLEMENTED: u32 = 12;
const INTERNAL: u32 = 13;

/// gRPC's status of a call, and its text.
type Status = (u32, String);

/// Makes a unary call with a body that may be anything.
async fn call(endpoint: &str, path: &str, body: Bytes) -> Result<Status, String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let socket = tokio::net::TcpStream::connect(endpoint).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) = h2::client::handshake(socket).await.map_err(|error| failed(&error))?;
    let driver = tokio::task::spawn(connection);
    let request = http::Request::post(format!("http://{endpoint}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a well-formed request");
    let (response, mut stream) = sender.send_request(request, false).map_err(|error| failed(&error))?;
    // A server may answer before it has read everything; then the rest is not wanted.
    stream.reserve_capacity(body.len());
    let _ = stream.send_data(body, true);
    let response = response.await.map_err(|error| failed(&error))?;
    let (head, mut body) = response.into_parts();
    while let Some(chunk) = body.data().await {
        let length = chunk.map_err(|error| failed(&error))?.len();
        body.flow_control().release_capacity(length).map_err(|error| failed(&error))?;
    }
    let trailers = body.trailers().await.map_err(|error| failed(&error))?.unwrap_or(head.headers);
    driver.abort();
    let text =
        |name: &str| trailers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let code = text("grpc-status").parse().map_err(|_| format!("no gRPC status: {trailers:?}"))?;
    Ok((code, percent_decoded(&text("grpc-message"))))
}

fn percent_decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code =
            part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).expect("two hex digits");
        decoded.push(char::from(code));
        decoded.push_str(&part[2..]);
    }
    decoded
}

/// gRPC's framing of a message.
fn framed(message: &[u8]) -> Bytes {
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).expect("small").to_be_bytes());
    body.extend(message);
    body.into()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}

/// Makes the calls one after the other and compares their statuses.
fn assert_statuses(calls: &[(&str, &str, Bytes, u32, &str)]) {
    let cluster = Cluster::start(1, &[]);
    let endpoint = &cluster.endpoints()[0];
    runtime().block_on(async {
        for (what, path, body, code, text) in calls {
            let status = call(endpoint, path, body.clone()).await;
            assert_eq!(status, Ok((*code, (*text).to_owned())), "{what}");
        }
    });
}

fn range(request: pb::RangeRequest) -> Bytes {
    framed(&request.encode_to_vec())
}

fn put(request: pb::PutRequest) -> Bytes {
    framed(&request.encode_to_vec())
}

fn put_op(key: &'static str) -> pb::RequestOp {
    let put = pb::PutRequest { key: key.into(), ..Default::default() };
    pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
}

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const DELETE_RANGE: &str = "/etcdserverpb.KV/DeleteRange";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const LEASE_REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";

#[test]
fn wrong_key_value_requests() {
    let key = || Bytes::from_static(b"k");
    let no_key = "etcdserver: key is not provided";
    assert_statuses(&[
        ("an empty range", RANGE, framed(&[]), INVALID_ARGUMENT, no_key),
        ("an empty put", PUT, framed(&[]), INVALID_ARGUMENT, no_key),
        ("an empty delete", DELETE_RANGE, framed(&[]), INVALID_ARGUMENT, no_key),
        (
            "a value that shall be ignored",
            PUT,
            put(pb::PutRequest { key: key(), value: key(), ignore_value: true, ..Default::default() }),
            INVALID_ARGUMENT,
            "etcdserver: value is provided",
        ),
        (
            "a lease that shall be ignored",
            PUT,
            put(pb::PutRequest { key: key(), lease: 5, ignore_lease: true, ..Default::default() }),
            INVALID_ARGUMENT,
            "etcdserver: lease is provided",
        ),
        (
            "the present value of nothing",
            PUT,
            put(pb::PutRequest { key: key(), ignore_value: true, ..Default::default() }),
            INVALID_ARGUMENT,
            "etcdserver: key not found",
        ),
        (
            "a lease that does not exist",
            PUT,
            put(pb::PutRequest { key: key(), lease: 5, ..Default::default() }),
            NOT_FOUND,
            "etcdserver: requested lease not found",
        ),
        (
            "a revision to come",
            RANGE,
            range(pb::RangeRequest { key: key(), revision: 99, ..Default::default() }),
            OUT_OF_RANGE,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        (
            "compaction of what is to come",
            COMPACT,
            framed(&pb::CompactionRequest { revision: 99, physical: false }.encode_to_vec()),
            OUT_OF_RANGE,
            "etcdserver: mvcc: required revision is a future revision",
        ),
    ]);
}

#[test]
fn wrong_transactions() {
    let txn = |success: Vec<pb::RequestOp>| {
        framed(&pb::TxnRequest { success, ..Default::default() }.encode_to_vec())
    };
    let compare = pb::TxnRequest { compare: vec![pb::Compare::default()], ..Default::default() };
    assert_statuses(&[
        (
            "129 operations",
            TXN,
            txn(vec![put_op("k"); 129]),
            INVALID_ARGUMENT,
            "etcdserver: too many operations in txn request",
        ),
        (
            "two puts of a key",
            TXN,
            txn(vec![put_op("k"); 2]),
            INVALID_ARGUMENT,
            "etcdserver: duplicate key given in txn request",
        ),
        (
            "a put without a key",
            TXN,
            txn(vec![put_op("")]),
            INVALID_ARGUMENT,
            "etcdserver: key is not provided",
        ),
        (
            "an operation that is none",
            TXN,
            txn(vec![pb::RequestOp::default()]),
            INVALID_ARGUMENT,
            "etcdserver: key not found",
        ),
        (
            "a compare without a key",
            TXN,
            framed(&compare.encode_to_vec()),
            INVALID_ARGUMENT,
            "etcdserver: key is not provided",
        ),
    ]);
}

#[test]
fn wrong_lease_requests() {
    let grant = |id, ttl| framed(&pb::LeaseGrantRequest { id, ttl }.encode_to_vec());
    assert_statuses(&[
        (
            "a lease for ever",
            LEASE_GRANT,
            grant(1, 9_000_000_001),
            OUT_OF_RANGE,
            "etcdserver: too large lease TTL",
        ),
        ("a lease", LEASE_GRANT, grant(7, 100), 0, ""),
        (
            "the same lease",
            LEASE_GRANT,
            grant(7, 100),
            FAILED_PRECONDITION,
            "etcdserver: lease already exists",
        ),
        (
            "the end of a lease that does not exist",
            LEASE_REVOKE,
            framed(&pb::LeaseRevokeRequest { id: 8 }.encode_to_vec()),
            NOT_FOUND,
            "etcdserver: requested lease not found",
        ),
    ]);
}

#[test]
fn requests_that_are_too_large() {
    let put_of = |bytes: usize| {
        put(pb::PutRequest { key: "k".into(), value: vec![7; bytes].into(), ..Default::default() })
    };
    let length = |body: &Bytes| body.len() - 5;
    let (fits, large, larger) = (put_of(1_500_000), put_of(1_600_000), put_of(3_000_000));
    let limit = 1_572_864 + 512 * 1024;
    let text = format!("grpc: received message larger than max ({} vs. {limit})", length(&larger));
    assert_statuses(&[
        ("a large put", PUT, fits, 0, ""),
        ("a put above the limit", PUT, large, INVALID_ARGUMENT, "etcdserver: request is too large"),
        ("a put far above the limit", PUT, larger, RESOURCE_EXHAUSTED, &text),
    ]);
}

#[test]
fn methods_that_do_not_exist() {
    assert_statuses(&[
        (
            "an unknown method",
            "/etcdserverpb.KV/Nope",
            framed(&[]),
            UNIMPLEMENTED,
            "unknown method Nope for service etcdserverpb.KV",
        ),
        (
            "an unknown service",
            "/nobody.Home/Knock",
            framed(&[]),
            UNIMPLEMENTED,
            "unknown service nobody.Home",
        ),
    ]);
}

#[test]
fn hostile_bytes_get_an_error_and_the_server_goes_on() {
    let mut cluster = Cluster::start(1, &[]);
    let endpoint = cluster.endpoints()[0].clone();
    let peer_port = cluster.member(0).options().peer_port;
    let compressed = {
        let mut body = framed(b"\x0a\x01k").to_vec();
        body[0] = 1;
        body
    };
    let hostile: Vec<(&str, &str, Bytes)> = vec![
        ("not protobuf", PUT, framed(&[0xff; 64])),
        ("a field longer than its message", PUT, framed(&[0x0a, 0xff, 0xff, 0xff, 0x7f, 1])),
        ("a message that ends early", PUT, Bytes::from_static(&[0, 0, 0, 0, 9, 1])),
        ("four gigabytes announced", PUT, Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 1])),
        ("compressed without saying how", PUT, compressed.into()),
        ("two thousand transactions in each other", TXN, framed(&nested_txns(2_000))),
        ("a wire type that does not exist", RANGE, framed(&[0x0f, 1, 1])),
    ];
    runtime().block_on(async {
        for (what, path, body) in hostile {
            let answer = tokio::time::timeout(Duration::from_secs(20), call(&endpoint, path, body)).await;
            match answer.expect("an answer or an end of the connection") {
                Ok((code, text)) => assert!(
                    [UNKNOWN, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL].contains(&code),
                    "{what}: {code} {text}"
                ),
                Err(reset) => println!("{what}: {reset}"),
            }
        }
    });
    for port in [endpoint.clone(), format!("127.0.0.1:{peer_port}")] {
        for garbage in [
            &b"\x00\x01\x02\x03garbage"[..],
            b"GET / HTTP/9.9\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff",
        ] {
            let mut socket = TcpStream::connect(&port).expect("the port is open");
            socket.set_read_timeout(Some(Duration::from_millis(200))).expect("not zero");
            socket.write_all(garbage).expect("the server reads");
            // Whatever it answers, or nothing.
            let _ = socket.read(&mut [0; 1024]);
        }
    }
    let status = runtime().block_on(call(
        &endpoint,
        PUT,
        put(pb::PutRequest { key: "k".into(), ..Default::default() }),
    ));
    assert_eq!(status, Ok((0, String::new())), "the server goes on");
    assert!(cluster.member(0).is_running());
    assert!(!cluster.member(0).log().contains("panicked"), "{}", cluster.member(0).log());
}

/// The encoding of a transaction in a transaction in a …, made without recursion.
fn nested_txns(depth: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for _ in 0..depth {
        // RequestOp.request_txn = 4, TxnRequest.success = 2.
        for tag in [0x22, 0x12] {
            let mut outer = vec![tag];
            let mut length = bytes.len();
            while length >= 0x80 {
                outer.push((length & 0x7f) as u8 | 0x80);
                length >>= 7;
            }
            outer.push(length as u8);
            outer.append(&mut bytes);
            bytes = outer;
        }
    }
    bytes
}

#[test]
fn sort_orders_that_do_not_exist() {
    if !program().is_quorate {
        return; // etcd refuses them since 3.6
    }
    let text = "etcdserver: invalid sort option";
    let key = || Bytes::from_static(b"k");
    assert_statuses(&[
        (
            "an unknown order",
            RANGE,
            range(pb::RangeRequest { key: key(), sort_order: 7, ..Default::default() }),
            INVALID_ARGUMENT,
            text,
        ),
        (
            "an unknown target",
            RANGE,
            range(pb::RangeRequest { key: key(), sort_target: 7, ..Default::default() }),
            INVALID_ARGUMENT,
            text,
        ),
    ]);
}
