//! A watcher of everything at one member, resumed whenever its stream ends.

use std::time::Duration;

use quorate_client::{Client as Wire, Watch};
use quorate_jepsen::etcd::{Keys, WatchRequest};
use quorate_jepsen_wire as convert;

use super::Context;
use crate::record::Recorder;

/// How often a watcher looks whether it shall stop, and tries a member that is down.
const TICK: Duration = Duration::from_millis(100);
/// The numbers of watchers begin here, so that they are not taken for clients.
const PROCESSES_FROM: u64 = 1_000_000;

/// Watches until the run is over, and adds what came on each stream to the history.
pub async fn watch(number: u64, wire: Wire, recorder: &Recorder, context: &Context, from: i64) {
    let mut next = from;
    while !context.is_over() {
        let request = WatchRequest {
            keys: Keys::all(),
            start_revision: next,
            prev_kv: true,
            ..WatchRequest::default()
        };
        let Ok(Ok(mut watch)) = tokio::time::timeout(TICK * 20, wire.watch(convert::watch(&request))).await
        else {
            tokio::time::sleep(TICK).await;
            continue;
        };
        let stream = recorder.with(|seen, _| seen.watch(PROCESSES_FROM + number, request));
        let reached = follow(&mut watch, stream, recorder, context).await;
        next = next.max(reached + 1);
        recorder.with(|seen, _| seen.watched(stream));
    }
}

/// Records responses until the stream ends or the run is over. Gives the revision of the last event.
async fn follow(watch: &mut Watch, stream: u64, recorder: &Recorder, context: &Context) -> i64 {
    let mut reached = 0;
    while !context.is_over() {
        match tokio::time::timeout(TICK, watch.next()).await {
            Err(_) => {} // nothing happened
            Ok(Err(_)) => break,
            Ok(Ok(response)) => {
                let over = recorder.with(|seen, now| {
                    let response = convert::watch_response(response, now);
                    reached = response.events.last().map_or(reached, |event| event.kv.mod_revision);
                    let over = response.canceled;
                    seen.received(stream, response);
                    over
                });
                if over {
                    break;
                }
            }
        }
    }
    reached
}
