//! Tries every schedule of a small cluster, further than the tests do:
//!
//!     cargo run --release -p quorate-raft --features testing --example exhaustive -- 3 0 steps=14 timeouts=2 commands=1
//!
//! The arguments: voters, further members, and how much may happen (see `Budget`).

use quorate_raft::testing::{Budget, Explorer};
use quorate_raft::{Change, Command, NodeId};

#[derive(Clone, Debug, PartialEq)]
struct Nothing;

impl Command for Nothing {
    fn size(&self) -> usize {
        0
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |what| arguments.next().and_then(|text| text.parse().ok()).expect(what);
    let voters: u64 = number("the number of voters");
    let spare: u64 = number("the number of further members");
    let mut budget =
        Budget { steps: 12, timeouts: 1, heartbeats: 0, crashes: 0, duplicates: 0, commands: 0, changes: 0 };
    let mut pre_vote = true;
    for argument in arguments {
        let (name, value) = argument.split_once('=').expect("name=number");
        let value = value.parse().expect("name=number");
        match name {
            "steps" => budget.steps = value,
            "timeouts" => budget.timeouts = value,
            "heartbeats" => budget.heartbeats = value,
            "crashes" => budget.crashes = value,
            "duplicates" => budget.duplicates = value,
            "commands" => budget.commands = value,
            "changes" => budget.changes = value,
            "pre_vote" => pre_vote = value > 0,
            other => panic!("there is no {other}"),
        }
    }
    let changes = vec![
        vec![Change::AddVoter(NodeId(voters + 1))],
        vec![Change::Remove(NodeId(1))],
        vec![Change::AddVoter(NodeId(voters + 1)), Change::Remove(NodeId(1))],
    ];
    let mut explorer = Explorer::new(Nothing, changes);
    explorer.explore(voters, spare, pre_vote, budget);
    println!("{voters} voters, {spare} more, {budget:?}, pre_vote={pre_vote}:");
    println!(
        "{} states, {} transitions, {} ends, commit index up to {}",
        explorer.states(),
        explorer.transitions,
        explorer.ends,
        explorer.commit
    );
}
