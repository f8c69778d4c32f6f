//! Requests of the checker's vocabulary through the client library, and what is known of their outcome.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quorate_client::{Client, Error as ClientError, KeepAlive, Options, Transport};
use quorate_jepsen::etcd::{Error, Reply, Request, Response};
use quorate_jepsen_wire as convert;
use quorate_proto::etcdserverpb as pb;
use quorate_raft::NodeId;
use quorate_sim::workload::Outcome;

use super::channel::SimTransport;
use super::cluster::Shared;
use super::network::client_url_of;

/// One user of the client library.
pub struct Caller {
    shared: Arc<Shared>,
    transport: SimTransport,
    patience: Duration,
    /// A handle for each set of members that it has talked to, and its stream of keep-alives.
    handles: BTreeMap<Vec<NodeId>, Handle>,
}

struct Handle {
    client: Client<SimTransport>,
    keep_alive: Option<KeepAlive<SimTransport>>,
}

impl Caller {
    /// A user that waits so long for an answer.
    pub fn new(shared: &Arc<Shared>, patience: Duration) -> Caller {
        let transport = SimTransport::new(shared, patience / 4);
        Caller { shared: Arc::clone(shared), transport, patience, handles: BTreeMap::new() }
    }

    /// The library's handle to these members.
    pub fn client(&mut self, machines: &[NodeId]) -> Client<SimTransport> {
        self.handle(machines).client.clone()
    }

    fn handle(&mut self, machines: &[NodeId]) -> &mut Handle {
        let Caller { transport, patience, handles, .. } = self;
        handles.entry(machines.to_vec()).or_insert_with(|| {
            let options = Options { dial_timeout: *patience / 4, request_timeout: *patience };
            let urls: Vec<String> = machines.iter().map(|machine| client_url_of(*machine)).collect();
            let client =
                Client::over(transport.clone(), urls, options).expect("our own URLs are well formed");
            Handle { client, keep_alive: None }
        })
    }

    /// Asks one of these members, and waits for the answer.
    pub async fn ask(&mut self, machines: &[NodeId], request: &Request) -> Outcome {
        match self.perform(machines, request).await {
            Ok((header, reply)) => {
                let header = header.unwrap_or_default();
                let member = self.shared.machine_of(NodeId(header.member_id)).map(|machine| machine.0);
                Outcome::Answered(Response { revision: header.revision, member, result: Ok(reply) })
            }
            Err(error) => refusal(&error),
        }
    }

    async fn perform(
        &mut self,
        machines: &[NodeId],
        request: &Request,
    ) -> Result<(Option<pb::ResponseHeader>, Reply), ClientError> {
        let client = self.client(machines);
        Ok(match request {
            Request::Range(range) => {
                let response = client.range(convert::range(range)).await?;
                (response.header, convert::range_reply(response))
            }
            Request::Put(put) => {
                let response = client.put(convert::put(put)).await?;
                (response.header, convert::put_reply(response))
            }
            Request::Delete(delete) => {
                let response = client.delete_range(convert::delete(delete)).await?;
                (response.header, convert::delete_reply(response))
            }
            Request::Txn(txn) => {
                let response = client.txn(convert::txn(txn)).await?;
                (response.header, convert::txn_reply(response))
            }
            &Request::Compact { revision } => {
                let request = pb::CompactionRequest { revision, ..Default::default() };
                (client.compact(request).await?.header, Reply::Done)
            }
            &Request::LeaseGrant { id, ttl } => {
                let response = client.lease_grant(pb::LeaseGrantRequest { id, ttl }).await?;
                (response.header, Reply::Lease { id: response.id, ttl: response.ttl })
            }
            &Request::LeaseRevoke { id } => {
                (client.lease_revoke(pb::LeaseRevokeRequest { id }).await?.header, Reply::Done)
            }
            &Request::LeaseTimeToLive { id } => {
                let request = pb::LeaseTimeToLiveRequest { id, keys: false };
                let response = client.lease_time_to_live(request).await?;
                (response.header, Reply::Lease { id: response.id, ttl: response.ttl })
            }
            &Request::LeaseKeepAlive { id } => self.keep_alive(machines, id).await?,
        })
    }

    /// Keeps a lease alive on a stream that stays open until something goes wrong with it.
    async fn keep_alive(
        &mut self,
        machines: &[NodeId],
        id: i64,
    ) -> Result<(Option<pb::ResponseHeader>, Reply), ClientError> {
        let (transport, patience) = (self.transport.clone(), self.patience);
        let handle = self.handle(machines);
        let open = handle.keep_alive.take();
        let client = handle.client.clone();
        let renewing = async {
            let mut stream = match open {
                Some(stream) => stream,
                None => client.keep_alive().await?,
            };
            let renewed = stream.renew(id).await?;
            Ok((stream, renewed))
        };
        let late = || Err(ClientError::Unknown { reason: "no answer within the time limit".into() });
        let (stream, renewed) = transport.within(patience, renewing).await.unwrap_or_else(late)?;
        handle.keep_alive = Some(stream);
        let header = renewed.as_ref().and_then(|renewed| renewed.header);
        Ok((header, Reply::Lease { id, ttl: renewed.map_or(0, |renewed| renewed.ttl) }))
    }
}

/// What an error tells about the request's effect, and about the state.
fn refusal(error: &ClientError) -> Outcome {
    if !error.had_no_effect() {
        return Outcome::Unknown;
    }
    let ClientError::Refused { message, .. } = error else { return Outcome::Refused };
    let telling = [
        (quorate_api::Error::Compacted, Error::Compacted),
        (quorate_api::Error::FutureRevision, Error::FutureRevision),
        (quorate_api::Error::LeaseNotFound, Error::LeaseNotFound),
        (quorate_api::Error::LeaseExists, Error::LeaseExists),
        (quorate_api::Error::KeyNotFound, Error::KeyNotFound),
    ];
    let told = telling.into_iter().find(|(error, _)| error.message() == message);
    let expected = [
        quorate_api::Error::NotForLearners,
        quorate_api::Error::TooManyRequests,
        quorate_api::Error::NoSpace,
    ];
    match told {
        Some((_, error)) => Outcome::Answered(Response { revision: 0, member: None, result: Err(error) }),
        None if expected.iter().any(|error| error.message() == message) => Outcome::Refused,
        None => panic!("no workload asks for what is answered with: {error}"),
    }
}
