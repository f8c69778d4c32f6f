//! Putting a node together.

use std::sync::Arc;

use quorate_replica::Replica;

use crate::answering::Answering;
use crate::driver::{Driver, Requests, Said, Watchers};
use crate::env::{Clock, Disk, Network};
use crate::error::Error;
use crate::establish::Identity;
use crate::flight::FlightRecorder;
use crate::handle::{NodeHandle, Shared};
use crate::inbox::{Inbox, InboxReceiver};
use crate::limits;
use crate::question::QuestionReceiver;
use crate::recover;
use crate::storage::{self, Snapshots, Storage};

/// What a node is told when it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who the member is. A data directory of another one is refused.
    pub identity: Identity,
    /// The replica's part; its `raft.id` is this member.
    pub replica: quorate_replica::Config,
    /// When a segment of the log is closed.
    pub segment_bytes: u64,
    /// Whether the member goes on alone: all others are removed from the cluster, for ever.
    pub force_new_cluster: bool,
    /// Where everything that happens to the replica is written down.
    pub flight_recorder: Option<FlightRecorder>,
}

impl Config {
    /// With the default for what is only the node's own.
    #[must_use]
    pub fn new(identity: Identity, replica: quorate_replica::Config) -> Config {
        assert_eq!(identity.member, replica.raft.id, "Raft knows who it is");
        let segment_bytes = limits::SEGMENT_BYTES;
        Config { identity, replica, segment_bytes, force_new_cluster: false, flight_recorder: None }
    }
}

/// A node, recovered and ready to run: four tasks to be spawned by the caller, and the way to them.
pub struct Node<C, D: Disk, N> {
    /// How to talk to it.
    pub handle: NodeHandle,
    /// The task that owns the replica. Ends when the node is stopped, or after one of the others has failed.
    pub driver: Driver<C, N>,
    /// The task that writes the log. May block its thread. If it fails, the process must end.
    pub storage: Storage<D>,
    /// The task that writes snapshots. May block its thread, which should not be the log's. If it fails,
    /// the process must end.
    pub snapshots: Snapshots<D>,
    /// The task that answers those who are not members yet.
    pub answering: Answering,
}

impl<C: Clock, D: Disk, N: Network> Node<C, D, N> {
    /// Recovers what the disk holds. `seed` is all the randomness that the node will ever have; `inbox` is
    /// the entrance of `receiver`, and `questions` the end of the queue that the network has been given already.
    pub async fn start(
        config: Config,
        seed: u64,
        (clock, disk, network): (C, D, N),
        (inbox, receiver): (Inbox, InboxReceiver),
        questions: QuestionReceiver,
    ) -> Result<Node<C, D, N>, Error> {
        let recovery =
            recover::recover(&disk, &config.identity, config.segment_bytes, config.force_new_cluster).await?;
        let (boot, position) = (recovery.saved.boot, recovery.saved.snapshot.position);
        let mut replica = Replica::recover(config.replica, seed, clock.now(), recovery.saved)
            .map_err(|source| Error::Import { position, source })?;
        let (queue, storage, snapshots) = storage::tasks(recovery.wal, recovery.snapshots, &inbox);
        let shared = Arc::new(Shared::default());
        shared.publish(replica.status());
        let recorder = config.flight_recorder.map(|recorder| recorder.begin(&mut replica));
        let driver = Driver {
            recorder,
            replica,
            clock,
            network,
            inbox: receiver,
            storage: queue,
            shared: shared.clone(),
            requests: Requests::new(boot),
            watchers: Watchers::default(),
            ending: None,
            said: Said::default(),
        };
        let handle = NodeHandle::new(inbox, shared);
        let answering = Answering { identity: config.identity, node: handle.clone(), questions };
        Ok(Node { handle, driver, storage, snapshots, answering })
    }
}
