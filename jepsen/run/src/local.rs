//! A cluster of real processes on this machine, started for the run and ended with it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use quorate_client::proto::etcdserverpb as pb;
use quorate_client::{Client, Options};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::Mutex;

use crate::clock::Clocks;
use crate::disk;
use crate::network::Network;
use crate::ports::Ports;

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Program {
    /// The server of this project: `quorate`, beside this program or in the path.
    Quorate,
    /// etcd, from the path.
    Etcd,
}

/// What can go wrong with a cluster of our own.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A file, folder or process.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// Members that do not serve.
    #[error("no client is served within {0:?}; the members' logs are in {1}")]
    NotReady(Duration, PathBuf),
    /// Namespaces of our own.
    #[error("{0}")]
    Sandbox(String),
    /// A change of members that did not come about.
    #[error("{0}; the members' logs are in {1}")]
    Members(String, PathBuf),
}

/// What was being done when the system refused.
pub fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> LocalError {
    let what = what.into();
    move |source| LocalError::Io { what, source }
}

/// What a cluster needs for the faults that it shall see.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// How many members it begins with.
    pub members: usize,
    /// Links between them can be cut.
    pub with_network: bool,
    /// Their disks can be full.
    pub with_disks: bool,
    /// One more can join.
    pub with_spare: bool,
}

/// Members that know each other, and room for those that may join.
pub struct Local {
    path: PathBuf,
    folder: PathBuf,
    places: Vec<Place>,
    /// How many of them the cluster began with.
    founders: usize,
    with_disks: bool,
    /// Links that can be cut, if asked for.
    pub network: Option<Network>,
    /// Where members listen that have no address of their own.
    ports: Ports,
}

/// Where a member is, or can be.
struct Place {
    name: String,
    log: PathBuf,
    /// What holds its data: a file system of its own, if disks can be full.
    disk: PathBuf,
    client: String,
    peer: String,
    /// What comes before the program on the command line.
    inside: Vec<String>,
    /// `--initial-cluster` and `--initial-cluster-state`.
    initial: (String, &'static str),
    /// Whether there is a member here: it runs unless it is killed.
    belongs: bool,
    process: Option<Child>,
    paused: bool,
    clocks: Option<Clocks>,
}

impl Local {
    /// Starts a cluster below `folder` and waits until every member serves.
    pub async fn start(
        program: Program,
        binary: Option<&Path>,
        layout: Layout,
        folder: &Path,
    ) -> Result<Local, LocalError> {
        let places = layout.members + usize::from(layout.with_spare);
        let network = layout.with_network.then(|| Network::new(places));
        let mut local = Local {
            path: binary.map_or_else(|| find(program), Path::to_path_buf),
            folder: folder.to_path_buf(),
            places: Vec::new(),
            founders: layout.members,
            with_disks: layout.with_disks,
            network: network.transpose().map_err(LocalError::Sandbox)?,
            ports: Ports::reserve().map_err(io_error("looking for free ports"))?,
        };
        for at in 0..places {
            let place = local.place(at, at < layout.members)?;
            local.places.push(place);
        }
        let initial = local.initial_cluster(&local.belonging());
        for at in local.belonging() {
            local.places[at].initial = (initial.clone(), "new");
            local.restart(at)?;
        }
        for at in local.belonging() {
            local.await_ready(at).await?;
        }
        Ok(local)
    }

    fn place(&mut self, at: usize, belongs: bool) -> Result<Place, LocalError> {
        let name = format!("m{}", at + 1);
        let mut ports = || Ok((self.ports.take()?, self.ports.take()?));
        let (inside, host, (client, peer)) = match &self.network {
            Some(_) => (Network::inside(at), Network::address(at), (2379, 2380)),
            None => {
                let ports = ports().map_err(io_error("looking for free ports"))?;
                (Vec::new(), "127.0.0.1".to_owned(), ports)
            }
        };
        let disk = self.folder.join("data").join(&name);
        std::fs::create_dir_all(&disk).map_err(io_error(format!("making {}", disk.display())))?;
        if self.with_disks {
            disk::mount(&disk).map_err(LocalError::Sandbox)?;
        }
        Ok(Place {
            log: self.folder.join(format!("{name}.log")),
            name,
            disk,
            client: format!("http://{host}:{client}"),
            peer: format!("http://{host}:{peer}"),
            inside,
            initial: (String::new(), "new"),
            belongs,
            process: None,
            paused: false,
            clocks: None,
        })
    }

