//! A member's way to its peers: every message is encoded where it leaves and decoded where it arrives.
//!
//! As on TCP, a peer is found by its URL, which names a machine, and whoever is not the one that was meant does not
//! listen: a lost disk's place is taken by somebody else. A peer that is not known yet is answered as a guest; one that
//! was removed is told so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use madsim::time::Sleep;
use quorate_node::{
    Answer, Network, NoAnswer, Question, decode_answer, decode_question, encode_answer, encode_question,
};
use quorate_raft::NodeId;
use quorate_replica::Message;
use quorate_sim::messages;
use quorate_sim::time::Time;
use quorate_sim::trace::MessageLine;

use super::clock::{lock, now, until};
use super::cluster::Shared;

/// One life's way to its peers.
#[derive(Clone)]
pub struct SimNetwork {
    machine: NodeId,
    shared: Arc<Shared>,
    peers: Arc<Mutex<Peers>>,
}

/// Whom a member knows.
#[derive(Debug, Default)]
struct Peers {
    me: Option<NodeId>,
    /// The machines of the members, by id.
    members: BTreeMap<NodeId, NodeId>,
    /// Those that are members as they say themselves.
    guests: BTreeMap<NodeId, NodeId>,
    removed: BTreeSet<NodeId>,
}

/// What a member makes of one that calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// It is a member, or says so.
    Welcome,
    /// It was removed.
    Removed,
    /// It means somebody else.
    Lost,
}

impl SimNetwork {
    /// The way out of a machine.
    pub fn new(machine: NodeId, shared: Arc<Shared>) -> SimNetwork {
        SimNetwork { machine, shared, peers: Arc::default() }
    }

    /// From now on this is who the machine is.
    pub fn begin(&self, me: NodeId) {
        lock(&self.peers).me = Some(me);
    }

    /// Who the machine is.
    pub fn me(&self) -> Option<NodeId> {
        lock(&self.peers).me
    }

    /// Somebody calls from a machine and means a member.
    pub fn greet(&self, from: (NodeId, NodeId), to: NodeId) -> Caller {
        let (machine, id) = from;
        let mut peers = lock(&self.peers);
        if peers.removed.contains(&id) {
            return Caller::Removed;
        }
        if peers.me != Some(to) {
            return Caller::Lost;
        }
        if !peers.members.contains_key(&id) {
            peers.guests.insert(id, machine);
        }
        Caller::Welcome
    }

    /// Whether the member knows that one to be removed.
    pub fn has_removed(&self, id: NodeId) -> bool {
        lock(&self.peers).removed.contains(&id)
    }

    /// The members that this one knows, with itself.
    pub fn members(&self) -> BTreeSet<NodeId> {
        let peers = lock(&self.peers);
        peers.members.keys().copied().chain(peers.me).collect()
    }
}

impl Network for SimNetwork {
    fn send(&self, to: NodeId, message: Message) {
        let (me, machine) = {
            let peers = lock(&self.peers);
            let machine = peers.members.get(&to).or_else(|| peers.guests.get(&to)).copied();
            let Some(machine) = machine else { return };
            (peers.me.expect("a member that speaks knows who it is"), machine)
        };
        self.shared.on_wire((self.machine, me), to, &message);
        let mut bytes = Vec::new();
        quorate_node::encode_message(&message, &mut bytes).expect("members send what can be encoded");
        let (from, to, line) = ((self.machine, me), (machine, to), messages::line(&message));
        self.shared.post(Letter { from, to, sent: now(), line, waited: false, bytes: bytes.into() });
    }

    fn set_peers(&self, known: Vec<(NodeId, Vec<String>)>, removed: BTreeSet<NodeId>) {
        let mut peers = lock(&self.peers);
        let Peers { me, members, guests, removed: gone } = &mut *peers;
        let found = known.into_iter().filter(|(id, _)| Some(*id) != *me);
        *members =
            found.filter_map(|(id, urls)| Some((id, urls.iter().find_map(|url| machine_of(url))?))).collect();
        guests.retain(|id, _| !members.contains_key(id) && !removed.contains(id));
        *gone = removed;
    }

