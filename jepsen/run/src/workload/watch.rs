//! A watcher of everything at one member, resumed whenever its stream ends.

use std::time::Duration;

use quorate_client::{Client as Wire, Watch};
use quorate_jepsen::etcd::{Keys, WatchRequest, WatchStream};
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
        let mut stream = WatchStream { process: PROCESSES_FROM + number, request, responses: Vec::new() };
        follow(&mut watch, &mut stream, recorder, context).await;
        let seen = stream.responses.iter().flat_map(|response| &response.events);
        next = seen.map(|event| event.kv.mod_revision + 1).max().unwrap_or(next);
        recorder.add_watches(vec![stream]);
    }
}

/// Records responses until the stream ends or the run is over.
async fn follow(watch: &mut Watch, stream: &mut WatchStream, recorder: &Recorder, context: &Context) {
    while !context.is_over() {
        match tokio::time::timeout(TICK, watch.next()).await {
            Err(_) => {} // nothing happened
            Ok(Err(_)) => return,
            Ok(Ok(response)) => {
                let response = convert::watch_response(response, recorder.now());
                let over = response.canceled;
                stream.responses.push(response);
                if over {
                    return;
                }
            }
        }
    }
}
