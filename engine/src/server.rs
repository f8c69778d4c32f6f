//! A whole member in this process: disk, peers, node and services put together.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quorate_api::{Api, Limits};
use quorate_node::{ClusterId, Identity, META_FILE, Node, NodeHandle, Plan, establish};
use quorate_raft::{NodeId, Role};
use quorate_replica::{Founder, Request};
use quorate_store::Command;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::aside;
use crate::clock::SystemClock;
use crate::config::url::{self, Url};
use crate::config::{ClusterState, Config, ConfigError};
use crate::disk::{self, DirectoryError, FileDisk};
use crate::flight::BlackBox;
use crate::http::{self, State};
use crate::metrics::Metrics;
use crate::network::TcpNetwork;

/// A running member.
#[derive(Debug)]
pub struct Server {
    node: NodeHandle,
    black_box: Option<BlackBox>,
    /// Ends the serving of clients when dropped.
    serving: oneshot::Sender<()>,
    /// Ends when no client is served any more.
    served: JoinHandle<()>,
    /// How long to wait for another leader before stopping.
    election_timeout: Duration,
    /// What can go wrong while it runs; closed when everything has ended.
    failures: mpsc::Receiver<ServerError>,
}

/// Why a member cannot start, or cannot go on.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The data directory holds what etcd has written.
    #[error(
        "the data directory {} was written by etcd, whose format quorate does not read: give quorate a directory of \
         its own", .0.display()
    )]
    EtcdDirectory(PathBuf),
    /// The flags fit no new member.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What is on the disk cannot be used, or the disk has failed.
    #[error(transparent)]
    Node(#[from] quorate_node::Error),
    /// An address cannot be listened on.
    #[error("listen tcp {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The system has no thread to give.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// A task of the node has panicked: a broken invariant.
    #[error("the task {0} has ended unexpectedly")]
    Panicked(&'static str),
}

impl ServerError {
    /// The exit code of a process that ends because of this: 3 if the member was removed from the cluster, so that
    /// whoever starts it again knows that it makes no sense, and 1 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            ServerError::Node(quorate_node::Error::Removed { .. }) => 3,
            _ => 1,
        }
    }
}

