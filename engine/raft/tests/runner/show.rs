//! What a script can look at.

use quorate_raft::testing::entry_lines;
use quorate_raft::{Entry, HardState, Index, Position, Raft};

use super::Runner;
use super::commands::{Command, Text};

impl Runner {
    pub(super) fn show(&mut self, command: &Command, lines: &mut Vec<String>) {
        let (Command::Status { ids }
        | Command::Log { ids }
        | Command::Disk { ids }
        | Command::Deadline { ids }
        | Command::Peers { ids }
        | Command::Quorum { ids }
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
                    Some((at, why @ ("election" | "leader lost"))) => {
                        let time = at.since(member.now).as_millis();
                        let time = if time == 0 {
                            "now"
                        } else if time < 1000 {
                            "in < 1s"
                        } else {
                            "in ≥ 1s"
                        };
                        let why = if why == "election" { "an election" } else { "the loss of its leader" };
                        format!("n{id} wakes for {why} {time}")
                    }
                    Some((at, reason)) => {
                        format!("n{id} wakes for {reason} in {:?}", at.since(member.now))
                    }
                },
                Command::Peers { .. } => {
                    let peers = raft.into_iter().flat_map(Raft::peers);
                    let peers = peers.map(|peer| {
                        format!("n{} {:?} matched={}", peer.id, peer.state, peer.matched).to_lowercase()
                    });
                    format!("n{id} peers: {}", peers.collect::<Vec<_>>().join(", "))
                }
                Command::Quorum { .. } => match raft.map(|raft| raft.status().quorum) {
                    None => format!("n{id} crashed"),
                    Some(true) => format!("n{id} sees a quorum"),
                    Some(false) => format!("n{id} sees no quorum"),
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
