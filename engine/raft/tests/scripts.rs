//! Runs the scripts below `scripts/`: each is one scenario, told step by step, with what every member
//! says, writes and applies. `UPDATE_GOLDENFILES=1 cargo test` writes the outputs anew; read them.
//!
//! Reading an output:
//! - `n1→n2 Append@3 after 11@2 entry 12@3 commit=11`: a message was sent (not yet delivered). `12@3` is
//!   the entry at index 12 that the leader of term 3 made.
//! - `n1 writes #4 term=3 vote=n1 commit=11 entries 12@3 x`: a write was begun (not yet durable).
//! - `n1@3 leader last=12@3 persisted=11 commit=11`: a member's role, term or leader has changed.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use quorate_raft::testing::{Cluster, Envelope, entry_lines};
use quorate_raft::{
    Configuration, Entry, HardState, Index, Input, NodeId, Payload, Position, Raft, Role, Status, Term,
};

/// What a script can do. Members are written `n1`, `n2`, …
#[derive(goldenscript::Command)]
enum Command {
    /// Starts a cluster of members `n1` to `n<voters>`, followed by the learners. Comes first.
    Cluster {
        voters: u64,
        #[arg(key, optional)]
        learners: u64,
        #[arg(key)]
        pre_vote: Option<bool>,
        /// Most bytes of entries in an append; an entry takes 32 bytes and its text.
        #[arg(key)]
        append_bytes: Option<usize>,
        /// Most appends in flight to one peer.
        #[arg(key)]
        inflight: Option<usize>,
        /// Milliseconds for which a small append is held back while two are under way.
        #[arg(key)]
        hold: Option<u64>,
        /// Most reads that wait at one member.
        #[arg(key)]
        reads: Option<usize>,
    },
    /// Gives a member another past: term, vote, and the terms of its entries in order. An entry's text
    /// names its term.
    Past {
        id: Id,
        terms: Vec<u64>,
        #[arg(key)]
        term: u64,
        #[arg(key)]
        vote: Option<Id>,
        #[arg(key, optional)]
        commit: u64,
    },
    /// A member's clock moves on to its deadline (election, heartbeat, read retry), and it wakes.
    Timeout { id: Id },
    /// Clocks move on, and nobody wakes: all clocks, or those of some members.
    Advance {
        millis: u64,
        #[arg(optional, many)]
        ids: Vec<Id>,
    },
    /// Makes a member leader: nobody has heard from a leader for long, its timeout runs out, and
    /// everything settles.
    Elect { id: Id },
    /// A member gets commands, and optionally a read, in one turn.
    Propose {
        id: Id,
        commands: Vec<String>,
        #[arg(key, optional)]
        read: bool,
    },
    /// A member gets a read.
    Read { id: Id },
    /// Messages in flight arrive, oldest first: all, or those that match. What they cause stays in flight.
    Deliver {
        #[arg(key)]
        from: Option<Id>,
        #[arg(key)]
        to: Option<Id>,
        /// The message's name.
        #[arg(key)]
        kind: Option<String>,
        /// At most so many.
        #[arg(key)]
        count: Option<usize>,
        /// They will arrive once more.
        #[arg(key, optional)]
        twice: bool,
    },
    /// Messages in flight are lost: all, or those that match.
    Lose {
        #[arg(key)]
        from: Option<Id>,
        #[arg(key)]
        to: Option<Id>,
        #[arg(key)]
        kind: Option<String>,
        #[arg(key)]
        count: Option<usize>,
    },
    /// Messages in flight get stuck somewhere, until `release`.
    Delay {
        #[arg(key)]
        from: Option<Id>,
        #[arg(key)]
        to: Option<Id>,
        #[arg(key)]
        kind: Option<String>,
    },
    /// Delayed messages are in flight again, as the oldest.
    Release,
    /// From now on, messages from these members to the others are lost; in both directions, unless it
    /// is one way only.
    Cut {
        ids: Vec<Id>,
        /// `in`: the members do not hear. `out`: they are not heard.
        #[arg(key)]
        only: Option<String>,
    },
    /// All links work again.
    Heal,
    /// Writes of a member become durable: all, or the oldest so many.
    Persist {
        id: Id,
        #[arg(key)]
        count: Option<usize>,
    },
    /// Messages are delivered and writes become durable until nothing is left to do without time;
    /// of some members only, if given (messages to and from others stay in flight).
    Stabilize {
        #[arg(optional, many)]
        ids: Vec<Id>,
    },
    /// A member crashes, and loses what is not durable, except for the oldest writes that happen to
    /// survive and some entries of the next one.
    Crash {
        id: Id,
        #[arg(key, optional)]
        survive: usize,
        #[arg(key, optional)]
        torn: usize,
    },
    /// A crashed member starts again.
    Restart { id: Id },
    /// A member takes a snapshot of what it has applied, and keeps some entries before its end.
    Snapshot {
        id: Id,
        #[arg(key, optional)]
        keep: u64,
    },
    /// The oldest snapshot on its way arrives and is durable, or is lost.
    Transfer {
        #[arg(key, optional)]
        fail: bool,
    },
    /// Shows where members stand.
    Status {
        #[arg(optional, many)]
        ids: Vec<Id>,
    },
    /// Shows members' logs as they are in memory.
    Log {
        #[arg(optional, many)]
        ids: Vec<Id>,
    },
    /// Shows what is on members' disks.
    Disk {
        #[arg(optional, many)]
        ids: Vec<Id>,
    },
    /// Shows members' deadlines: an election's, which depends on chance, only roughly.
    Deadline {
        #[arg(optional, many)]
        ids: Vec<Id>,
    },
    /// Shows the configurations that members are in.
    Configuration {
        #[arg(optional, many)]
        ids: Vec<Id>,
    },
}

