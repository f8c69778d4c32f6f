//! Finding out who a directory is, with questions that reach their goal in memory and disks that lose power.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quorate_node::testing::{MemoryDisk, Survival, founder};
use quorate_node::{
    Answer, Clock, ClusterId, Error, Genesis, Identity, Network, NoAnswer, Plan, Question, QuestionReceiver,
    Questions, establish, questions,
};
use quorate_raft::{Instant, NodeId};
use quorate_replica::Message;

const CLUSTER: ClusterId = ClusterId(7);

#[derive(Clone, Debug, Default)]
struct ManualClock(Arc<AtomicU64>);

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        Instant(self.0.load(Ordering::Relaxed))
    }

    async fn sleep_until(&self, at: Instant) {
        poll_fn(|_| if self.now() >= at { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

/// Who is there, by URL.
#[derive(Clone, Debug, Default)]
struct Wires(Arc<Mutex<BTreeMap<String, Questions>>>);

impl Wires {
    fn plug(&self, id: u64, questions: Questions) {
        self.0.lock().expect("one thread").insert(url(id), questions);
    }
}

impl Network for Wires {
    fn send(&self, _: NodeId, _: Message) {}

    fn set_peers(&self, _: Vec<(NodeId, Vec<String>)>, _: BTreeSet<NodeId>) {}

    async fn ask(&self, url: &str, question: Question) -> Result<Answer, NoAnswer> {
        let questions = self.0.lock().expect("one thread").get(url).cloned();
        match questions {
            Some(questions) => Ok(questions.ask(question).await),
            None => Err(NoAnswer("nobody is there".into())),
        }
    }
}

fn url(id: u64) -> String {
    founder(id, 0).peer_urls[0].clone()
}

fn plan(id: u64, existing: bool) -> Plan {
    let founders = (1..=3).map(|id| founder(id, 0)).collect();
    Plan { cluster: CLUSTER, id: NodeId(id), founders, existing }
}

type Starting = Pin<Box<dyn Future<Output = Result<Identity, Error>>>>;

#[derive(Default)]
struct World {
    clock: ManualClock,
    wires: Wires,
    disks: BTreeMap<u64, MemoryDisk>,
    starting: BTreeMap<u64, Starting>,
    begun: BTreeMap<u64, Result<Identity, String>>,
    draws: u64,
}

impl World {
    fn start(&mut self, id: u64) {
        self.draws += 1;
        let (asking, mut receiver) = questions();
        self.wires.plug(id, asking);
        let disk = self.disks.entry(id).or_default().clone();
        let (clock, wires, draw) = (self.clock.clone(), self.wires.clone(), self.draws);
        self.starting.insert(
            id,
            Box::pin(async move {
                let identity =
                    establish(&plan(id, false), (&clock, &disk, &wires), &mut receiver, || draw).await?;
                // What a node does from then on, as far as the others are concerned.
                spawn_answering(&wires, id, identity.genesis.clone());
                Ok(identity)
            }),
        );
    }

    /// Everything moves until nothing moves any more, then time does.
    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            for _ in 0..30 {
                self.starting.retain(|id, starting| match poll(starting) {
                    Poll::Ready(result) => {
                        self.begun.insert(*id, result.map_err(|error| error.to_string()));
                        false
                    }
                    Poll::Pending => true,
                });
            }
            self.clock.0.fetch_add(Duration::from_millis(100).as_nanos() as u64, Ordering::Relaxed);
        }
    }

    fn genesis(&self, id: u64) -> &Genesis {
        &self.begun[&id].as_ref().expect("it has begun").genesis
    }
}

/// One that has begun answers at once, whoever asks.
fn spawn_answering(wires: &Wires, id: u64, genesis: Genesis) {
    let (asking, receiver) = questions();
    wires.plug(id, asking);
    ANSWERING.with(|all| all.borrow_mut().push((receiver, genesis)));
}

thread_local! {
    static ANSWERING: std::cell::RefCell<Vec<(QuestionReceiver, Genesis)>> = const { std::cell::RefCell::new(Vec::new()) };
}

fn poll(starting: &mut Starting) -> Poll<Result<Identity, Error>> {
    let mut context = Context::from_waker(Waker::noop());
    ANSWERING.with(|all| {
        for (receiver, genesis) in all.borrow_mut().iter_mut() {
            while let Poll::Ready(Some(asked)) = pin!(receiver.next()).poll(&mut context) {
                let genesis = genesis.clone();
                let answer = match asked.question {
                    Question::Meet { .. } => Answer::Begun { genesis },
                    Question::Join { owner, name, .. } if name == "n3" => {
                        Answer::Joined { cluster: CLUSTER, id: NodeId(100 + owner), genesis }
                    }
                    Question::Join { .. } => Answer::Refused("add it first".into()),
                };
                let _ = asked.answer.send(answer);
            }
        }
    });
    starting.as_mut().poll(&mut context)
}

#[test]
fn three_founders_begin_when_the_last_one_is_there() {
    let mut world = World::default();
    world.start(1);
    world.start(2);
    world.run(5);
    assert!(world.begun.is_empty(), "two are not all");
    world.start(3);
    world.run(1);
    assert_eq!(world.begun.len(), 3);
    assert_eq!(world.genesis(1), world.genesis(2));
    assert_eq!(world.genesis(1), world.genesis(3));
    let owners: Vec<u64> = world.genesis(1).founders().iter().map(|founder| founder.owner).collect();
    assert_eq!(owners, [1, 2, 3], "each has drawn its own number");
}

/// The first member's power goes after each operation on its disk. It comes back as the same directory, or as one that
/// nobody has committed to, and all begin as one cluster.
#[test]
fn a_power_cut_at_any_moment_of_the_meeting_does_no_harm() {
    for operations in 0..=12 {
        for survival in [Survival::Nothing, Survival::Everything, Survival::Some(operations as u64)] {
            ANSWERING.with(|all| all.borrow_mut().clear());
            let mut world = World::default();
            let disk = MemoryDisk::default();
            disk.cut_power_after(operations);
            world.disks.insert(1, disk.clone());
            (1..=3).for_each(|id| world.start(id));
            world.run(2);
            world.disks.insert(1, disk.after_power_cut(survival));
            world.start(1);
            world.run(2);
            assert_eq!(world.begun.len(), 3, "{survival:?} after {operations}");
            assert_eq!(world.genesis(1), world.genesis(2), "{survival:?} after {operations}");
            assert_eq!(world.genesis(1), world.genesis(3), "{survival:?} after {operations}");
            let me = world.begun[&1].as_ref().expect("it has begun");
            assert!(me.genesis.names(NodeId(1), me.owner), "{survival:?} after {operations}");
        }
    }
}

#[test]
fn a_member_that_lost_its_disk_joins_and_is_the_same_if_it_has_to_ask_again() {
    let mut world = World::default();
    (1..=3).for_each(|id| world.start(id));
    world.run(1);
    let first = world.begun[&3].clone().expect("a founder");
    world.disks.insert(3, MemoryDisk::default());
    world.start(3);
    world.run(1);
    let joined = world.begun[&3].clone().expect("it was let in");
    assert_ne!((joined.member, joined.owner), (first.member, first.owner));
    assert_eq!(joined.genesis, first.genesis);
    // It ends before it has begun a log; the directory has kept its number, and so its id.
    world.start(3);
    world.run(1);
    assert_eq!(world.begun[&3], Ok(joined));

    // One that is not a member is refused.
    world.disks.insert(2, MemoryDisk::default());
    world.start(2);
    world.run(1);
    assert_eq!(world.begun[&2], Err("cannot join the cluster: n1 says: add it first".into()));
}

#[test]
fn who_joins_waits_until_somebody_is_there() {
    let mut world = World::default();
    let (asking, mut receiver) = questions();
    world.wires.plug(3, asking);
    let (disk, clock, wires) = (MemoryDisk::default(), world.clock.clone(), world.wires.clone());
    world.starting.insert(
        3,
        Box::pin(
            async move { establish(&plan(3, true), (&clock, &disk, &wires), &mut receiver, || 9).await },
        ),
    );
    world.run(10);
    assert!(world.begun.is_empty());
    spawn_answering(&world.wires, 2, Genesis::new(vec![founder(2, 8)]));
    world.run(3);
    assert_eq!(world.begun[&3].as_ref().expect("it was let in").member, NodeId(109));
}
