//! The meeting of the founders, with everything that can happen to them: messages that are lost, late or out of order,
//! crashes that forget what was not saved, and disks that are lost.
//!
//! One founder is a [`Meeting`] and what its directory holds. A schedule of random steps plays them against each
//! other; then the rules are looked at.

use std::collections::BTreeSet;

use proptest::prelude::*;
use quorate_node::testing::founder;
use quorate_node::{Answer, ClusterId, Ending, Genesis, Meeting, Question};
use quorate_raft::NodeId;

const CLUSTER: ClusterId = ClusterId(7);

/// A data directory, with the founder that runs on it.
struct Directory {
    owner: u64,
    /// What is durable.
    accepted: Option<Genesis>,
    /// How it began; durable too.
    begun: Option<Genesis>,
    joins: bool,
    meeting: Option<Meeting>,
}

/// Something on its way.
enum Letter {
    Question { from: u64, to: u64, question: Question },
    Answer { from: u64, to: u64, answer: Answer },
}

struct World {
    size: u64,
    directories: Vec<Directory>,
    /// Directories that were lost, with what they began with.
    lost: Vec<(u64, u64, Option<Genesis>)>,
    letters: Vec<Letter>,
    numbers: u64,
}

#[derive(Clone, Debug)]
enum Step {
    /// A founder that is down starts.
    Start(u64),
    Crash(u64),
    Wipe(u64),
    /// A new round of questions to all others.
    Ask(u64),
    /// The round is over, whatever has come back.
    EndRound(u64),
    /// One of the letters arrives.
    Deliver(usize),
    /// One of the letters is lost.
    Lose(usize),
    /// One of the letters arrives, and again later.
    Repeat(usize),
}

impl World {
    fn new(size: u64) -> World {
        let mut world = World { size, directories: vec![], lost: vec![], letters: vec![], numbers: 0 };
        for _ in 1..=size {
            let directory = world.empty();
            world.directories.push(directory);
        }
        world
    }

    fn empty(&mut self) -> Directory {
        self.numbers += 1;
        Directory { owner: self.numbers, accepted: None, begun: None, joins: false, meeting: None }
    }

