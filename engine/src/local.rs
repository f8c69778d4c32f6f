//! `quorate local`: a cluster on this machine, to try things out.
//!
//! Every member is a process of its own, so that it can be killed like one. This process only starts them,
//! says how to reach and how to harm them, and does what is typed: `kill 2`, `stop 2`, `start 2`, `wipe 2`,
//! `add`, `remove 2`, `status`, `quit`. It stops all members when it ends.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use clap::Parser;
use prost::Message;
use quorate_proto::etcdserverpb as pb;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::http2;

/// Start a cluster on this machine.
#[derive(Debug, Parser)]
#[command(name = "quorate local", about = "Start a cluster on this machine to try things out")]
pub struct Options {
    /// How many members: 1, 3, 5, 7 or 9.
    #[arg(long, default_value_t = 3, value_parser = members)]
    members: u16,
    /// The first member's client port; the others follow, each with its peer port next to it.
    #[arg(long, default_value_t = 2379)]
    port: u16,
    /// Where the members keep their data and logs.
    #[arg(long, default_value = "local.quorate")]
    dir: PathBuf,
    /// Flags for every member, after `--`.
    #[arg(last = true)]
    flags: Vec<String>,
}

fn members(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(members @ (1 | 3 | 5 | 7 | 9)) => Ok(members),
        _ => Err("a cluster has an odd number of members, at most nine".to_owned()),
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Says why something could not be done; the cluster goes on.
fn report(result: io::Result<()>) {
    if let Err(error) = result {
        println!("not done: {error}");
    }
}

/// How long a member may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the cluster until told to quit.
///
/// # Errors
/// When the directory cannot be made, a port is taken, or a member cannot be started.
pub async fn run(options: Options) -> io::Result<()> {
    fs::create_dir_all(&options.dir)?;
    let mut cluster = Cluster::new(options)?;
    for number in 1..=cluster.members.len() {
        cluster.start(number)?;
    }
    cluster.introduce();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut listening = true;
    loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            line = lines.next_line(), if listening => match line? {
                // Without somebody who types, wait for a signal.
                None => listening = false,
                Some(line) => if !cluster.obey(line.trim()).await? { break },
            },
        }
    }
    cluster.stop_all().await;
    Ok(())
}

/// The members of the cluster.
struct Cluster {
    options: Options,
    program: PathBuf,
    /// Those that the cluster began with come first, then those that were added.
    members: Vec<Member>,
}

/// One member: its ports, and its process while it runs.
struct Member {
    name: String,
    client_port: u16,
    peer_port: u16,
    process: Option<Child>,
}

impl Cluster {
    fn new(options: Options) -> io::Result<Cluster> {
        let mut cluster = Cluster { options, program: std::env::current_exe()?, members: Vec::new() };
        for _ in 0..cluster.options.members {
            cluster.prepare()?;
        }
        Ok(cluster)
    }

    /// One member more, with ports that are free.
    fn prepare(&mut self) -> io::Result<()> {
        let number = u16::try_from(self.members.len()).unwrap_or(u16::MAX);
        let client_port = number.checked_mul(2).and_then(|offset| self.options.port.checked_add(offset));
        let client_port = client_port.filter(|port| *port < u16::MAX);
        let client_port =
            client_port.ok_or_else(|| io::Error::other("--port is too high for so many members"))?;
        let peer_port = client_port + 1;
        for port in [client_port, peer_port] {
            TcpListener::bind(("127.0.0.1", port)).map_err(|error| {
                let advice = format!("port {port} is not free ({error}): choose others with --port");
                io::Error::new(error.kind(), advice)
            })?;
        }
        let name = format!("m{}", number + 1);
        self.members.push(Member { name, client_port, peer_port, process: None });
        Ok(())
    }

    /// The flags of one member.
    fn flags(&self, number: usize) -> Vec<String> {
        let member = &self.members[number - 1];
        // The founders know each other; one that was added knows all that were there before it.
        let founders = usize::from(self.options.members);
        let known = &self.members[..number.max(founders)];
        let cluster: Vec<String> =
            known.iter().map(|member| format!("{}={}", member.name, url(member.peer_port))).collect();
        let state = if number <= founders { "new" } else { "existing" };
        let mut flags = vec![
            format!("--name={}", member.name),
            format!("--data-dir={}", self.options.dir.join(&member.name).display()),
            format!("--listen-client-urls={}", url(member.client_port)),
            format!("--advertise-client-urls={}", url(member.client_port)),
            format!("--listen-peer-urls={}", url(member.peer_port)),
            format!("--initial-advertise-peer-urls={}", url(member.peer_port)),
            format!("--initial-cluster={}", cluster.join(",")),
            format!("--initial-cluster-state={state}"),
            "--initial-cluster-token=quorate-local".to_owned(),
            "--auto-promote-learners".to_owned(),
        ];
        flags.extend(self.options.flags.iter().cloned());
        flags
    }

    /// Starts a member that does not run.
    fn start(&mut self, number: usize) -> io::Result<()> {
        let flags = self.flags(number);
        let log_path = self.log_path(number);
        let log = File::options().create(true).append(true).open(log_path)?;
        let member = &mut self.members[number - 1];
        if let Some(process) = &mut member.process
            && process.try_wait()?.is_none()
        {
            println!("{} runs already", member.name);
            return Ok(());
        }
        let process = Command::new(&self.program)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        println!("{} started, pid {}", member.name, process.id().unwrap_or_default());
        member.process = Some(process);
        Ok(())
    }

    fn log_path(&self, number: usize) -> PathBuf {
        self.options.dir.join(format!("{}.log", self.members[number - 1].name))
    }