    /// `--initial-cluster` of these members.
    pub fn initial_cluster(&self, members: &[usize]) -> String {
        let members = members.iter().map(|at| &self.places[*at]);
        members.map(|place| format!("{}={}", place.name, place.peer)).collect::<Vec<_>>().join(",")
    }

    /// Waits until a member answers a read, which takes a leader.
    async fn await_ready(&self, at: usize) -> Result<(), LocalError> {
        let request = pb::RangeRequest { key: vec![0].into(), ..Default::default() };
        let mut left = PATIENCE;
        while self.ask(&[at]).range(request.clone()).await.is_err() {
            left = left.saturating_sub(TRY);
            if left.is_zero() {
                return Err(LocalError::NotReady(PATIENCE, self.folder.clone()));
            }
            tokio::time::sleep(TRY).await;
        }
        Ok(())
    }

    /// A client of these members, of little patience.
    pub fn ask(&self, members: &[usize]) -> Client {
        let endpoints = members.iter().map(|at| &self.places[*at].client);
        let limits = Options { dial_timeout: TRY, request_timeout: TRY * 4 };
        Client::new(endpoints, limits).expect("the endpoints are our own")
    }

    /// Where clients are served, by those who belong to the cluster.
    pub fn endpoints(&self) -> Vec<String> {
        self.belonging().into_iter().map(|at| self.places[at].client.clone()).collect()
    }

    /// Who belongs to the cluster.
    pub fn belonging(&self) -> Vec<usize> {
        (0..self.places.len()).filter(|at| self.places[*at].belongs).collect()
    }

    /// Where the cluster began.
    pub fn founders(&self) -> Vec<usize> {
        (0..self.founders).collect()
    }

    /// A place without a member.
    pub fn spare(&self) -> Option<usize> {
        self.places.iter().position(|place| !place.belongs)
    }

    /// What a member is called.
    pub fn name(&self, at: usize) -> &str {
        &self.places[at].name
    }

    /// Where the others reach a member.
    pub fn peer_url(&self, at: usize) -> &str {
        &self.places[at].peer
    }

    /// Where a member's files are.
    pub fn data(&self, at: usize) -> PathBuf {
        self.places[at].disk.join("files")
    }

    /// Where the members' logs are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a member's process runs.
    pub fn is_running(&mut self, at: usize) -> bool {
        self.places[at].process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }

    /// `kill -9`.
    pub fn kill(&mut self, at: usize) {
        let place = &mut self.places[at];
        if let Some(mut process) = place.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
        (place.paused, place.clocks) = (false, None);
    }

    /// Starts a member that does not run.
    pub fn restart(&mut self, at: usize) -> Result<(), LocalError> {
        if self.is_running(at) {
            return Ok(());
        }
        let data = self.data(at).display().to_string();
        let place = &mut self.places[at];
        let opened = File::options().create(true).append(true).open(&place.log);
        let log = opened.map_err(io_error(format!("opening {}", place.log.display())))?;
        let path = self.path.display().to_string();
        let line: Vec<&String> = place.inside.iter().chain([&path]).collect();
        let [program, arguments @ ..] = line.as_slice() else { unreachable!("a line has a program") };
        let mut command = Command::new(program);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ETCD_")) {
            command.env_remove(name);
        }
        let flags = [
            ("--name", place.name.as_str()),
            ("--data-dir", &data),
            ("--listen-client-urls", &place.client),
            ("--advertise-client-urls", &place.client),
            ("--listen-peer-urls", &place.peer),
            ("--initial-advertise-peer-urls", &place.peer),
            ("--initial-cluster", &place.initial.0),
            ("--initial-cluster-state", place.initial.1),
            ("--initial-cluster-token", "jepsen"),
        ];
        let flags = flags.into_iter().flat_map(|(flag, value)| [flag, value]);
        let copy = log.try_clone().map_err(io_error("sharing the log"))?;
        command.args(arguments).args(flags).stdin(Stdio::null()).stdout(log).stderr(copy);
        place.process = Some(command.spawn().map_err(io_error(format!("starting {program}")))?);
        place.clocks = None;
        Ok(())
    }