    fn directory(&mut self, id: u64) -> &mut Directory {
        &mut self.directories[id as usize - 1]
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Start(id) => self.start(id),
            Step::Crash(id) => self.directory(id).meeting = None,
            Step::Wipe(id) => {
                let new = self.empty();
                let old = std::mem::replace(self.directory(id), new);
                self.lost.push((id, old.owner, old.begun));
            }
            Step::Ask(id) => self.ask(id),
            Step::EndRound(id) => {
                if let Some(meeting) = &mut self.directory(id).meeting {
                    meeting.end_round();
                    self.save(id);
                }
            }
            Step::Deliver(at) => {
                if let Some(letter) = self.take(at) {
                    self.deliver(letter);
                }
            }
            Step::Lose(at) => drop(self.take(at)),
            Step::Repeat(at) => {
                if let Some(Letter::Question { from, to, question }) = self.take(at) {
                    self.letters.push(Letter::Question { from, to, question: question.clone() });
                    self.deliver(Letter::Question { from, to, question });
                }
            }
        }
    }

    fn take(&mut self, at: usize) -> Option<Letter> {
        if self.letters.is_empty() { None } else { Some(self.letters.swap_remove(at % self.letters.len())) }
    }

    fn start(&mut self, id: u64) {
        let all: Vec<_> = (1..=self.size).map(|id| founder(id, 0)).collect();
        let directory = self.directory(id);
        if directory.meeting.is_some() || directory.begun.is_some() || directory.joins {
            return;
        }
        let me = founder(id, directory.owner);
        directory.meeting = Some(Meeting::new(CLUSTER, me, &all, directory.accepted.clone()));
        self.save(id);
    }

    /// What was accepted is made durable, and the end is carried out: as the runner does after every step.
    fn save(&mut self, id: u64) {
        let directory = self.directory(id);
        let Some(meeting) = &mut directory.meeting else { return };
        if let Some(genesis) = meeting.unsaved() {
            assert_eq!(directory.accepted, None, "a directory accepts once");
            directory.accepted = Some(genesis.clone());
            meeting.note_saved();
        }
        match meeting.ending().cloned() {
            None => return,
            Some(Ending::Begin(genesis)) => {
                assert!(genesis.names(NodeId(id), directory.owner), "it begins as itself");
                directory.begun = Some(genesis);
            }
            Some(Ending::Join) => directory.joins = true,
            Some(Ending::OldCopy) => panic!("no copies are made here"),
        }
        directory.meeting = None;
    }

    fn ask(&mut self, id: u64) {
        let others = (1..=self.size).filter(|to| *to != id);
        let Some(meeting) = &mut self.directory(id).meeting else { return };
        meeting.begin_round();
        let question = meeting.question();
        self.letters.extend(others.map(|to| Letter::Question { from: id, to, question: question.clone() }));
    }

    fn deliver(&mut self, letter: Letter) {
        match letter {
            Letter::Question { from, to, question } => {
                let Question::Meet { cluster, founder, accepted } = question else {
                    panic!("not asked here")
                };
                let directory = self.directory(to);
                let answer = if let Some(genesis) = &directory.begun {
                    Answer::Begun { genesis: genesis.clone() }
                } else if let Some(meeting) = &mut directory.meeting {
                    meeting.hear(cluster, founder, accepted).expect("all have the same flags");
                    self.save(to);
                    let directory = self.directory(to);
                    match (&directory.begun, &directory.meeting) {
                        (Some(genesis), _) => Answer::Begun { genesis: genesis.clone() },
                        (None, Some(meeting)) => meeting.answer(),
                        (None, None) => return,
                    }
                } else {
                    // It is down, or about to join.
                    return;
                };
                self.letters.push(Letter::Answer { from: to, to: from, answer });
            }
            Letter::Answer { from, to, answer } => {
                if let Some(meeting) = &mut self.directory(to).meeting {
                    meeting.on_answer(NodeId(from), answer);
                    self.save(to);
                }
            }
        }
    }

    /// Nothing goes wrong any more: rounds of questions that all arrive.
    fn calm(&mut self) {
        self.letters.clear();
        for _ in 0..6 {
            for id in 1..=self.size {
                self.start(id);
                self.ask(id);
                while !self.letters.is_empty() {
                    let letter = self.letters.remove(0);
                    self.deliver(letter);
                }
                self.step(&Step::EndRound(id));
            }
        }
    }

    /// Every directory that ever began, as whom, and with what.
    fn begun(&self) -> Vec<(u64, u64, Genesis)> {
        let lost = self.lost.iter().map(|(id, owner, begun)| (*id, *owner, begun.clone()));
        let there = (1..).zip(&self.directories).map(|(id, it)| (id, it.owner, it.begun.clone()));
        lost.chain(there).filter_map(|(id, owner, begun)| Some((id, owner, begun?))).collect()
    }
}

/// Directories that begin with different geneses have none in common; so an id begins twice only if every founder's
/// disk was lost in between.
fn check_safety(world: &World) {
    let begun = world.begun();
    for (id, owner, genesis) in &begun {
        for (other_id, other_owner, other) in &begun {
            if genesis != other {
                let owners = |genesis: &Genesis| -> BTreeSet<u64> {
                    genesis.founders().iter().map(|founder| founder.owner).collect()
                };
                assert!(owners(genesis).is_disjoint(&owners(other)), "{genesis:?}\n{other:?}");
            } else if id == other_id {
                assert_eq!(owner, other_owner, "one founder, one directory");
            }
        }
    }
}

fn step(size: u64, wipes: bool) -> impl Strategy<Value = Step> {
    let id = 1..=size;
    let at = 0..usize::MAX;
    prop_oneof![
        3 => id.clone().prop_map(Step::Start),
        1 => id.clone().prop_map(Step::Crash),
        u32::from(wipes) => id.clone().prop_map(Step::Wipe),
        4 => id.clone().prop_map(Step::Ask),
        4 => id.prop_map(Step::EndRound),
        12 => at.clone().prop_map(Step::Deliver),
        1 => at.clone().prop_map(Step::Lose),
        1 => at.prop_map(Step::Repeat),
    ]
}

