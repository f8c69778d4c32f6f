//! The node's three traits over the simulated world: a clock that can be wrong, a disk that forgets what was
//! not synced, and links that carry encoded bytes.
//!
//! Of madsim only tasks and virtual time are used. Its own file system loses nothing, its network passes no
//! bytes, and its one clock cannot be skewed; [`quorate_sim::env`] stands in their place.

use std::collections::{BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use madsim::time::{Sleep, TimeHandle};
use quorate_node::{
    Answer, Clock, File, Network, NoAnswer, Question, decode_answer, decode_question, encode_answer,
    encode_question,
};
use quorate_raft::{Instant, NodeId};
use quorate_replica::Message;
use quorate_sim::env::clock::NodeClock;
use quorate_sim::env::disk::{Disk, DiskError, FileId};
use quorate_sim::options::DiskSpeed;
use quorate_sim::random::Random;
use quorate_sim::time::Time;

use super::cluster::Shared;

/// True simulated time.
pub fn now() -> Time {
    Time(u64::try_from(TimeHandle::current().elapsed().as_nanos()).expect("a run is shorter than centuries"))
}

/// Waits until a true time.
pub fn until(time: Time) -> Sleep {
    madsim::time::sleep(time.since(now()))
}

/// A lock that cannot be poisoned in a single thread that ends at the first panic.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A member's clock. The nemesis may change it while somebody sleeps by it.
#[derive(Clone, Default)]
pub struct SimClock {
    inner: Arc<Mutex<ClockInner>>,
}

#[derive(Default)]
struct ClockInner {
    clock: NodeClock,
    sleepers: Vec<Waker>,
}

impl SimClock {
    /// Changes the clock; whoever sleeps by it looks again.
    pub fn change(&self, change: impl FnOnce(&mut NodeClock, Time)) {
        let mut inner = lock(&self.inner);
        change(&mut inner.clock, now());
        let sleepers = std::mem::take(&mut inner.sleepers);
        drop(inner);
        sleepers.into_iter().for_each(Waker::wake);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        lock(&self.inner).clock.now(now())
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send {
        Alarm { clock: self.clone(), at, sleep: None }
    }
}

/// Completes when a clock reads at least `at`.
struct Alarm {
    clock: SimClock,
    at: Instant,
    /// When that will be if nobody changes the clock.
    sleep: Option<(Time, Pin<Box<Sleep>>)>,
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let time = now();
        let at = self.at;
        let reaches = {
            let mut inner = lock(&self.clock.inner);
            if inner.clock.now(time) >= at {
                return Poll::Ready(());
            }
            if inner.sleepers.iter().all(|waker| !waker.will_wake(context.waker())) {
                inner.sleepers.push(context.waker().clone());
            }
            inner.clock.reaches(time, at)
        };
        let Some(reaches) = reaches else { return Poll::Pending }; // Frozen: a change of the clock wakes us.
        if self.sleep.as_ref().is_none_or(|(planned, _)| *planned != reaches) {
            self.sleep = Some((reaches, Box::pin(until(reaches))));
        }
        let (_, sleep) = self.sleep.as_mut().expect("just set");
        // The executor's time is a little beyond the deadline when it wakes us; what it reads then is late
        // enough.
        match sleep.as_mut().poll(context) {
            Poll::Ready(()) => {
                self.sleep = None;
                if lock(&self.clock.inner).clock.now(now()) >= at {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A member's disk, as one life of the member sees it.
#[derive(Clone)]
pub struct SimDisk {
    inner: Arc<Mutex<DiskInner>>,
}

struct DiskInner {
    disk: Disk,
    random: Random,
    speed: DiskSpeed,
    slower: (u32, Time),
}

impl SimDisk {
    /// An empty disk.
    pub fn new(speed: DiskSpeed, random: Random) -> SimDisk {
        let inner = DiskInner { disk: Disk::default(), random, speed, slower: (1, Time::ZERO) };
        SimDisk { inner: Arc::new(Mutex::new(inner)) }
    }

    /// The power fails.
    pub fn crash(&self) {
        let DiskInner { disk, random, .. } = &mut *lock(&self.inner);
        disk.crash(random);
    }

    /// Makes the disk so many times slower, until then.
    pub fn set_slower(&self, factor: u32, until: Time) {
        lock(&self.inner).slower = (factor, until);
    }

    async fn busy(&self) {
        let takes = lock(&self.inner).duration();
        madsim::time::sleep(takes).await;
    }

    fn with<T>(&self, act: impl FnOnce(&mut Disk) -> T) -> T {
        act(&mut lock(&self.inner).disk)
    }
}

impl DiskInner {
    fn duration(&mut self) -> Duration {
        let usual = self.speed.sync + self.random.exponential_duration(self.speed.jitter);
        let (factor, until) = self.slower;
        usual + (usual * (factor - 1)).min(until.since(now()))
    }
}

fn refuse(error: DiskError) -> io::Error {
    match error {
        DiskError::NotFound => io::Error::new(io::ErrorKind::NotFound, error),
        DiskError::Exists => io::Error::new(io::ErrorKind::AlreadyExists, error),
    }
}

impl quorate_node::Disk for SimDisk {
    type File = SimFile;

    async fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.with(|disk| disk.list()))
    }

    async fn create(&self, name: &str) -> io::Result<SimFile> {
        let id = self.with(|disk| disk.create(name)).map_err(refuse)?;
        Ok(SimFile { disk: self.clone(), id })
    }

    async fn open(&self, name: &str) -> io::Result<SimFile> {
        let id = self.with(|disk| disk.open(name)).map_err(refuse)?;
        Ok(SimFile { disk: self.clone(), id })
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.with(|disk| disk.rename(from, to)).map_err(refuse)
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        self.with(|disk| disk.remove(name)).map_err(refuse)
    }

    async fn sync_dir(&self) -> io::Result<()> {
        self.busy().await;
        self.with(Disk::sync_dir);
        Ok(())
    }
}

/// An open file.
pub struct SimFile {
    disk: SimDisk,
    id: FileId,
}

impl File for SimFile {
    async fn len(&self) -> io::Result<u64> {
        Ok(self.disk.with(|disk| disk.length(self.id)) as u64)
    }

    async fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.with(|disk| disk.append(self.id, bytes));
        Ok(())
    }

    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.disk.with(|disk| {
            let bytes = disk.bytes(self.id);
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let count = buffer.len().min(bytes.len() - from);
            buffer[..count].copy_from_slice(&bytes[from..from + count]);
            count
        }))
    }

    async fn truncate(&mut self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).expect("a simulated file fits memory");
        self.disk.with(|disk| disk.truncate(self.id, len));
        Ok(())
    }

    async fn sync(&mut self) -> io::Result<()> {
        let length = self.disk.with(|disk| disk.length(self.id));
        self.disk.busy().await;
        self.disk.with(|disk| disk.sync(self.id, length));
        Ok(())
    }
}