    /// Says what there is and what one can do with it.
    fn introduce(&mut self) {
        let endpoints: Vec<String> =
            self.members.iter().map(|member| format!("127.0.0.1:{}", member.client_port)).collect();
        println!();
        for number in 1..=self.members.len() {
            println!("{}", self.describe(number));
        }
        println!("\nETCDCTL_API=3 etcdctl --endpoints {} endpoint status -w table\n", endpoints.join(","));
        println!("kill N    kill -9 of member N         (or from another terminal: kill -9 PID)");
        println!("stop N    ask member N to stop        (kill PID)");
        println!("start N   start it again with its data");
        println!("wipe N    delete the data of a member that does not run, as if its disk were lost");
        println!("add       one member more: a learner, and a voter when it has caught up");
        println!("remove N  take member N out of the cluster for ever; its process ends");
        println!("status    who runs");
        println!("quit      stop all (data stays in {})", self.options.dir.display());
    }

    fn describe(&mut self, number: usize) -> String {
        let log = self.log_path(number);
        let member = &mut self.members[number - 1];
        let state = match &mut member.process {
            None => "not started".to_owned(),
            Some(process) => match process.try_wait() {
                Ok(None) => format!("pid {}", process.id().unwrap_or_default()),
                Ok(Some(status)) => format!("ended ({status})"),
                Err(error) => format!("unknown ({error})"),
            },
        };
        format!(
            "{}  clients http://127.0.0.1:{}  peers http://127.0.0.1:{}  log {}  {state}",
            member.name,
            member.client_port,
            member.peer_port,
            log.display()
        )
    }

    /// Does what a typed line says; false for `quit`.
    async fn obey(&mut self, line: &str) -> io::Result<bool> {
        let mut words = line.split_whitespace();
        let (verb, number) =
            (words.next(), words.next().and_then(|word| word.trim_start_matches('m').parse().ok()));
        let number = number.filter(|number| (1..=self.members.len()).contains(number));
        match (verb, number) {
            (None, _) => {}
            (Some("quit" | "exit"), _) => return Ok(false),
            (Some("status"), _) => {
                for number in 1..=self.members.len() {
                    println!("{}", self.describe(number));
                }
            }
            (Some("start"), Some(number)) => self.start(number)?,
            (Some("kill"), Some(number)) => {
                if let Some(process) = &mut self.members[number - 1].process {
                    process.kill().await?;
                }
                println!("m{number} killed");
            }
            (Some("wipe"), Some(number)) => self.wipe(number)?,
            (Some("add"), _) => report(self.add().await),
            (Some("remove"), Some(number)) => report(self.remove(number).await),
            (Some("stop"), Some(number)) => {
                self.stop(number).await;
                println!("m{number} stopped");
            }
            _ => println!(
                "kill N, stop N, start N, wipe N, add, remove N, status or quit, with N from 1 to {}",
                self.members.len()
            ),
        }
        Ok(true)
    }

    /// Loses a member's disk.
    fn wipe(&mut self, number: usize) -> io::Result<()> {
        let member = &mut self.members[number - 1];
        let name = member.name.clone();
        if let Some(process) = &mut member.process
            && process.try_wait()?.is_none()
        {
            println!("{name} runs: stop it or kill it first");
            return Ok(());
        }
        match fs::remove_dir_all(self.options.dir.join(&name)) {
            Ok(()) => {
                println!("{name} has lost its data; start {number}, and it joins the others as a new member")
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => println!("{name} has no data"),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Has the cluster take one member more, and starts it.
    async fn add(&mut self) -> io::Result<()> {
        self.prepare()?;
        let number = self.members.len();
        let peer_urls = vec![url(self.members[number - 1].peer_port)];
        let request = pb::MemberAddRequest { peer_ur_ls: peer_urls, is_learner: true };
        if let Err(error) = self.call::<pb::MemberAddResponse>("MemberAdd", &request).await {
            self.members.pop();
            return Err(error);
        }
        self.start(number)
    }

    /// Has the cluster let a member go.
    async fn remove(&mut self, number: usize) -> io::Result<()> {
        let name = &self.members[number - 1].name;
        let list: pb::MemberListResponse =
            self.call("MemberList", &pb::MemberListRequest { linearizable: true }).await?;
        let member = list.members.into_iter().find(|member| member.name == *name);
        let id = member.ok_or_else(|| io::Error::other(format!("{name} is not a member of the cluster")))?.id;
        self.call::<pb::MemberRemoveResponse>("MemberRemove", &pb::MemberRemoveRequest { id }).await?;
        println!("{name} ({id:x}) is removed; its process ends, and does not start again with its data");
        Ok(())
    }

    /// Asks one member after the other, until one answers.
    async fn call<R: Message + Default>(&self, method: &str, request: &impl Message) -> io::Result<R> {
        let path = format!("/etcdserverpb.Cluster/{method}");
        let mut last = io::Error::other("no member runs");
        for member in &self.members {
            match http2::ask(&format!("127.0.0.1:{}", member.client_port), &path, request).await {
                Ok(response) => return Ok(response),
                // One that does not run says less than one that refuses.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks a member to stop, and kills it if it does not.
    async fn stop(&mut self, number: usize) {
        let Some(process) = &mut self.members[number - 1].process else { return };
        let pid = process.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended meanwhile; then there is nothing to stop.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if timeout(STOP_TIMEOUT, process.wait()).await.is_err() {
            let _ = process.kill().await;
        }
    }

    async fn stop_all(&mut self) {
        for number in 1..=self.members.len() {
            self.stop(number).await;
        }
    }
}