/// A member's id, as scripts write it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Id(NodeId);

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Id, String> {
        let number = text.strip_prefix('n').and_then(|number| number.parse().ok());
        number.map(|number| Id(NodeId(number))).ok_or_else(|| format!("not a member: {text}"))
    }
}

/// A command of the replicated state machine.
#[derive(Clone, PartialEq)]
struct Text(String);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl quorate_raft::Command for Text {
    fn size(&self) -> usize {
        self.0.len()
    }
}

#[derive(Default)]
struct Runner {
    cluster: Option<Cluster<Text>>,
    delayed: Vec<Envelope<Text>>,
    /// Members that are not heard, and that do not hear.
    cut_out: Vec<NodeId>,
    cut_in: Vec<NodeId>,
    /// What was last shown of each member.
    shown: BTreeMap<NodeId, Option<(Term, Role, Option<NodeId>)>>,
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        let mut lines = Vec::new();
        if let Command::Cluster { voters, learners, pre_vote, append_bytes, inflight, hold, reads } = command
        {
            self.start(*voters, *learners, |config| {
                config.pre_vote = pre_vote.unwrap_or(config.pre_vote);
                config.append_bytes_max = append_bytes.unwrap_or(config.append_bytes_max);
                config.inflight_max = inflight.unwrap_or(config.inflight_max);
                config.append_hold = hold.map_or(config.append_hold, Duration::from_millis);
                config.reads_max = reads.unwrap_or(config.reads_max);
            });
        } else if self.cluster.is_none() {
            return Err("the script must start with `cluster`".into());
        } else {
            self.act(command, &mut lines)?;
        }
        self.show_changes(&mut lines);
        Ok(lines.iter().map(|line| format!("{line}\n")).collect())
    }
}

impl Runner {
    fn start(&mut self, voters: u64, learners: u64, configure: impl Fn(&mut quorate_raft::Config)) {
        let configuration = Configuration {
            voters: (1..=voters).map(NodeId).collect(),
            learners: (voters + 1..=voters + learners).map(NodeId).collect(),
            ..Configuration::default()
        };
        let mut cluster = Cluster::new(1, &configuration, configure);
        cluster.trace = Some(Vec::new());
        *self = Runner { cluster: Some(cluster), ..Runner::default() };
        self.show_changes(&mut Vec::new());
    }

    fn act(&mut self, command: &Command, lines: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
        match command {
            Command::Cluster { .. } => unreachable!("handled by the caller"),
            Command::Past { id, terms, term, vote, commit } => {
                self.set_past(id.0, terms, *term, *vote, *commit);
            }
            Command::Timeout { id } => {
                if !self.cluster().timeout(id.0) {
                    return Err("the member has no deadline".into());
                }
            }
            Command::Advance { millis, ids } => self.advance(*millis, ids),
            Command::Elect { id } => {
                self.advance(1000, &[]);
                self.cluster().timeout(id.0);
                self.stabilize(&[]);
            }
            Command::Propose { id, commands, read } => self.propose(id.0, commands, *read),
            Command::Read { id } => {
                self.cluster().read(id.0);
            }
            Command::Deliver { from, to, kind, count, twice } => {
                self.deliver(*from, *to, kind.as_deref(), count.unwrap_or(usize::MAX), *twice)?;
            }
            Command::Lose { from, to, kind, count } => {
                self.take(*from, *to, kind.as_deref(), count.unwrap_or(usize::MAX))?;
            }
            Command::Delay { from, to, kind } => {
                let taken = self.take(*from, *to, kind.as_deref(), usize::MAX)?;
                self.delayed.extend(taken);
            }
            Command::Release => {
                let delayed = std::mem::take(&mut self.delayed);
                self.cluster().network.splice(0..0, delayed);
            }
            Command::Cut { ids, only } => self.cut(ids, only.as_deref())?,
            Command::Heal => (self.cut_out, self.cut_in) = (Vec::new(), Vec::new()),
            Command::Persist { id, count } => {
                if !self.cluster().persist(id.0, count.unwrap_or(usize::MAX)) {
                    return Err("the member has nothing to write".into());
                }
            }
            Command::Stabilize { ids } => self.stabilize(ids),
            Command::Crash { id, survive, torn } => self.cluster().crash(id.0, *survive, *torn),
            Command::Restart { id } => self.cluster().restart(id.0),
            Command::Snapshot { id, keep } => self.cluster().snapshot(id.0, *keep),
            Command::Transfer { fail } => {
                if self.cluster().transfers.is_empty() {
                    return Err("no snapshot is on its way".into());
                }
                self.cluster().finish_transfer(0, !fail);
            }
            Command::Status { .. }
            | Command::Log { .. }
            | Command::Disk { .. }
            | Command::Deadline { .. }
            | Command::Configuration { .. } => self.show(command, lines),
        }
        self.lose_cut();
        lines.extend(self.cluster().trace.replace(Vec::new()).unwrap_or_default());
        Ok(())
    }

