//! One client: asks, records, and says what it knows of the outcome.
//!
//! Only errors that say that nothing was done are refusals; everything else leaves the outcome open, and the
//! process goes on under a new number, as in Jepsen: what it asked may still happen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_client::proto::etcdserverpb as pb;
use quorate_client::{Client as Wire, Error as WireError};
use quorate_jepsen::etcd::{Error, Reply, Request, Response};
use quorate_jepsen_wire as convert;

use crate::record::Recorder;
use crate::timeline::End;

/// One client of the cluster.
pub struct Client {
    wire: Wire,
    process: AtomicU64,
    concurrency: u64,
    recorder: Arc<Recorder>,
}

/// What became of a request.
pub enum Outcome {
    /// It was answered.
    Answered(Response),
    /// It certainly had no effect.
    Refused,
    /// Nobody knows.
    Unknown,
}

impl Outcome {
    /// The reply and its revision, if there is one.
    pub fn reply(self) -> Option<(Reply, i64)> {
        match self {
            Outcome::Answered(Response { revision, result: Ok(reply), .. }) => Some((reply, revision)),
            _ => None,
        }
    }
}

impl Client {
    /// Client number `number` of so many.
    pub fn new(wire: Wire, number: u64, concurrency: u64, recorder: Arc<Recorder>) -> Self {
        Self { wire, process: AtomicU64::new(number), concurrency, recorder }
    }

    /// The history.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Its own number: it does not change.
    pub fn number(&self) -> u64 {
        self.process() % self.concurrency
    }

    /// Under which number it acts.
    pub fn process(&self) -> u64 {
        self.process.load(Ordering::Relaxed)
    }

    /// Asks, and records what comes of it.
    pub async fn ask(&self, request: Request) -> Outcome {
        let sent = self.recorder.elapsed();
        let id = self.recorder.invoke(self.process(), request.clone());
        match self.perform(&request).await {
            Ok(response) => {
                self.recorder.answer(id, response.clone());
                self.recorder.count(sent, End::Answered);
                Outcome::Answered(response)
            }
            Err(error) if error.had_no_effect() => {
                self.recorder.answer(id, Response::refused(refusal(&error)));
                self.recorder.count(sent, End::Refused);
                Outcome::Refused
            }
            Err(_) => {
                self.recorder.abandon(id);
                self.recorder.count(sent, End::Unknown);
                self.renumber();
                // A member that is down would otherwise fill the history with questions to nobody.
                tokio::time::sleep(REST).await;
                Outcome::Unknown
            }
        }
    }

    /// Goes on under a new number.
    pub fn renumber(&self) {
        self.process.fetch_add(self.concurrency, Ordering::Relaxed);
    }

    async fn perform(&self, request: &Request) -> Result<Response, WireError> {
        let (header, reply) = match request {
            Request::Range(range) => {
                let response = self.wire.range(convert::range(range)).await?;
                (response.header, convert::range_reply(response))
            }
            Request::Put(put) => {
                let response = self.wire.put(convert::put(put)).await?;
                (response.header, convert::put_reply(response))
            }
            Request::Delete(delete) => {
                let response = self.wire.delete_range(convert::delete(delete)).await?;
                (response.header, convert::delete_reply(response))
            }
            Request::Txn(txn) => {
                let response = self.wire.txn(convert::txn(txn)).await?;
                (response.header, convert::txn_reply(response))
            }
            Request::Compact { revision } => {
                let request = pb::CompactionRequest { revision: *revision, ..Default::default() };
                (self.wire.compact(request).await?.header, Reply::Done)
            }
            Request::LeaseGrant { id, ttl } => {
                let request = pb::LeaseGrantRequest { id: *id, ttl: *ttl };
                let response = self.wire.lease_grant(request).await?;
                (response.header, Reply::Lease { id: response.id, ttl: response.ttl })
            }
            Request::LeaseRevoke { id } => {
                let request = pb::LeaseRevokeRequest { id: *id };
                (self.wire.lease_revoke(request).await?.header, Reply::Done)
            }
            Request::LeaseKeepAlive { id } => self.keep_alive(*id).await?,
            Request::LeaseTimeToLive { id } => {
                let request = pb::LeaseTimeToLiveRequest { id: *id, keys: false };
                let response = self.wire.lease_time_to_live(request).await?;
                (response.header, Reply::Lease { id: response.id, ttl: response.ttl })
            }
        };
        let header = header.unwrap_or_default();
        Ok(Response { revision: header.revision, member: Some(header.member_id), result: Ok(reply) })
    }

    async fn keep_alive(&self, id: i64) -> Result<(Option<pb::ResponseHeader>, Reply), WireError> {
        let renewed = async { self.wire.keep_alive().await?.renew(id).await };
        let response = tokio::time::timeout(STREAM_TIMEOUT, renewed).await.unwrap_or_else(|_| {
            Err(WireError::Unknown { reason: "no answer within the time limit".into() })
        })?;
        let header = response.as_ref().and_then(|response| response.header);
        Ok((header, Reply::Lease { id, ttl: response.map_or(0, |response| response.ttl) }))
    }
}

/// How long a client rests after a request whose outcome it does not know.
const REST: std::time::Duration = std::time::Duration::from_millis(200);
/// How long an answer on a stream may take.
const STREAM_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(3);

/// What a refusal tells about the state.
fn refusal(error: &WireError) -> Error {
    let WireError::Refused { message, .. } = error else { return Error::Refused };
    let known = [
        ("required revision has been compacted", Error::Compacted),
        ("required revision is a future revision", Error::FutureRevision),
        ("requested lease not found", Error::LeaseNotFound),
        ("lease already exists", Error::LeaseExists),
        ("key not found", Error::KeyNotFound),
    ];
    known.into_iter().find(|(text, _)| message.contains(text)).map_or(Error::Refused, |(_, error)| error)
}
