//! A cluster of real processes on this machine, started for the run and ended with it.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use quorate_client::{Client, Options};
use rustix::process::{Pid, Signal, kill_process};

use crate::network::Network;

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
    /// A network of our own.
    #[error("{0}")]
    Network(String),
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> LocalError {
    let what = what.into();
    move |source| LocalError::Io { what, source }
}

/// Members that know each other.
pub struct Local {
    members: Vec<Member>,
    /// Links that can be cut, if asked for.
    pub network: Option<Network>,
}

struct Member {
    name: String,
    command: Vec<String>,
    log: PathBuf,
    data: PathBuf,
    endpoint: String,
    process: Option<Child>,
    paused: bool,
}

impl Local {
    /// Starts a cluster below `folder` and waits until every member serves.
    pub async fn start(
        program: Program,
        binary: Option<&Path>,
        members: usize,
        folder: &Path,
        with_network: bool,
    ) -> Result<Local, LocalError> {
        let network =
            if with_network { Some(Network::new(members).map_err(LocalError::Network)?) } else { None };
        let path = binary.map_or_else(|| find(program), Path::to_path_buf);
        let addresses: Vec<(String, u16, u16)> = (0..members)
            .map(|at| match &network {
                Some(network) => Ok((network.address(at), 2379, 2380)),
                None => Ok(("127.0.0.1".to_owned(), free_port()?, free_port()?)),
            })
            .collect::<io::Result<_>>()
            .map_err(io_error("looking for free ports"))?;
        let initial: Vec<String> = addresses
            .iter()
            .enumerate()
            .map(|(at, (host, _, peer))| format!("m{}=http://{host}:{peer}", at + 1))
            .collect();
        let mut local = Local { members: Vec::new(), network };
        for (at, (host, client, peer)) in addresses.iter().enumerate() {
            let name = format!("m{}", at + 1);
            let data = folder.join("data").join(&name);
            std::fs::create_dir_all(&data).map_err(io_error(format!("making {}", data.display())))?;
            let (client, peer) = (format!("http://{host}:{client}"), format!("http://{host}:{peer}"));
            let flags = [
                ("--name", name.clone()),
                ("--data-dir", data.display().to_string()),
                ("--listen-client-urls", client.clone()),
                ("--advertise-client-urls", client.clone()),
                ("--listen-peer-urls", peer.clone()),
                ("--initial-advertise-peer-urls", peer),
                ("--initial-cluster", initial.join(",")),
                ("--initial-cluster-state", "new".to_owned()),
                ("--initial-cluster-token", format!("jepsen-{}", std::process::id())),
            ];
            let mut command: Vec<String> =
                local.network.iter().flat_map(|network| network.inside(at)).collect();
            command.push(path.display().to_string());
            command.extend(flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
            let log = folder.join(format!("{name}.log"));
            let member = Member { name, command, log, data, endpoint: client, process: None, paused: false };
            local.members.push(member);
        }
        for at in 0..members {
            local.restart(at)?;
        }
        local.await_ready(folder).await?;
        Ok(local)
    }

    async fn await_ready(&self, folder: &Path) -> Result<(), LocalError> {
        let options = Options { dial_timeout: TRY, request_timeout: TRY };
        for member in &self.members {
            let mut tries = 0;
            loop {
                let client =
                    Client::new([&member.endpoint], options).expect("our own endpoints are well formed");
                let request = quorate_client::proto::etcdserverpb::RangeRequest {
                    key: vec![0].into(),
                    ..Default::default()
                };
                if client.range(request).await.is_ok() {
                    break;
                }
                tries += 1;
                if TRY * tries > PATIENCE {
                    return Err(LocalError::NotReady(PATIENCE, folder.to_path_buf()));
                }
                tokio::time::sleep(TRY).await;
            }
        }
        Ok(())
    }

    /// Where clients are served.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.endpoint.clone()).collect()
    }

    /// How many members there are.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// What a member is called.
    pub fn name(&self, at: usize) -> &str {
        &self.members[at].name
    }

    /// Where a member's files are.
    pub fn data(&self, at: usize) -> &Path {
        &self.members[at].data
    }

    /// Whether a member's process runs.
    pub fn is_running(&mut self, at: usize) -> bool {
        self.members[at].process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }

    /// `kill -9`.
    pub fn kill(&mut self, at: usize) {
        if let Some(mut process) = self.members[at].process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
        self.members[at].paused = false;
    }

    /// Starts a member that does not run.
    pub fn restart(&mut self, at: usize) -> Result<(), LocalError> {
        if self.is_running(at) {
            return Ok(());
        }
        let member = &mut self.members[at];
        let opened = File::options().create(true).append(true).open(&member.log);
        let log = opened.map_err(io_error(format!("opening {}", member.log.display())))?;
        let [program, arguments @ ..] = member.command.as_slice() else {
            unreachable!("a command has a program")
        };
        let mut command = Command::new(program);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ETCD_")) {
            command.env_remove(name);
        }
        let copy = log.try_clone().map_err(io_error("sharing the log"))?;
        command.args(arguments).stdin(Stdio::null()).stdout(log).stderr(copy);
        member.process = Some(command.spawn().map_err(io_error(format!("starting {program}")))?);
        Ok(())
    }

    /// Stops a member from doing anything, or lets it go on.
    pub fn pause(&mut self, at: usize, pause: bool) {
        let member = &mut self.members[at];
        let Some(process) = &member.process else { return };
        let id = i32::try_from(process.id()).ok().and_then(Pid::from_raw).expect("ids are positive");
        // It may have ended by itself.
        let _ = kill_process(id, if pause { Signal::STOP } else { Signal::CONT });
        member.paused = pause;
    }

    /// Heals everything: all members run and see each other. Names those that had ended by themselves.
    pub fn heal(&mut self) -> Result<Vec<String>, LocalError> {
        let mut ended = Vec::new();
        if let Some(network) = &self.network {
            network.heal();
        }
        for at in 0..self.members.len() {
            if self.members[at].paused {
                self.pause(at, false);
            }
            if self.members[at].process.is_some() && !self.is_running(at) {
                ended.push(self.members[at].name.clone());
            }
            self.restart(at)?;
        }
        Ok(ended)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        for at in 0..self.members.len() {
            self.kill(at);
        }
    }
}

/// The server beside this program, or else whatever the path has.
fn find(program: Program) -> PathBuf {
    let name = match program {
        Program::Quorate => "quorate",
        Program::Etcd => "etcd",
    };
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join(name)));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(name))
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// How long one attempt to reach a member may take, and all of them.
const TRY: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);