    fn cluster(&mut self) -> &mut Cluster<Text> {
        self.cluster.as_mut().expect("the script starts with `cluster`")
    }

    /// The given members, or all.
    fn ids(&mut self, ids: &[Id]) -> Vec<NodeId> {
        if ids.is_empty() {
            self.cluster().members.keys().copied().collect()
        } else {
            ids.iter().map(|id| id.0).collect()
        }
    }

    fn set_past(&mut self, id: NodeId, terms: &[u64], term: u64, vote: Option<Id>, commit: u64) {
        let entry = |(i, &term): (usize, &u64)| Entry {
            term: Term(term),
            index: Index(i as u64 + 1),
            payload: Payload::Command(Text(format!("t{term}"))),
        };
        let entries = terms.iter().enumerate().map(entry).collect();
        let hard_state = HardState { term: Term(term), vote: vote.map(|vote| vote.0), commit: Index(commit) };
        self.cluster().set_disk(id, hard_state, entries);
    }

    fn advance(&mut self, millis: u64, ids: &[Id]) {
        for id in self.ids(ids) {
            self.cluster().advance(id, Duration::from_millis(millis));
        }
    }

    fn propose(&mut self, id: NodeId, commands: &[String], read: bool) {
        let inputs = commands.iter().map(|text| Input::Propose(Text(text.clone())));
        let inputs = inputs.collect();
        if read {
            self.cluster().read_after(id, inputs);
        } else {
            self.cluster().handle_all(id, inputs);
        }
    }

    /// Takes matching messages off the network. It is an error if there are none.
    fn take(
        &mut self,
        from: Option<Id>,
        to: Option<Id>,
        kind: Option<&str>,
        count: usize,
    ) -> Result<Vec<Envelope<Text>>, Box<dyn Error>> {
        let mut taken = Vec::new();
        self.cluster().network.retain(|envelope| {
            let name = envelope.message.to_string();
            let name = name.split('@').next();
            let matches = from.is_none_or(|id| id.0 == envelope.from)
                && to.is_none_or(|id| id.0 == envelope.to)
                && kind.is_none_or(|kind| name == Some(kind))
                && taken.len() < count;
            if matches {
                taken.push(envelope.clone());
            }
            !matches
        });
        if taken.is_empty() { Err("no such message is in flight".into()) } else { Ok(taken) }
    }

    fn deliver(
        &mut self,
        from: Option<Id>,
        to: Option<Id>,
        kind: Option<&str>,
        count: usize,
        twice: bool,
    ) -> Result<(), Box<dyn Error>> {
        for Envelope { from, to, message } in self.take(from, to, kind, count)? {
            if twice {
                self.cluster().network.push(Envelope { from, to, message: message.clone() });
            }
            self.cluster().handle(to, Input::Message { from, message });
        }
        Ok(())
    }

    fn cut(&mut self, ids: &[Id], only: Option<&str>) -> Result<(), Box<dyn Error>> {
        let ids = ids.iter().map(|id| id.0);
        match only {
            None => {
                self.cut_out.extend(ids.clone());
                self.cut_in.extend(ids);
            }
            Some("out") => self.cut_out.extend(ids),
            Some("in") => self.cut_in.extend(ids),
            Some(other) => return Err(format!("cut what? {other}").into()),
        }
        Ok(())
    }

    /// Loses what is in flight on links that are cut. (Members that are cut off together still
    /// hear each other.)
    fn lose_cut(&mut self) {
        let (cut_out, cut_in) = (self.cut_out.clone(), self.cut_in.clone());
        self.cluster().network.retain(|Envelope { from, to, .. }| {
            let out = cut_out.contains(from) && !cut_out.contains(to);
            let into = cut_in.contains(to) && !cut_in.contains(from);
            !out && !into
        });
    }

