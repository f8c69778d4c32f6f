//! A cluster of real processes on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::clock::Deadline;
use crate::ports::free_port;
use crate::process::{Exit, Process};
use crate::programs::{Program, program};

/// What etcd logs, and so do we, when clients are welcome.
const READY: &str = "ready to serve client requests";
/// How long members may take to start or stop. Debug builds on busy machines are slow; a broken server is told by its
/// exit, not by this.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much of a member's log is shown when a test fails.
const LOG_LINES_SHOWN: usize = 40;

/// One or more members that know each other.
pub struct Cluster {
    members: Vec<Member>,
    directory: TempDir,
}

/// One member: its addresses, its data, and its process while it runs.
pub struct Member {
    program: Program,
    options: MemberOptions,
    process: Option<Process>,
}

/// What a member is started with; tests may change it before a start.
#[derive(Clone, Debug)]
pub struct MemberOptions {
    /// `--name`.
    pub name: String,
    /// `--data-dir`.
    pub data_dir: PathBuf,
    /// The port that clients use.
    pub client_port: u16,
    /// The port that other members use.
    pub peer_port: u16,
    /// `--initial-cluster`.
    pub initial_cluster: String,
    /// `--initial-cluster-state`.
    pub cluster_state: &'static str,
    /// `--initial-cluster-token`.
    pub token: String,
    /// More flags.
    pub flags: Vec<String>,
}

impl MemberOptions {
    /// The command line that starts the member.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let client = format!("http://127.0.0.1:{}", self.client_port);
        let peer = self.peer_url();
        let data_dir = self.data_dir.display().to_string();
        let flags = [
            ("--name", &self.name),
            ("--data-dir", &data_dir),
            ("--listen-client-urls", &client),
            ("--advertise-client-urls", &client),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
            ("--initial-cluster", &self.initial_cluster),
            ("--initial-cluster-state", &self.cluster_state.to_owned()),
            ("--initial-cluster-token", &self.token),
        ];
        let standard = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value.clone()]);
        standard.chain(self.flags.iter().cloned()).collect()
    }

    /// Where the other members reach it.
    #[must_use]
    pub fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }
}

impl Cluster {
    /// Starts a cluster of the program under test, with more flags for every member, and waits until it serves.
    #[must_use]
    pub fn start(members: usize, flags: &[&str]) -> Self {
        Self::start_program(program(), members, flags)
    }

    /// Starts a cluster of any program that takes etcd's flags.
    ///
    /// # Panics
    /// When a member does not become ready.
    #[must_use]
    pub fn start_program(program: &Program, members: usize, flags: &[&str]) -> Self {
        let mut cluster = Self::prepare(program, members, flags);
        cluster.start_all();
        cluster
    }

    /// A cluster whose members have not been started yet.
    ///
    /// # Panics
    /// When there is no room for temporary files.
    #[must_use]
    pub fn prepare(program: &Program, members: usize, flags: &[&str]) -> Self {
        let directory = TempDir::with_prefix("quorate-test-").expect("a temporary directory can be made");
        let mut cluster = Self { members: Vec::new(), directory };
        for _ in 0..members {
            cluster.prepare_member(program, "new", flags);
        }
        let peers = cluster.members.iter().map(|member| &member.options);
        let peers: Vec<String> = peers.map(|it| format!("{}={}", it.name, it.peer_url())).collect();
        for member in &mut cluster.members {
            member.options.initial_cluster = peers.join(",");
        }
        cluster
    }

    /// One member more, for a cluster that runs: it is not known to the others yet, and does not know them. Returns
    /// its number.
    pub fn prepare_another(&mut self) -> usize {
        let first = self.members.first().expect("a cluster that runs has members");
        let (program, flags) = (first.program.clone(), first.options.flags.clone());
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.prepare_member(&program, "existing", &flags);
        self.members.len() - 1
    }