impl Server {
    /// Recovers what the data directory holds and serves from then on. To be called in a tokio runtime.
    ///
    /// # Errors
    /// When the directory, an address or what is on the disk cannot be used. Nothing is overwritten then.
    pub async fn start(config: &Config) -> Result<Server, ServerError> {
        let metrics = Arc::new(Metrics::default());
        let disk = open_directory(config, &metrics)?;
        aside::finish(&config.data_dir)
            .map_err(|source| DirectoryError::Write { path: config.data_dir.clone(), source })?;
        let client_listeners = listen("client", &config.listen_client_urls).await?;
        let peer_listeners = listen("peer", &config.listen_peer_urls).await?;

        let (inbox, receiver) = quorate_node::inbox();
        let (asking, mut questions) = quorate_node::questions();
        let (network, peer_tasks) = TcpNetwork::new(peer_listeners, inbox.clone(), asking);
        let clock = SystemClock::new();
        let mut helpers = JoinSet::new();
        helpers.spawn(peer_tasks.run());
        let identity =
            establish(&plan(config), (&clock, &disk, &network), &mut questions, rand::random).await?;
        tracing::info!("{}", describe(&identity));
        network.begin(&identity, config.advertise_peer_urls.iter().map(Url::to_string).collect());
        let black_box = config.flight_recorder.map(|bytes| BlackBox::new(bytes, &config.data_dir));
        let mut node_config = node_config(config, identity.clone());
        node_config.flight_recorder = black_box.as_ref().map(BlackBox::recorder);
        let world = (clock, disk.clone(), network);
        let node = Node::start(node_config, rand::random(), world, (inbox, receiver), questions).await?;
        let handle = node.handle.clone();

        let (failed, failures) = mpsc::channel(1);
        let retiring = disk.clone();
        run_on_thread("log", node.storage.run(), failed.clone())?;
        run_on_thread("snapshots", node.snapshots.run(), failed.clone())?;
        helpers.spawn(node.answering.run());
        let driver = tokio::spawn(node.driver.run());
        tokio::spawn(async move {
            let ended = driver.await;
            drop(helpers);
            let error = match ended {
                Ok(Ok(())) => return,
                Ok(Err(error)) => retire(&retiring, error).await.into(),
                Err(_) => ServerError::Panicked("driver"),
            };
            let _ = failed.send(error).await;
        });

        let api = Arc::new(Api::new(handle.clone(), clock, api_config(config, &identity)));
        let state = Arc::new(State { api, metrics, black_box: black_box.clone() });
        let (serving, stop) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stop.await;
        };
        let served = tokio::spawn(http::serve(client_listeners, state, http::Options::default(), stopped));
        tokio::spawn(publish(handle.clone(), config.clone(), identity));
        let election_timeout = config.election_timeout;
        Ok(Server { node: handle, black_box, serving, served, election_timeout, failures })
    }

    /// Waits until something goes wrong that ends the member.
    pub async fn failed(&mut self) -> ServerError {
        match self.failures.recv().await {
            Some(error) => error,
            None => ServerError::Panicked("node"),
        }
    }

    /// Hands leadership over if this member has it, lets clients finish, then stops the node and waits until what it
    /// was given is on the disk.
    pub async fn stop(mut self) {
        self.hand_over().await;
        drop(self.serving);
        // It ends soon: connections have a short while to finish.
        let _ = self.served.await;
        self.node.stop();
        while self.failures.recv().await.is_some() {}
    }

    /// Another voter leads before this member goes, if there is one that can: so that nobody waits for an election.
    async fn hand_over(&self) {
        let status = self.node.status();
        if status.raft.role != Role::Leader || status.voters < 2 {
            return;
        }
        let moving = self.node.request(Request::MoveLeader { to: None });
        match timeout(self.election_timeout, moving).await {
            Ok(Ok(_)) => tracing::info!("handed leadership over"),
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot hand leadership over; the others will elect a leader")
            }
            Err(_) => tracing::warn!("nobody took leadership over in time; the others will elect a leader"),
        }
    }

    /// Its flight recorder, if it has one.
    #[must_use]
    pub fn black_box(&self) -> Option<&BlackBox> {
        self.black_box.as_ref()
    }

    /// A way to the node, for programs that embed a server.
    #[must_use]
    pub fn node(&self) -> &NodeHandle {
        &self.node
    }
}

/// Notes a removal on the disk, so that the member does not even try to start again.
async fn retire(disk: &FileDisk, error: quorate_node::Error) -> quorate_node::Error {
    if matches!(error, quorate_node::Error::Removed { .. })
        && let Err(error) = quorate_node::retire(disk).await
    {
        tracing::warn!(%error, "cannot note in the data directory that the member was removed");
    }
    error
}

/// Opens and locks the data directory, after a look at whose it is.
fn open_directory(config: &Config, metrics: &Arc<Metrics>) -> Result<FileDisk, ServerError> {
    if !config.data_dir.join(META_FILE).is_file() {
        config.check_newcomer()?;
    }
    if config.data_dir.join("member").is_dir() {
        return Err(ServerError::EtcdDirectory(config.data_dir.clone()));
    }
    let metrics = Arc::clone(metrics);
    let disk = FileDisk::open(&config.data_dir, move |name, took| {
        if name.ends_with(".wal") {
            metrics.wal_fsync.observe(took);
        }
    })?;
    Ok(disk)
}

/// Listens on every address that the URLs stand for.
async fn listen(purpose: &'static str, urls: &[Url]) -> Result<Vec<TcpListener>, ServerError> {
    let mut listeners = Vec::new();
    for url in urls {
        let address = url.address();
        let listener = TcpListener::bind(&address)
            .await
            .map_err(|source| ServerError::Listen { address: address.clone(), source })?;
        tracing::info!(purpose, url = url.to_string(), "listening");
        listeners.push(listener);
    }
    Ok(listeners)
}

