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
