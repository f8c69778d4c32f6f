//! Three Rafts in one process agree on a word; then a fourth takes the place of one of them.
//!
//! The state machine is a string to which commands append letters. The network is a queue, the disk is
//! done at once, and time is a number: all that Raft needs from its owner.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use quorate_raft::{
    Change, Command, Config, Configuration, HardState, Input, Instant, Message, NodeId, Output, Payload,
    Position, Raft, ReadId, Role, Saved, SnapshotMeta,
};

/// What is replicated.
#[derive(Clone, Debug)]
struct Letter(char);

impl Command for Letter {
    fn size(&self) -> usize {
        self.0.len_utf8()
    }
}

/// A member: its Raft, and the state machine that the Raft's log is applied to.
struct Node {
    raft: Raft<Letter>,
    word: String,
}

fn main() {
    let ids = [NodeId(1), NodeId(2), NodeId(3)];
    let configuration = Configuration { voters: ids.into(), ..Configuration::default() };
    let mut nodes: BTreeMap<NodeId, Node> = ids.map(|id| (id, start(id, &configuration))).into();
    let mut network = VecDeque::new();

    let mut now = Instant(0);
    for (id, input) in [(1, Input::Propose(Letter('q'))), (2, Input::Propose(Letter('x')))] {
        turn(&mut nodes, NodeId(id), now, input, &mut network);
    }

    // Time passes until somebody leads.
    let leader = loop {
        now += Duration::from_millis(50);
        for id in ids {
            turn(&mut nodes, id, now, Input::Wake, &mut network);
        }
        deliver(&mut nodes, now, &mut network);
        if let Some(id) = ids.into_iter().find(|id| nodes[id].raft.status().role == Role::Leader) {
            break id;
        }
    };

    // The leader takes commands; everybody applies them.
    for letter in "quorate".chars() {
        turn(&mut nodes, leader, now, Input::Propose(Letter(letter)), &mut network);
    }
    deliver(&mut nodes, now, &mut network);

    // Anybody can be read from, once Raft says at which index.
    turn(&mut nodes, ids[2], now, Input::Read(ReadId(1)), &mut network);
    deliver(&mut nodes, now, &mut network);

    // A fourth comes for the third, in one step; the leader goes through a joint configuration by itself.
    nodes.insert(NodeId(4), start(NodeId(4), &configuration));
    let changes = vec![Change::AddVoter(NodeId(4)), Change::Remove(NodeId(3))];
    let input = Input::ChangeMembership { changes, command: Letter('!') };
    turn(&mut nodes, leader, now, input, &mut network);
    deliver(&mut nodes, now, &mut network);

    for node in nodes.values() {
        println!("{}: {:?}", node.raft.status(), node.word);
        assert_eq!(node.word, "quorate!");
    }
}

/// A new member starts from an empty snapshot that holds the initial configuration.
fn start(id: NodeId, configuration: &Configuration) -> Node {
    let snapshot = SnapshotMeta { position: Position::default(), configuration: configuration.clone() };
    let saved = Saved { hard_state: HardState::default(), snapshot, entries: Vec::new() };
    let raft = Raft::recover(Config::new(id), id.0, Instant(0), saved);
    Node { raft, word: String::new() }
}

/// Something happens to a node; does what its Raft asks for.
fn turn(
    nodes: &mut BTreeMap<NodeId, Node>,
    id: NodeId,
    now: Instant,
    input: Input<Letter>,
    network: &mut VecDeque<(NodeId, NodeId, Message<Letter>)>,
) {
    let node = nodes.get_mut(&id).expect("one of the three");
    node.raft.handle(now, input);
    while let Some(output) = node.raft.poll_output() {
        match output {
            Output::Send { to, message } => network.push_back((id, to, message)),
            // A disk would take its time; Raft does not mind.
            Output::Persist(write) => node.raft.handle(now, Input::Persisted(write.id)),
            Output::Committed(entries) => {
                // A command that came with a change of the membership is one like any other.
                for entry in entries {
                    match entry.payload {
                        Payload::Command(Letter(letter)) => node.word.push(letter),
                        Payload::Membership(membership) => {
                            node.word.extend(membership.command.map(|Letter(letter)| letter));
                        }
                        Payload::Noop => {}
                    }
                }
            }
            Output::ReadReady { index, .. } => println!("node {id} reads {:?} at index {index}", node.word),
            Output::Refused(Letter(letter)) => println!("node {id} does not lead, and refuses {letter:?}"),
            Output::RoleChanged => println!("node {id} is now: {}", node.raft.status()),
            Output::ConfigurationChanged { configuration, .. } => println!("node {id} is in {configuration}"),
            _ => unreachable!("there is a leader, no log is ever compacted, and the change is a good one"),
        }
    }
}

/// Delivers messages until none are left.
fn deliver(
    nodes: &mut BTreeMap<NodeId, Node>,
    now: Instant,
    network: &mut VecDeque<(NodeId, NodeId, Message<Letter>)>,
) {
    while let Some((from, to, message)) = network.pop_front() {
        turn(nodes, to, now, Input::Message { from, message }, network);
    }
}
