//! A child process whose output is read line by line, and that never outlives its owner.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::clock::Deadline;

/// How often the end of a process is looked for. Waiting for it costs no wakeups otherwise.
const POLL: Duration = Duration::from_millis(5);

/// How a process ended, and everything it wrote.
#[derive(Clone, Debug)]
pub struct Exit {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A running process; it is killed when this is dropped.
pub struct Process {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Process {
    /// Starts it, with `input` as its standard input.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command, input: &str) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let mut stdin = child.stdin.take().expect("piped");
        // A process that ends without reading its input is no error of ours.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let readers = vec![
            stdout.read(child.stdout.take().expect("piped")),
            stderr.read(child.stderr.take().expect("piped")),
        ];
        Self { child, stdout, stderr, readers }
    }

    /// Waits for a line of standard error that contains the text.
    ///
    /// # Errors
    /// What was written instead, when the process ends or the time is over.
    pub fn await_stderr(&self, text: &str, deadline: Deadline) -> Result<String, String> {
        self.stderr.wait(deadline, |lines| lines.iter().find(|line| line.contains(text)).cloned())
    }

    /// Waits until standard output has so many lines, and returns them.
    ///
    /// # Errors
    /// What was written instead, when the process ends or the time is over.
    pub fn await_stdout_lines(&self, count: usize, deadline: Deadline) -> Result<Vec<String>, String> {
        let enough = |lines: &[String]| (lines.len() >= count).then(|| lines.to_vec());
        self.stdout
            .wait(deadline, enough)
            .map_err(|out| format!("{out}\nstandard error:\n{}", self.stderr.text()))
    }

    /// Everything on standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process has been waited for already.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("ids are positive");
        kill_process(id, signal).unwrap_or_else(|error| panic!("cannot signal process {id:?}: {error}"));
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When the time is over first; the process is killed.
    pub fn wait(mut self, deadline: Deadline) -> Exit {
        loop {
            match self.child.try_wait().expect("our own child can be waited for") {
                Some(status) => return self.exit(status),
                None if deadline.remaining().is_none() => {
                    panic!("the process does not end; standard error:\n{}", self.stderr.text())
                }
                None => thread::sleep(POLL),
            }
        }
    }

    /// Ends it at once, as `kill -9` does.
    ///
    /// # Panics
    /// Never, unless the operating system refuses.
    pub fn kill(mut self) -> Exit {
        self.child.kill().expect("our own child can be killed");
        let status = self.child.wait().expect("our own child can be waited for");
        self.exit(status)
    }

    fn exit(&mut self, status: ExitStatus) -> Exit {
        for reader in self.readers.drain(..) {
            reader.join().expect("readers do not panic");
        }
        Exit { code: status.code(), stdout: self.stdout.text(), stderr: self.stderr.text() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines that a thread reads from a pipe.
#[derive(Clone, Default)]
struct Lines {
    shared: Arc<(Mutex<Received>, Condvar)>,
}

#[derive(Default)]
struct Received {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    #[expect(
        clippy::disallowed_methods,
        reason = "a pipe that nobody reads would stop the process under test"
    )]
    fn read(&self, pipe: impl Read + Send + 'static) -> thread::JoinHandle<()> {
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            let (state, changed) = &*shared;
            for line in BufReader::new(pipe).split(b'\n') {
                let Ok(line) = line else { break };
                state
                    .lock()
                    .expect("no holder panics")
                    .lines
                    .push(String::from_utf8_lossy(&line).into_owned());
                changed.notify_all();
            }
            state.lock().expect("no holder panics").ended = true;
            changed.notify_all();
        })
    }

    fn wait<T>(&self, deadline: Deadline, found: impl Fn(&[String]) -> Option<T>) -> Result<T, String> {
        let (state, changed) = &*self.shared;
        let mut state = state.lock().expect("no holder panics");
        loop {
            if let Some(value) = found(&state.lines) {
                return Ok(value);
            }
            match deadline.remaining() {
                Some(left) if !state.ended => {
                    state = changed.wait_timeout(state, left).expect("no holder panics").0;
                }
                _ => return Err(state.lines.join("\n")),
            }
        }
    }

    fn text(&self) -> String {
        let state = self.shared.0.lock().expect("no holder panics");
        state.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }
}