    /// Stops a member from doing anything, or lets it go on.
    pub fn pause(&mut self, at: usize, pause: bool) {
        if !self.is_running(at) {
            return;
        }
        let place = &mut self.places[at];
        let Some(process) = &place.process else { return };
        // It may have ended meanwhile.
        let _ = kill_process(Pid::from_child(process), if pause { Signal::STOP } else { Signal::CONT });
        place.paused = pause;
    }

    /// The clocks of a member, if it runs.
    pub fn clocks(&mut self, at: usize) -> Result<Option<&mut Clocks>, LocalError> {
        if !self.is_running(at) {
            return Ok(None);
        }
        let place = &mut self.places[at];
        if place.clocks.is_none() {
            let process = place.process.as_ref().expect("it runs");
            let clocks = Clocks::of(Pid::from_child(process));
            place.clocks =
                Some(clocks.map_err(io_error(format!("taking over the clocks of {}", place.name)))?);
        }
        Ok(place.clocks.as_mut())
    }

    /// Nothing more can be written to a member's disk.
    pub fn fill(&self, at: usize) -> Result<(), LocalError> {
        let place = &self.places[at];
        tokio::task::block_in_place(|| disk::fill(&place.disk))
            .map_err(io_error(format!("filling the disk of {}", place.name)))
    }

    /// A member begins that the cluster has made room for.
    pub fn join(&mut self, at: usize, initial_cluster: String) -> Result<(), LocalError> {
        let place = &mut self.places[at];
        place.initial = (initial_cluster, "existing");
        place.belongs = true;
        self.restart(at)
    }

    /// A member ends for good, and its data with it.
    pub fn leave(&mut self, at: usize) -> Result<(), LocalError> {
        self.kill(at);
        self.places[at].belongs = false;
        let data = self.data(at);
        match std::fs::remove_dir_all(&data) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error(format!("removing {}", data.display()))(error))
            }
            _ => Ok(()),
        }
    }

    /// Heals everything: all members run, see each other, have room, and know what time it is. Names those that had
    /// ended by themselves.
    pub fn heal(&mut self) -> Result<Vec<String>, LocalError> {
        let mut ended = Vec::new();
        if let Some(network) = &self.network {
            network.heal();
        }
        for at in 0..self.places.len() {
            let place = &self.places[at];
            if self.with_disks {
                disk::free(&place.disk).map_err(io_error(format!("emptying the disk of {}", place.name)))?;
            }
            if place.paused {
                self.pause(at, false);
            }
            if !self.places[at].belongs {
                continue;
            }
            if self.places[at].process.is_some() && !self.is_running(at) {
                ended.push(self.places[at].name.clone());
            }
            if self.places[at].clocks.is_some()
                && let Some(clocks) = self.clocks(at)?
            {
                // It may have ended meanwhile.
                let _ = clocks.heal();
            }
            self.restart(at)?;
        }
        Ok(ended)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        for at in 0..self.places.len() {
            self.kill(at);
        }
    }
}

/// A cluster that tasks share.
pub type Shared = Arc<Mutex<Local>>;

/// The server beside this program, or else whatever the path has.
fn find(program: Program) -> PathBuf {
    let name = match program {
        Program::Quorate => "quorate",
        Program::Etcd => "etcd",
    };
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join(name)));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(name))
}

/// How long one attempt to reach a member may take, and all of them.
const TRY: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);