fn schedule(wipes: bool) -> impl Strategy<Value = (u64, Vec<Step>)> {
    (2u64..=5).prop_flat_map(move |size| (Just(size), proptest::collection::vec(step(size, wipes), 0..400)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn if_no_disk_is_lost_all_begin_with_the_same_genesis((size, steps) in schedule(false)) {
        let mut world = World::new(size);
        steps.iter().for_each(|step| world.step(step));
        world.calm();
        let begun = world.begun();
        prop_assert_eq!(begun.len() as u64, size, "all have begun");
        prop_assert!(begun.iter().all(|(_, _, genesis)| *genesis == begun[0].2));
    }

    #[test]
    fn no_two_directories_begin_as_the_same_founder((size, steps) in schedule(true)) {
        let mut world = World::new(size);
        for step in &steps {
            world.step(step);
            check_safety(&world);
        }
        world.calm();
        check_safety(&world);
        // While one founder keeps its directory, there is one genesis, and one directory for each id.
        if (1..=size).any(|id| world.lost.iter().all(|(lost, _, _)| *lost != id)) {
            let begun = world.begun();
            prop_assert!(begun.iter().all(|(_, _, genesis)| *genesis == begun[0].2));
        }
        // Where somebody has begun, nobody waits for ever: a directory begins, or joins.
        if world.directories.iter().any(|directory| directory.begun.is_some()) {
            prop_assert!(world.directories.iter().all(|it| it.begun.is_some() || it.joins));
        }
    }

    #[test]
    fn a_disk_lost_before_the_round_in_which_somebody_accepts_does_no_harm((size, steps) in schedule(true)) {
        let mut world = World::new(size);
        for step in &steps {
            if matches!(step, Step::Wipe(_)) && world.directories.iter().any(|it| it.accepted.is_some()) {
                continue;
            }
            world.step(step);
            if matches!(step, Step::Wipe(_)) {
                world.letters.clear();
                world.directories.iter_mut().filter_map(|it| it.meeting.as_mut()).for_each(Meeting::begin_round);
            }
        }
        world.calm();
        prop_assert_eq!(world.begun().len() as u64, size, "all have begun");
    }
}

/// A meeting of two in which nothing is lost, step by step.
#[test]
fn two_founders_begin_after_three_rounds() {
    let mut world = World::new(2);
    world.start(1);
    world.ask(1);
    world.step(&Step::Deliver(0));
    world.step(&Step::EndRound(1));
    let trouble = world.directory(1).meeting.as_ref().expect("it waits").trouble();
    assert_eq!(trouble, ["n2: it has not answered yet"]);
    world.start(2);
    // The second asks the first, and has seen all; it accepts.
    world.ask(2);
    (0..2).for_each(|_| world.step(&Step::Deliver(0)));
    world.step(&Step::EndRound(2));
    assert!(world.directory(2).accepted.is_some() && world.directory(1).accepted.is_none());
    // When it asks again the first accepts the same, and can begin at once: it knows that both have.
    world.ask(2);
    world.step(&Step::Deliver(0));
    assert!(world.directory(1).begun.is_some());
    world.step(&Step::Deliver(0));
    assert_eq!(world.directories[0].begun, world.directories[1].begun);
}

#[test]
fn a_founder_alone_meets_nobody() {
    let meeting = Meeting::new(CLUSTER, founder(1, 9), &[founder(1, 0)], None);
    assert_eq!(meeting.ending(), Some(&Ending::Begin(Genesis::new(vec![founder(1, 9)]))));
}

#[test]
fn an_old_copy_that_has_accepted_nothing_does_not_begin() {
    let all = [founder(1, 0), founder(2, 0)];
    let mut meeting = Meeting::new(CLUSTER, founder(1, 9), &all, None);
    let genesis = Genesis::new(vec![founder(1, 9), founder(2, 8)]);
    meeting.on_answer(NodeId(2), Answer::Begun { genesis });
    assert_eq!(meeting.ending(), Some(&Ending::OldCopy));
}

#[test]
fn strangers_and_other_clusters_are_told_so() {
    let all = [founder(1, 0), founder(2, 0)];
    let mut meeting = Meeting::new(CLUSTER, founder(1, 9), &all, None);
    let other = meeting.hear(ClusterId(8), founder(2, 8), None).expect_err("another cluster");
    assert!(other.starts_with("this is cluster 7, not 8: --initial-cluster "), "{other}");
    let stranger = meeting.hear(CLUSTER, founder(3, 8), None).expect_err("no founder");
    assert_eq!(stranger, "member 3 (n3) is not another one of --initial-cluster here");
    meeting.on_answer(NodeId(2), Answer::Met { founder: founder(3, 8), accepted: None });
    assert_eq!(meeting.trouble(), ["n2: member 3 (n3) answers in its place"]);
    let lost = Genesis::new(vec![founder(1, 1), founder(2, 8)]);
    meeting.hear(CLUSTER, founder(2, 8), Some(lost)).expect("a founder");
    let trouble = meeting.trouble().join("");
    assert!(trouble.starts_with("n2: this member's data directory is not the one that"), "{trouble}");
}
