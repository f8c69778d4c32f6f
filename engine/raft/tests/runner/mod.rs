//! Carries out what scripts say, with a cluster without clocks, disks or networks.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use quorate_raft::testing::{Cluster, Envelope};
use quorate_raft::{
    Change, Configuration, Entry, HardState, Index, Input, NodeId, Payload, Role, Status, Term,
};

mod commands;
mod messages;
mod show;

pub use commands::{Command, Id, Text};

/// A script that is being carried out.
#[derive(Default)]
pub struct Runner {
    cluster: Option<Cluster<Text>>,
    delayed: Vec<Envelope<Text>>,
    /// Members that are not heard, and that do not hear.
    cut_out: Vec<NodeId>,
    cut_in: Vec<NodeId>,
    /// Links that work only in the other direction, or not at all.
    broken: Vec<(NodeId, NodeId)>,
    /// What was last shown of each member.
    shown: BTreeMap<NodeId, Option<(Term, Role, Option<NodeId>)>>,
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        let mut lines = Vec::new();
        self.perform(command, &mut lines)?;
        self.show_changes(&mut lines);
        Ok(lines.iter().map(|line| format!("{line}\n")).collect())
    }
}

impl Runner {
    /// Carries out a command, and adds what it shows.
    pub fn perform(&mut self, command: &Command, lines: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
        if let Command::Cluster { voters, learners, pre_vote, append_bytes, inflight, hold, reads, seed } =
            command
        {
            self.start(*voters, *learners, seed.unwrap_or(1), |config| {
                config.pre_vote = pre_vote.unwrap_or(config.pre_vote);
                config.append_bytes_max = append_bytes.unwrap_or(config.append_bytes_max);
                config.inflight_max = inflight.unwrap_or(config.inflight_max);
                config.append_hold = hold.map_or(config.append_hold, Duration::from_millis);
                config.reads_max = reads.unwrap_or(config.reads_max);
            });
        } else if self.cluster.is_none() {
            return Err("the script must start with `cluster`".into());
        } else {
            self.act(command, lines)?;
        }
        Ok(())
    }

