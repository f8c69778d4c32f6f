//! The server's own HTTP/2, with the crate h2 as the client: what a client may do that etcd's clients seldom do.

use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use quorate_client::proto::etcdserverpb as pb;
use quorate_client::proto::prost::Message;
use quorate_tests::{Cluster, Etcdctl};

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// gRPC's framing of a message.
fn framed(message: &impl Message) -> Bytes {
    let message = message.encode_to_vec();
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).expect("small").to_be_bytes());
    body.extend(message);
    body.into()
}

fn put(key: &str, value: Vec<u8>) -> Bytes {
    framed(&pb::PutRequest { key: key.to_owned().into(), value: value.into(), ..Default::default() })
}

fn get(key: &str) -> Bytes {
    framed(&pb::RangeRequest { key: key.to_owned().into(), ..Default::default() })
}

async fn connect(endpoint: &str, builder: &Builder) -> SendRequest<Bytes> {
    let socket = tokio::net::TcpStream::connect(endpoint).await.expect("the port is open");
    let (sender, connection) = builder.handshake(socket).await.expect("it speaks HTTP/2");
    tokio::task::spawn(connection);
    sender
}

fn request(path: &str, timeout: Option<&str>) -> http::Request<()> {
    let mut request = http::Request::post(format!("http://member{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", timeout);
    }
    request.body(()).expect("a well-formed request")
}

/// A unary call: the reply's message, and the status.
async fn call(sender: &SendRequest<Bytes>, path: &str, body: Bytes) -> (Vec<u8>, String) {
    let mut sender = sender.clone().ready().await.expect("the connection lives");
    let (response, mut stream) = sender.send_request(request(path, None), false).expect("it is sent");
    stream.send_data(body, true).expect("it is sent");
    let (head, mut body) = response.await.expect("there is an answer").into_parts();
    let mut message = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.expect("the answer goes on");
        body.flow_control().release_capacity(chunk.len()).expect("it was taken");
        message.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().await.expect("the answer ends well").unwrap_or(head.headers);
    let status = trailers["grpc-status"].to_str().expect("a number").to_owned();
    (message.split_off(message.len().min(5)), status)
}

fn value(reply: &[u8]) -> Bytes {
    let reply = pb::RangeResponse::decode(reply).expect("a response");
    reply.kvs.into_iter().next().expect("the key is there").value
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("nothing waits for ever");
    });
}

#[test]
fn large_messages_pass_through_small_windows() {
    let cluster = Cluster::start(1, &[]);
    run(async {
        let mut small = Builder::new();
        small.initial_window_size(1000).initial_connection_window_size(70_000);
        let sender = connect(&cluster.endpoints()[0], &small).await;
        let large: Vec<u8> = (0..1_400_000_u32).map(|at| (at / 7) as u8).collect();
        assert_eq!(call(&sender, PUT, put("large", large.clone())).await.1, "0");
        assert_eq!(call(&sender, PUT, put("small", b"1".to_vec())).await.1, "0");
        // Many at once, the short ones between the long ones.
        let gets = (0..20).map(|at| {
            let sender = sender.clone();
            let key = if at % 4 == 0 { "large" } else { "small" };
            tokio::task::spawn(async move { (key, call(&sender, RANGE, get(key)).await) })
        });
        for get in gets.collect::<Vec<_>>() {
            let (key, (reply, status)) = get.await.expect("no panic");
            assert_eq!(status, "0");
            assert!(value(&reply) == if key == "large" { &large[..] } else { b"1" }, "{key}");
        }
    });
}

#[test]
fn a_thousand_calls_share_a_connection() {
    let cluster = Cluster::start(1, &[]);
    run(async {
        // With a small window h2 takes many short answers at once for an attack; tonic's clients have a large one.
        let mut wide = Builder::new();
        wide.initial_connection_window_size(5 << 20);
        let sender = connect(&cluster.endpoints()[0], &wide).await;
        let calls = (0..1000).map(|at| {
            let sender = sender.clone();
            tokio::task::spawn(async move {
                let key = format!("key{at}");
                assert_eq!(call(&sender, PUT, put(&key, key.clone().into())).await.1, "0");
                assert_eq!(value(&call(&sender, RANGE, get(&key)).await.0), key);
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.expect("no panic");
        }
    });
}

#[test]
fn streams_end_by_reset_by_deadline_and_by_the_client() {
    let cluster = Cluster::start(1, &[]);
    run(async {
        let mut sender = connect(&cluster.endpoints()[0], &Builder::new()).await;
        // By the client, at any time.
        for _ in 0..100 {
            let (_, mut stream) = sender.send_request(request(WATCH, None), false).expect("it is sent");
            stream.send_reset(h2::Reason::CANCEL);
            sender = sender.ready().await.expect("the connection lives");
        }
        // By the server, when the time is up.
        let (response, _stream) =
            sender.send_request(request(WATCH, Some("50m")), false).expect("it is sent");
        let mut body = response.await.expect("the stream is open").into_body();
        assert!(body.data().await.is_none());
        let trailers = body.trailers().await.expect("it ends well").expect("a status");
        assert_eq!(trailers["grpc-status"], "4");
        assert_eq!(trailers["grpc-message"], "context deadline exceeded");
        // The connection goes on.
        assert_eq!(call(&sender, PUT, put("k", b"v".to_vec())).await.1, "0");
    });
}

#[test]
fn a_watch_gets_its_events_while_its_client_is_slow() {
    let cluster = Cluster::start(1, &[]);
    run(async {
        let mut narrow = Builder::new();
        narrow.initial_window_size(100);
        let mut sender = connect(&cluster.endpoints()[0], &narrow).await;
        let (response, mut stream) = sender.send_request(request(WATCH, None), false).expect("it is sent");
        let create = pb::WatchCreateRequest { key: "k".into(), ..Default::default() };
        let union = pb::watch_request::RequestUnion::CreateRequest(create);
        let watch = framed(&pb::WatchRequest { request_union: Some(union) });
        stream.send_data(watch, false).expect("it is sent");
        let mut body = response.await.expect("the stream is open").into_body();
        let mut arrived = Vec::new();
        let mut events = 0;
        let mut puts = 0;
        while events < 200 {
            while puts < 200 {
                assert_eq!(call(&sender, PUT, put("k", vec![7; 100])).await.1, "0");
                puts += 1;
            }
            let chunk = body.data().await.expect("the stream goes on").expect("the stream goes on");
            body.flow_control().release_capacity(chunk.len()).expect("it was taken");
            arrived.extend_from_slice(&chunk);
            while let Some(header) = arrived.first_chunk::<5>() {
                let len = 5 + u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
                if arrived.len() < len {
                    break;
                }
                let response = pb::WatchResponse::decode(&arrived[5..len]).expect("a response");
                events += response.events.len();
                arrived.drain(..len);
            }
        }
    });
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn an_authority_may_be_a_url_as_old_clients_send_it() {
    let cluster = Cluster::start(1, &[]);
    let url = format!("http://{}", cluster.endpoints()[0]);
    let etcdctl = Etcdctl::new(std::slice::from_ref(&url));
    for arguments in [&["endpoint", "status"][..], &["endpoint", "status", "--cluster"]] {
        let status = etcdctl.ok(arguments);
        assert!(status.starts_with(&url), "{status}");
    }
}