    fn stabilize(&mut self, ids: &[Id]) {
        let ids = self.ids(ids);
        for _ in 0..10_000 {
            self.lose_cut();
            let cluster = self.cluster();
            let inside =
                |envelope: &Envelope<Text>| ids.contains(&envelope.from) && ids.contains(&envelope.to);
            if let Some(place) = cluster.network.iter().position(inside) {
                cluster.deliver(place);
            } else if !ids.iter().any(|&id| cluster.persist(id, usize::MAX)) {
                return;
            }
        }
        panic!("the members never come to rest");
    }

    /// Shows members whose role, term or leader has changed since the last command.
    fn show_changes(&mut self, lines: &mut Vec<String>) {
        for id in self.ids(&[]) {
            let status = self.status(id);
            let key = status.as_ref().map(|status| (status.term, status.role, status.leader));
            if self.shown.insert(id, key).is_some_and(|before| before != key) {
                lines.push(status.map_or(format!("n{id} crashed"), |status| status.to_string()));
            }
        }
    }

    fn status(&mut self, id: NodeId) -> Option<Status> {
        self.cluster().members[&id].raft.as_ref().map(|raft| raft.status().clone())
    }

    fn show(&mut self, command: &Command, lines: &mut Vec<String>) {
        let (Command::Status { ids }
        | Command::Log { ids }
        | Command::Disk { ids }
        | Command::Deadline { ids }
        | Command::Configuration { ids }) = command
        else {
            return;
        };
        for id in self.ids(ids) {
            let status = self.status(id).map(|status| status.to_string());
            let member = &self.cluster().members[&id];
            let raft = member.raft.as_ref();
            let snapshot = member.disk.snapshot.position;
            lines.push(match command {
                Command::Status { .. } => status.unwrap_or(format!("n{id} crashed")),
                Command::Log { .. } => {
                    format!(
                        "n{id} log: {}",
                        stored_line(snapshot, &raft.map_or(Vec::new(), |raft| raft.log().cloned().collect()))
                    )
                }
                Command::Disk { .. } => {
                    let HardState { term, vote, commit } = member.disk.hard_state;
                    let vote = vote.map_or("nobody".to_string(), |vote| format!("n{vote}"));
                    let entries = stored_line(snapshot, &member.disk.entries);
                    format!("n{id} disk: term={term} vote={vote} commit={commit}; {entries}")
                }
                Command::Deadline { .. } => match raft.and_then(Raft::deadline) {
                    None => format!("n{id} sleeps"),
                    Some((at, "election")) => {
                        let time = at.since(member.now).as_millis();
                        let time = if time == 0 {
                            "now"
                        } else if time < 1000 {
                            "in < 1s"
                        } else {
                            "in ≥ 1s"
                        };
                        format!("n{id} wakes for an election {time}")
                    }
                    Some((at, reason)) => {
                        format!("n{id} wakes for {reason} in {:?}", at.since(member.now))
                    }
                },
                _ => format!(
                    "n{id} {}",
                    raft.map_or("crashed".into(), |raft| raft.configuration().to_string())
                ),
            });
        }
    }
}

/// Entries, and the snapshot they follow.
fn stored_line(snapshot: Position, entries: &[Entry<Text>]) -> String {
    let snapshot = (snapshot.index > Index(0)).then(|| format!("snapshot {snapshot}"));
    let entries = (!entries.is_empty()).then(|| entry_lines(entries));
    snapshot.into_iter().chain(entries).collect::<Vec<_>>().join("; ")
}

/// Runs all scripts of a folder.
fn run(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(folder);
    let mut scripts: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder exists")
        .map(|entry| entry.expect("the folder is readable").path())
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "the folder has scripts");
    let failed = scripts.into_iter().filter_map(|script| {
        let result = std::panic::catch_unwind(|| goldenscript::run(&mut Runner::default(), &script));
        let error = match result {
            Ok(result) => result.err()?.to_string(),
            Err(_) => "differs or failed, see above".to_owned(),
        };
        Some(format!("{}: {error}", script.display()))
    });
    let failed: Vec<_> = failed.collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn election() {
    run("election");
}

#[test]
fn append() {
    run("append");
}

#[test]
fn reads() {
    run("reads");
}

#[test]
fn snapshot() {
    run("snapshot");
}

#[test]
fn restart() {
    run("restart");
}

#[test]
fn disk() {
    run("disk");
}

#[test]
fn membership() {
    run("membership");
}

#[test]
fn transfer() {
    run("transfer");
}

#[test]
fn partition() {
    run("partition");
}

#[test]
fn message() {
    run("message");
}