/// What this member was told of its cluster.
fn plan(config: &Config) -> Plan {
    let founder = |(name, urls): &(String, Vec<Url>)| Founder {
        id: NodeId(config.id_of(urls)),
        owner: 0,
        name: name.clone(),
        peer_urls: urls.iter().map(Url::to_string).collect(),
    };
    Plan {
        cluster: ClusterId(config.cluster_id()),
        id: NodeId(config.member_id()),
        founders: config.initial_cluster.iter().map(founder).collect(),
        existing: config.cluster_state == ClusterState::Existing,
    }
}

fn node_config(config: &Config, identity: Identity) -> quorate_node::Config {
    let mut raft = quorate_raft::Config::new(identity.member);
    raft.election_timeout = config.election_timeout;
    raft.heartbeat_interval = config.heartbeat_interval;
    raft.pre_vote = config.pre_vote;
    let replica = quorate_replica::Config {
        raft,
        snapshot_entries: config.snapshot_count,
        catchup_entries: config.catchup_entries,
        quota_bytes: config.quota_bytes.unwrap_or(0),
        strict_reconfig_check: config.strict_reconfig_check,
        learners_max: config.learners_max,
        auto_promote: config.auto_promote,
        priority: config.leader_priority,
        request_timeout: Duration::from_secs(5) + 2 * config.election_timeout,
    };
    let mut node = quorate_node::Config::new(identity, replica);
    node.force_new_cluster = config.force_new_cluster;
    node
}

fn api_config(config: &Config, identity: &Identity) -> quorate_api::Config {
    let mut limits = Limits::default().txn_ops(config.max_txn_ops);
    limits.request_bytes_max = config.max_request_bytes;
    quorate_api::Config {
        cluster_id: identity.cluster.0,
        member_id: identity.member.0,
        election_timeout: config.election_timeout,
        watch_progress_interval: config.progress_interval,
        limits,
        seed: rand::random(),
    }
}

/// Runs one of the node's storage tasks on a thread of its own and reports how it fails.
fn run_on_thread(
    name: &'static str,
    task: impl Future<Output = Result<(), quorate_node::Error>> + Send + 'static,
    failed: mpsc::Sender<ServerError>,
) -> Result<(), ServerError> {
    let ended = disk::spawn(name, task).map_err(ServerError::Thread)?;
    tokio::spawn(async move {
        let error = match ended.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.into(),
            Err(_) => ServerError::Panicked(name),
        };
        let _ = failed.send(error).await;
    });
    Ok(())
}

/// Makes this member's name and URLs known to the cluster, trying until it is done: that is when clients can be
/// served with everything they may ask for.
async fn publish(node: NodeHandle, config: Config, identity: Identity) {
    let command = Command::MemberPublish {
        id: identity.member.0,
        name: config.name.clone(),
        client_urls: config.advertise_client_urls.iter().map(Url::to_string).collect(),
        priority: config.leader_priority,
    };
    loop {
        match node.request(Request::Command(command.clone())).await {
            Ok(_) => break,
            Err(quorate_replica::Error::Stopped) => return,
            Err(error) => tracing::warn!(%error, "cannot make this member known to the cluster; trying on"),
        }
        // A member that has too many requests refuses at once: trying on without a pause would keep a thread from it.
        sleep(PUBLISH_PAUSE).await;
    }
    let (id, name) = (format!("{:x}", identity.member.0), &config.name);
    let client_urls = url::join(&config.advertise_client_urls);
    tracing::info!(member_id = id, name, client_urls, "ready to serve client requests");
}

/// Until a member tries again to make itself known.
const PUBLISH_PAUSE: Duration = Duration::from_millis(100);

/// One line for the log when a member knows who it is.
fn describe(identity: &Identity) -> String {
    let Identity { cluster, member, genesis, owner, .. } = identity;
    let role = if genesis.names(*member, *owner) { "a founder" } else { "joined" };
    format!(
        "this is member {:x} of cluster {cluster} ({role}, {} founders)",
        member.0,
        genesis.founders().len()
    )
}