    fn prepare_member(&mut self, program: &Program, cluster_state: &'static str, flags: &[&str]) {
        let name = format!("m{}", self.members.len() + 1);
        let options = MemberOptions {
            data_dir: self.directory.path().join(&name),
            name,
            client_port: free_port(),
            peer_port: free_port(),
            initial_cluster: String::new(),
            cluster_state,
            token: "quorate-test".to_owned(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        };
        self.members.push(Member { program: program.clone(), options, process: None });
    }

    /// Starts every member that is down, and waits until they serve.
    ///
    /// # Panics
    /// When one does not.
    pub fn start_all(&mut self) {
        let down: Vec<usize> =
            (0..self.members.len()).filter(|at| self.members[*at].process.is_none()).collect();
        // All at once: a member of a new cluster serves only when a majority is there.
        for at in &down {
            self.members[*at].spawn();
        }
        for at in down {
            self.members[at].await_ready();
        }
    }

    /// A member, counted from zero.
    pub fn member(&mut self, at: usize) -> &mut Member {
        &mut self.members[at]
    }

    /// All client endpoints, as `host:port`.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Member::endpoint).collect()
    }

    /// How many members there are, running or not.
    #[must_use]
    pub fn size(&self) -> usize {
        self.members.len()
    }
}

/// A test that fails shows what the members have said last.
impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for member in &self.members {
            let log = member.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            eprintln!("--- {} at {}:\n{}", member.options.name, member.endpoint(), last.join("\n"));
        }
    }
}

impl Member {
    /// Its client endpoint, as `host:port`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.options.client_port)
    }

    /// Where its data is.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.options.data_dir
    }

    /// What it is started with.
    pub fn options(&mut self) -> &mut MemberOptions {
        &mut self.options
    }

    /// Whether its process runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| !process.has_ended())
    }

    /// Starts the process without waiting for anything.
    ///
    /// # Panics
    /// When it runs already.
    pub fn spawn(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.options.name);
        let mut command = Command::new(&self.program.path);
        // Variables of whoever runs the tests must not reach the server.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ETCD_")) {
            command.env_remove(name);
        }
        self.process = Some(Process::start(command.args(self.options.arguments()), ""));
    }

    /// Waits until the member serves clients.
    ///
    /// # Panics
    /// When it ends instead, with what it said.
    pub fn await_ready(&self) {
        let process = self.process.as_ref().expect("the member was started");
        if let Err(said) = process.await_stderr(READY, Deadline::after(PATIENCE)) {
            panic!("{} did not become ready; it said:\n{said}", self.options.name);
        }
    }

    /// Starts it and waits until it serves.
    pub fn start(&mut self) {
        self.spawn();
        self.await_ready();
    }

    /// Starts it and waits for it to give up: for members that cannot start.
    ///
    /// # Panics
    /// When it serves instead, or hangs.
    pub fn start_and_fail(&mut self) -> Exit {
        self.spawn();
        self.process.take().expect("just started").wait(Deadline::after(PATIENCE))
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it does not run, or goes on.
    pub fn await_end(&mut self) -> Exit {
        self.running().wait(Deadline::after(PATIENCE))
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) -> Exit {
        self.running().kill()
    }

    /// Asks it to end, and waits.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub fn terminate(&mut self) -> Exit {
        let process = self.running();
        process.signal(Signal::TERM);
        process.wait(Deadline::after(PATIENCE))
    }

    /// Stops it from doing anything; to others it looks like a machine that hangs.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pause(&self) {
        self.process.as_ref().expect("the member runs").signal(Signal::STOP);
    }

    /// Ends a pause.
    ///
    /// # Panics
    /// When it does not run.
    pub fn resume(&self) {
        self.process.as_ref().expect("the member runs").signal(Signal::CONT);
    }

    /// Sends a signal, and waits for the line in which the member tells what it did about it.
    ///
    /// # Panics
    /// When it does not run, or does not say this.
    pub fn signal_and_await(&mut self, signal: Signal, text: &str) -> String {
        let process = self.process.as_ref().expect("the member runs");
        process.signal(signal);
        match process.await_stderr(text, Deadline::after(PATIENCE)) {
            Ok(line) => line,
            Err(said) => panic!("{} did not say {text:?}; it said:\n{said}", self.options.name),
        }
    }

    /// What it has logged since its last start.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map_or(String::new(), Process::stderr)
    }

    fn running(&mut self) -> Process {
        self.process.take().expect("the member runs")
    }
}
