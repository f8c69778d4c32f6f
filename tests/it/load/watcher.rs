//! A watcher of everything at one member, resumed whenever the member comes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate_client::proto::etcdserverpb as pb;
use quorate_client::proto::mvccpb;
use quorate_client::{Client, Error, Options, Watch};
use quorate_jepsen::etcd::{Event, Keys, WatchRequest, WatchResponse, WatchStream};

use super::quorate_client::version;
use super::recorder::Recorder;

/// How often a watcher looks whether it shall stop, and tries a member that is down.
const TICK: Duration = Duration::from_millis(100);

/// Watches all keys at the member, and returns what came on each stream.
pub async fn watch(number: u64, endpoint: &str, recorder: &Recorder, stop: &AtomicBool) -> Vec<WatchStream> {
    let client = Client::new([endpoint], Options::default()).expect("our own endpoints are well formed");
    let mut streams: Vec<WatchStream> = Vec::new();
    let mut next_revision = 1;
    while !stop.load(Ordering::SeqCst) {
        let create = pb::WatchCreateRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            start_revision: next_revision,
            prev_kv: true,
            ..Default::default()
        };
        let Ok(mut watch) = client.watch(create).await else {
            tokio::time::sleep(TICK).await;
            continue;
        };
        let request = WatchRequest {
            keys: Keys::all(),
            start_revision: next_revision,
            prev_kv: true,
            ..Default::default()
        };
        let mut stream = WatchStream { process: 1_000 + number, request, responses: Vec::new() };
        follow(&mut watch, &mut stream, recorder, stop).await;
        let seen =
            stream.responses.iter().flat_map(|response| &response.events).map(|event| event.kv.mod_revision);
        next_revision = seen.max().map_or(next_revision, |last| last + 1);
        streams.push(stream);
    }
    streams
}

/// Records responses until the stream ends or nobody wants more.
async fn follow(watch: &mut Watch, stream: &mut WatchStream, recorder: &Recorder, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        let response = match tokio::time::timeout(TICK, watch.next()).await {
            Err(_) => continue, // nothing happened
            Ok(Ok(response)) => response,
            Ok(Err(Error::StreamEnded | Error::Unknown { .. })) => return,
            Ok(Err(error)) => panic!("a watch of everything is refused: {error}"),
        };
        let canceled = response.canceled;
        stream.responses.push(WatchResponse {
            at: recorder.now(),
            revision: response.header.as_ref().map_or(0, |header| header.revision),
            created: response.created,
            canceled,
            compact_revision: response.compact_revision,
            fragment: response.fragment,
            events: response.events.iter().map(event).collect(),
        });
        assert!(!canceled, "nothing was compacted, so that no watcher is canceled: {response:?}");
    }
}

fn event(event: &mvccpb::Event) -> Event {
    Event {
        deleted: event.r#type() == mvccpb::event::EventType::Delete,
        kv: version(event.kv.as_ref().expect("an event is about a key")),
        previous: event.prev_kv.as_ref().map(version),
    }
}