/// A member's way to its peers: every message is encoded here and decoded where it arrives.
#[derive(Clone)]
pub struct SimNetwork {
    from: NodeId,
    shared: Arc<Shared>,
}

impl SimNetwork {
    /// The way out of a member.
    pub fn new(from: NodeId, shared: Arc<Shared>) -> SimNetwork {
        SimNetwork { from, shared }
    }
}

impl Network for SimNetwork {
    fn send(&self, to: NodeId, message: Message) {
        self.shared.on_wire(self.from, to, &message);
        let mut bytes = Vec::new();
        quorate_node::encode_message(&message, &mut bytes).expect("members send what can be encoded");
        let bytes: Arc<[u8]> = bytes.into();
        let arrivals = lock(&self.shared.network).send(now(), self.from, to);
        for at in [arrivals.first, arrivals.second].into_iter().flatten() {
            self.shared.post.send(at, Letter { from: self.from, to, bytes: bytes.clone() });
        }
    }

    /// Letters find their way by id, whoever is a member.
    fn set_peers(&self, _: Vec<(NodeId, Vec<String>)>, _: BTreeSet<NodeId>) {}

    /// A question travels as a letter does, and so does its answer; both may be lost.
    async fn ask(&self, url: &str, question: Question) -> Result<Answer, NoAnswer> {
        let to = place_of(url).ok_or_else(|| NoAnswer(format!("{url} is no member's URL")))?;
        let bytes = encode_question(&question).expect("members ask what can be encoded");
        self.travel(self.from, to).await?;
        let question = decode_question(&bytes).expect("what was encoded can be decoded");
        let questions = self.shared.questions(to).ok_or_else(|| NoAnswer("nobody listens".into()))?;
        let answering = madsim::time::timeout(ANSWER_TIMEOUT, questions.ask(question)).await;
        let answer = answering.map_err(|_| NoAnswer("timed out".into()))?;
        self.travel(to, self.from).await?;
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

/// The URL by which a member is found.
pub fn url_of(member: NodeId) -> String {
    format!("sim://{member}")
}

fn place_of(url: &str) -> Option<NodeId> {
    url.strip_prefix("sim://")?.parse().ok().map(NodeId)
}

const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Encoded bytes on their way from one member to another.
pub struct Letter {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
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
    fn send(&self, at: Time, letter: Letter) {
        let mut inner = lock(&self.inner);
        inner.letters.push(at, letter);
        if let Some(carrier) = inner.carrier.take() {
            drop(inner);
            carrier.wake();
        }
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
