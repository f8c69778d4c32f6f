//! The real etcdctl, unmodified, as a client.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::clock::Deadline;
use crate::process::Process;
use crate::programs::peer;

/// A command may wait for an election or two.
const COMMAND_TIMEOUT: &str = "--command-timeout=30s";
const PATIENCE: Duration = Duration::from_secs(180);

/// etcdctl, pointed at some endpoints.
#[derive(Clone, Debug)]
pub struct Etcdctl {
    path: PathBuf,
    endpoints: String,
}

/// What a command said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A line of `member list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedMember {
    /// In hexadecimal digits.
    pub id: String,
    /// It has made itself known.
    pub started: bool,
    /// Its name, once it has started.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: String,
    /// It does not vote.
    pub is_learner: bool,
}

/// How a member says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its endpoint.
    pub endpoint: String,
    /// In hexadecimal digits.
    pub id: String,
    /// Who leads, as far as it knows.
    pub leader: String,
    /// It does not vote.
    pub is_learner: bool,
    /// What is wrong with it.
    pub errors: Vec<String>,
}

impl Etcdctl {
    /// etcdctl for these endpoints.
    ///
    /// # Panics
    /// When it is not installed.
    #[must_use]
    pub fn new(endpoints: &[String]) -> Self {
        Self { path: peer("etcdctl"), endpoints: endpoints.join(",") }
    }

    /// Runs a command to its end.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.run_with_input(arguments, "")
    }

    /// Runs a command that reads standard input.
    #[must_use]
    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let exit = self.spawn_with_input(arguments, input).wait(Deadline::after(PATIENCE));
        Output { code: exit.code, stdout: exit.stdout, stderr: exit.stderr }
    }

    /// Runs a command that must succeed, and returns its output.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.code, Some(0), "etcdctl {arguments:?} failed: {}{}", output.stdout, output.stderr);
        output.stdout
    }

    /// The members, as some member knows them.
    ///
    /// # Errors
    /// What the command said instead.
    ///
    /// # Panics
    /// When a line is not of the form that scripts expect.
    pub fn members(&self) -> Result<Vec<ListedMember>, String> {
        let output = self.run(&["member", "list"]);
        if output.code != Some(0) {
            return Err(output.stderr);
        }
        let member = |line: &str| match line.split(", ").collect::<Vec<_>>()[..] {
            [id, status, name, peer_urls, _, learner] => ListedMember {
                id: id.to_owned(),
                started: status == "started",
                name: name.to_owned(),
                peer_urls: peer_urls.to_owned(),
                is_learner: learner == "true",
            },
            _ => panic!("not a line of a member list: {line}"),
        };
        Ok(output.stdout.lines().map(member).collect())
    }

    /// How the members are that can be reached.
    #[must_use]
    pub fn statuses(&self) -> Vec<MemberStatus> {
        let output =
            self.run(&["endpoint", "status", "-w", "json", "--dial-timeout=1s", "--command-timeout=5s"]);
        let all: Vec<serde_json::Value> = serde_json::from_str(&output.stdout).unwrap_or_default();
        let id = |number: &serde_json::Value| format!("{:x}", number.as_u64().unwrap_or(0));
        let errors = |list: &serde_json::Value| -> Vec<String> {
            list.as_array()
                .into_iter()
                .flatten()
                .map(|error| error.as_str().unwrap_or_default().into())
                .collect()
        };
        all.iter()
            .map(|one| MemberStatus {
                endpoint: one["Endpoint"].as_str().unwrap_or_default().to_owned(),
                id: id(&one["Status"]["header"]["member_id"]),
                leader: id(&one["Status"]["leader"]),
                is_learner: one["Status"]["isLearner"].as_bool().unwrap_or(false),
                errors: errors(&one["Status"]["errors"]),
            })
            .collect()
    }

    /// Starts a command that goes on until it is killed, such as a watch.
    #[must_use]
    pub fn spawn(&self, arguments: &[&str]) -> Process {
        self.spawn_with_input(arguments, "")
    }

    fn spawn_with_input(&self, arguments: &[&str], input: &str) -> Process {
        let mut command = Command::new(&self.path);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ETCDCTL_")) {
            command.env_remove(name);
        }
        command.env("ETCDCTL_API", "3").arg(COMMAND_TIMEOUT).arg("--endpoints").arg(&self.endpoints);
        Process::start(command.args(arguments), input)
    }
}
