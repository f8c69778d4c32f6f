//! Putting a node together.

use std::sync::Arc;

use quorate_raft::Configuration;
use quorate_replica::Replica;

use crate::driver::{Driver, Requests, Watchers};
use crate::env::{Clock, Disk, Network};
use crate::error::Error;
use crate::handle::{NodeHandle, Shared};
use crate::inbox::{Inbox, InboxReceiver};
use crate::limits;
use crate::meta::ClusterId;
use crate::recover::{self, Identity};
use crate::storage::{self, Snapshots, Storage};

/// What a node is told when it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster. A data directory of another one is refused.
    pub cluster: ClusterId,
    /// The configuration that the cluster began with; read on the member's first start only.
    pub initial: Configuration,
    /// The replica's part; its `raft.id` is this member.
    pub replica: quorate_replica::Config,
    /// When a segment of the log is closed.
    pub segment_bytes: u64,
}

impl Config {
    /// With the default for what is only the node's own.
    #[must_use]
    pub fn new(cluster: ClusterId, initial: Configuration, replica: quorate_replica::Config) -> Config {
        Config { cluster, initial, replica, segment_bytes: limits::SEGMENT_BYTES }
    }
}

/// A node, recovered and ready to run: three tasks to be spawned by the caller, and the way to them.
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
}

impl<C: Clock, D: Disk, N: Network> Node<C, D, N> {
    /// Recovers what the disk holds. `seed` is all the randomness that the node will ever have; `inbox` is
    /// the entrance of `receiver`, which the network has been given already.
    pub async fn start(
        config: Config,
        seed: u64,
        (clock, disk, network): (C, D, N),
        (inbox, receiver): (Inbox, InboxReceiver),
    ) -> Result<Node<C, D, N>, Error> {
        let identity =
            Identity { cluster: config.cluster, member: config.replica.raft.id, initial: config.initial };
        let recovery = recover::recover(&disk, identity, config.segment_bytes).await?;
        let (boot, position) = (recovery.saved.boot, recovery.saved.snapshot.position);
        let replica = Replica::recover(config.replica, seed, clock.now(), recovery.saved)
            .map_err(|source| Error::Import { position, source })?;
        let (queue, storage, snapshots) = storage::tasks(recovery.wal, recovery.snapshots, &inbox);
        let shared = Arc::new(Shared::default());
        shared.publish(replica.status());
        let driver = Driver {
            replica,
            clock,
            network,
            inbox: receiver,
            storage: queue,
            shared: shared.clone(),
            requests: Requests::new(boot),
            watchers: Watchers::default(),
        };
        Ok(Node { handle: NodeHandle::new(inbox, shared), driver, storage, snapshots })
    }
}