    fn start(
        &mut self,
        voters: u64,
        learners: u64,
        seed: u64,
        configure: impl Fn(&mut quorate_raft::Config),
    ) {
        let configuration = Configuration {
            voters: (1..=voters).map(NodeId).collect(),
            learners: (voters + 1..=voters + learners).map(NodeId).collect(),
            ..Configuration::default()
        };
        let mut cluster = Cluster::new(seed, &configuration, configure);
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
            Command::Wake { id } => self.cluster().handle(id.0, Input::Wake),
            Command::Pass { millis } => self.pass(*millis),
            Command::Join { id } => self.cluster().join(id.0),
            Command::Change { id, changes } => self.change(id.0, changes)?,
            Command::HandOver { id, to } => {
                self.cluster().handle(id.0, Input::Transfer { to: to.map(|to| to.0) });
            }
            Command::Message { from, to, .. } => {
                let term = self.status(to.0).map_or(Term(0), |status| status.term);
                let message = messages::hand_made(command, term)?;
                self.cluster().handle(to.0, Input::Message { from: from.0, message });
            }
            Command::Elect { id } => {
                self.advance(1000, &[]);
                self.cluster().timeout(id.0);
                self.stabilize(&[]);
            }
            Command::Propose { id, commands, read } => self.propose(id.0, commands, *read),
            Command::Read { id } => {
                self.cluster().read(id.0);
            }
            Command::Persist { id, count } => {
                if !self.cluster().persist(id.0, count.unwrap_or(usize::MAX)) {
                    return Err("the member has nothing to write".into());
                }
            }
            Command::Stabilize { ids } => self.stabilize(ids),
            Command::Crash { id, survive, torn } => self.cluster().crash(id.0, *survive, *torn),
            Command::Restart { id } => self.cluster().restart(id.0),
            Command::Snapshot { id, keep } => self.cluster().snapshot(id.0, *keep),
            Command::Transfer { place, fail } => {
                if self.cluster().transfers.len() <= *place {
                    return Err("no snapshot is on its way".into());
                }
                self.cluster().finish_transfer(*place, !fail);
            }
            Command::Status { .. }
            | Command::Log { .. }
            | Command::Disk { .. }
            | Command::Deadline { .. }
            | Command::Peers { .. }
            | Command::Quorum { .. }
            | Command::Configuration { .. } => self.show(command, lines),
            _ => self.act_on_network(command)?,
        }
        self.lose_cut();
        lines.extend(self.cluster().trace.iter_mut().flat_map(std::mem::take));
        Ok(())
    }

    /// What happens to messages.
    fn act_on_network(&mut self, command: &Command) -> Result<(), Box<dyn Error>> {
        match command {
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
            Command::Break { from, to } => self.broken.push((from.0, to.0)),
            Command::Heal => {
                (self.cut_out, self.cut_in) = (Vec::new(), Vec::new());
                self.broken.clear();
            }
            Command::Arrive { place, .. } | Command::Vanish { place }
                if *place >= self.cluster().network.len() =>
            {
                return Err("nothing is at this place".into());
            }
            Command::Arrive { place, again } => {
                if *again {
                    let copy = self.cluster().network[*place].clone();
                    self.cluster().network.push(copy);
                }
                self.cluster().deliver(*place);
            }
            Command::Vanish { place } => {
                self.cluster().network.remove(*place);
            }
            Command::Isolate { id } => {
                self.cluster().network.retain(|envelope| envelope.from != id.0 && envelope.to != id.0);
            }
            Command::Settle { steps } => (0..*steps).for_each(|_| self.settle()),
            _ => unreachable!("all commands are handled"),
        }
        Ok(())
    }

    fn settle(&mut self) {
        let cluster = self.cluster();
        if !cluster.network.is_empty() {
            cluster.deliver(0);
        }
        let ids: Vec<_> = cluster.members.keys().copied().collect();
        for id in ids {
            cluster.persist(id, 1);
        }
        if !cluster.transfers.is_empty() {
            cluster.finish_transfer(0, true);
        }
    }

    fn pass(&mut self, millis: u64) {
        const STEP: u64 = 50;
        for _ in 0..millis.div_ceil(STEP) {
            self.advance(STEP, &[]);
            for id in self.ids(&[]) {
                self.cluster().handle(id, Input::Wake);
            }
            self.stabilize(&[]);
        }
    }

    fn change(&mut self, id: NodeId, changes: &[(String, Id)]) -> Result<(), Box<dyn Error>> {
        let change = |(what, Id(id)): &(String, Id)| match what.as_str() {
            "learner" => Ok(Change::AddLearner(*id)),
            "voter" => Ok(Change::AddVoter(*id)),
            "demote" => Ok(Change::Demote(*id)),
            "remove" => Ok(Change::Remove(*id)),
            other => Err(format!("change what? {other}")),
        };
        let changes = changes.iter().map(change).collect::<Result<Vec<_>, _>>()?;
        let command = Text(changes.iter().map(|change| short(*change)).collect::<Vec<_>>().join(""));
        self.cluster().handle(id, Input::ChangeMembership { changes, command });
        Ok(())
    }

    pub fn cluster(&mut self) -> &mut Cluster<Text> {
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
        let (cut_out, cut_in, broken) = (self.cut_out.clone(), self.cut_in.clone(), self.broken.clone());
        self.cluster().network.retain(|Envelope { from, to, .. }| {
            let out = cut_out.contains(from) && !cut_out.contains(to);
            let into = cut_in.contains(to) && !cut_in.contains(from);
            !out && !into && !broken.contains(&(*from, *to))
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
}

/// How the command that goes with a change reads.
fn short(change: Change) -> String {
    let sign = match change {
        Change::AddLearner(_) => "l",
        Change::AddVoter(_) => "+",
        Change::Demote(_) => "d",
        Change::Remove(_) => "-",
    };
    format!("{sign}{}", change.member())
}