    /// A question travels as a letter does, and so does its answer; both may be lost.
    async fn ask(&self, url: &str, question: Question) -> Result<Answer, NoAnswer> {
        let to = machine_of(url).ok_or_else(|| NoAnswer(format!("{url} is no member's URL")))?;
        let bytes = encode_question(&question).expect("members ask what can be encoded");
        self.travel(self.machine, to).await?;
        let question = decode_question(&bytes).expect("what was encoded can be decoded");
        let questions = self.shared.questions(to).ok_or_else(|| NoAnswer("nobody listens".into()))?;
        let answering = madsim::time::timeout(ANSWER_TIMEOUT, questions.ask(question)).await;
        let answer = answering.map_err(|_| NoAnswer("timed out".into()))?;
        self.travel(to, self.machine).await?;
        let bytes = encode_answer(&answer).expect("members answer what can be encoded");
        Ok(decode_answer(&bytes).expect("what was encoded can be decoded"))
    }
}

impl SimNetwork {
    async fn travel(&self, from: NodeId, to: NodeId) -> Result<(), NoAnswer> {
        let arrival = lock(&self.shared.network).send(now(), from, to).first;
        match arrival {
            Some(at) => until(at).await,
            None => {
                madsim::time::sleep(ANSWER_TIMEOUT).await;
                return Err(NoAnswer("timed out".into()));
            }
        }
        Ok(())
    }
}

/// The URL by which peers find a machine.
pub fn url_of(machine: NodeId) -> String {
    format!("http://n{machine}:2380")
}

/// The URL by which clients find a machine.
pub fn client_url_of(machine: NodeId) -> String {
    format!("http://n{machine}:2379")
}

/// The machine that a URL names.
pub fn machine_of(url: &str) -> Option<NodeId> {
    let (host, _) = url.strip_prefix("http://n")?.split_once(':')?;
    host.parse().ok().map(NodeId)
}

const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Encoded bytes on their way from one member to another.
#[derive(Clone)]
pub struct Letter {
    /// The machine that it comes from, and whose machine that is.
    pub from: (NodeId, NodeId),
    /// The machine that it goes to, and for whom it is.
    pub to: (NodeId, NodeId),
    /// When it was sent.
    pub sent: Time,
    /// What it says, for the trace.
    pub line: MessageLine,
    /// Whether a busy processor has made it wait.
    pub waited: bool,
    /// The encoded message.
    pub bytes: Arc<[u8]>,
}

/// Everything that is on its way. One task carries it all: a task for each message would die or stop with its
/// sender.
#[derive(Default)]
pub struct Post {
    inner: Mutex<PostInner>,
}

#[derive(Default)]
struct PostInner {
    letters: quorate_sim::queue::Queue<Letter>,
    carrier: Option<Waker>,
}

impl Post {
    /// Takes a letter that arrives then.
    pub fn send(&self, at: Time, letter: Letter) {
        let mut inner = lock(&self.inner);
        inner.letters.push(at, letter);
        if let Some(carrier) = inner.carrier.take() {
            drop(inner);
            carrier.wake();
        }
    }

    /// How many letters are on their way.
    pub fn waiting(&self) -> usize {
        lock(&self.inner).letters.len()
    }

    /// The next letters that are due, as they become due.
    pub async fn due(&self) -> VecDeque<Letter> {
        let mut sleep: Option<(Time, Pin<Box<Sleep>>)> = None;
        poll_fn(|context| {
            loop {
                let mut inner = lock(&self.inner);
                let mut due = VecDeque::new();
                while inner.letters.next_at().is_some_and(|at| at <= now()) {
                    due.extend(inner.letters.pop().map(|(_, letter)| letter));
                }
                if !due.is_empty() {
                    return Poll::Ready(due);
                }
                inner.carrier = Some(context.waker().clone());
                let Some(next) = inner.letters.next_at() else { return Poll::Pending };
                drop(inner);
                if sleep.as_ref().is_none_or(|(planned, _)| *planned != next) {
                    sleep = Some((next, Box::pin(until(next))));
                }
                let (_, future) = sleep.as_mut().expect("just set");
                if future.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                sleep = None;
            }
        })
        .await
    }
}
