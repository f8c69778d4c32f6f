//! Who a data directory is: found on the disk, agreed upon with the other founders, or given by a running cluster.
//!
//! ```text
//!   meta file there ──────────────────────────────────────────────▶ that member
//!   empty, --initial-cluster-state=new ─▶ meeting ─▶ begins ──────▶ a founder
//!                                            │ begun without it
//!   empty, --initial-cluster-state=existing ─┴▶ join ─────────────▶ a new member, a learner at first
//! ```
//!
//! An empty directory first draws a number, its *owner* number, and keeps it in a file of its own. From then on it is
//! somebody: asking to join twice makes one member, and a founder's promise to begin with one genesis only is kept
//! beside it. The meta file takes that file's place when the member begins.

use core::time::Duration;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use quorate_raft::NodeId;
use quorate_replica::Founder;
use serde::{Deserialize, Serialize};

use crate::codec::{self, Kind};
use crate::env::{Clock, Disk, Network};
use crate::error::Error;
use crate::meeting::{Ending, Meeting};
use crate::meta::{self, ClusterId, META_FILE, Meta};
use crate::question::{Answer, Asked, Genesis, NoAnswer, Question, QuestionReceiver};
use crate::recover;

/// What a member was started with.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The id of the cluster that the founders begin.
    pub cluster: ClusterId,
    /// This member's id among the founders.
    pub id: NodeId,
    /// All members that it was told of, this one included. (The numbers of their directories are not known yet.)
    pub founders: Vec<Founder>,
    /// Whether the cluster runs already.
    pub existing: bool,
}

/// Who a member is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: NodeId,
    /// The number of its data directory.
    pub owner: u64,
    /// Its name when the directory was created.
    pub name: String,
    /// Where the others reached it then.
    pub peer_urls: Vec<String>,
    /// What the cluster began with.
    pub genesis: Genesis,
}

/// What an empty directory notes before it is a member's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its number.
    pub owner: u64,
    /// The genesis that it has accepted, for ever.
    pub accepted: Option<Genesis>,
}

/// Finds out who this member is. May wait for other members for as long as it takes, and answers their questions
/// meanwhile. `draw` gives random numbers.
pub async fn establish<C: Clock, D: Disk, N: Network>(
    plan: &Plan,
    (clock, disk, network): (&C, &D, &N),
    questions: &mut QuestionReceiver,
    draw: impl FnMut() -> u64,
) -> Result<Identity, Error> {
    if let Some(meta) = meta::read(disk).await? {
        plan.check(&meta)?;
        return Ok(meta.identity);
    }
    recover::check_empty(disk).await?;
    Newcomer { plan, clock, disk, network, questions, draw }.establish().await
}

impl Plan {
    fn me(&self) -> &Founder {
        self.founders
            .iter()
            .find(|founder| founder.id == self.id)
            .expect("a member is one of those it is told of")
    }

    /// Refuses a directory that can hardly be the one that was meant.
    fn check(&self, meta: &Meta) -> Result<(), Error> {
        let identity = &meta.identity;
        if meta.removed {
            return Err(Error::Removed { member: identity.member.0 });
        }
        let me = self.me();
        let moved = !identity.peer_urls.iter().any(|url| me.peer_urls.contains(url));
        // The members that it is told of may have become others since, if it is still the same itself.
        if !self.existing && identity.cluster != self.cluster && (moved || identity.name != me.name) {
            return Err(Error::ForeignCluster {
                file: META_FILE.into(),
                found: identity.cluster,
                expected: self.cluster,
            });
        }
        // One of them may change at a time; if both differ, it is somebody else's directory, or a copy of it.
        if moved && identity.name != me.name {
            return Err(Error::ForeignDirectory {
                found: identity.member.0,
                name: identity.name.clone(),
                peer_urls: identity.peer_urls.join(","),
                expected: me.name.clone(),
            });
        }
        Ok(())
    }
}

/// A directory that belongs to no member yet.
struct Newcomer<'a, C, D, N, R> {
    plan: &'a Plan,
    clock: &'a C,
    disk: &'a D,
    network: &'a N,
    questions: &'a mut QuestionReceiver,
    draw: R,
}

impl<C: Clock, D: Disk, N: Network, R: FnMut() -> u64> Newcomer<'_, C, D, N, R> {
    async fn establish(mut self) -> Result<Identity, Error> {
        let Owner { mut owner, accepted } = match read_owner(self.disk).await? {
            Some(noted) => noted,
            None => self.renew().await?,
        };
        if !self.plan.existing {
            match self.meet(owner, accepted).await? {
                Ending::Begin(genesis) => {
                    return Ok(self.identity(self.plan.cluster, self.plan.id, owner, genesis));
                }
                Ending::Join => {
                    tracing::warn!(
                        "the cluster has begun with another data directory of this member: that one is lost, and this \
                         one joins as a new member with an id of its own"
                    );
                }
                Ending::OldCopy => {
                    tracing::warn!(
                        "this data directory is an old copy of one with which the cluster has begun: it joins as a new \
                         member with an id of its own"
                    );
                    owner = self.renew().await?.owner;
                }
            }
        }
        let (cluster, id, genesis) = self.join(owner).await?;
        tracing::info!(member = format!("{:x}", id.0), %cluster, "joined the cluster");
        Ok(self.identity(cluster, id, owner, genesis))
    }

    fn identity(&self, cluster: ClusterId, member: NodeId, owner: u64, genesis: Genesis) -> Identity {
        let Founder { name, peer_urls, .. } = self.plan.me().clone();
        Identity { cluster, member, owner, name, peer_urls, genesis }
    }

    /// A new number for the directory. Zero is nobody's.
    async fn renew(&mut self) -> Result<Owner, Error> {
        let owner = Owner { owner: (self.draw)().max(1), accepted: None };
        write_owner(self.disk, &owner).await?;
        Ok(owner)
    }

    /// Meets the other founders.
    async fn meet(&mut self, owner: u64, accepted: Option<Genesis>) -> Result<Ending, Error> {
        let me = Founder { owner, ..self.plan.me().clone() };
        let mut meeting = Meeting::new(self.plan.cluster, me, &self.plan.founders, accepted);
        let mut said = Vec::new();
        loop {
            if let Some(ending) = meeting.ending() {
                return Ok(ending.clone());
            }
            meeting.begin_round();
            let mut news = self.ask_founders(&mut meeting, owner).await?;
            meeting.end_round();
            news |= meeting.unsaved().is_some();
            save(self.disk, &meeting, owner).await.map(|()| meeting.note_saved())?;
            if meeting.ending().is_some() || news {
                continue;
            }
            say(
                "waiting for the other members of the new cluster, all of which must be up once",
                &meeting.trouble(),
                &mut said,
            );
            self.answer_founders(&mut meeting, owner).await?;
        }
    }

    /// One round: asks all other founders at once, and answers them meanwhile. Says whether anything was news.
    async fn ask_founders(&mut self, meeting: &mut Meeting, owner: u64) -> Result<bool, Error> {
        let others = self.plan.founders.iter().filter(|founder| founder.id != self.plan.id);
        let mut asks = Asks::default();
        for founder in others {
            asks.add(founder.id, ask_in_turn(self.network, &founder.peer_urls, meeting.question()));
        }
        let mut news = false;
        while let Some(event) = next(&mut asks, self.questions, &mut Box::pin(std::future::pending())).await {
            match event {
                Event::Answer(from, Ok(answer)) => news |= meeting.on_answer(from, answer),
                Event::Answer(from, Err(NoAnswer(why))) => meeting.on_silence(from, why),
                Event::Question(asked) => news |= answer_founder(self.disk, meeting, owner, asked).await?,
                Event::Time => unreachable!("it never comes"),
            }
            save(self.disk, meeting, owner).await?;
            meeting.note_saved();
            // Somebody may be silent for long; that does not matter any more.
            if meeting.ending().is_some() {
                break;
            }
        }
        Ok(news)
    }

    /// Waits a little, or until somebody says something new.
    async fn answer_founders(&mut self, meeting: &mut Meeting, owner: u64) -> Result<(), Error> {
        let mut pause = Box::pin(self.clock.sleep_until(self.clock.now() + PAUSE));
        let mut nobody = Asks::waiting();
        while let Some(Event::Question(asked)) = next(&mut nobody, self.questions, &mut pause).await {
            if answer_founder(self.disk, meeting, owner, asked).await? {
                break;
            }
        }
        Ok(())
    }

    /// Asks the members that it was told of, one after the other, until one of them lets it in.
    async fn join(&mut self, owner: u64) -> Result<(ClusterId, NodeId, Genesis), Error> {
        let Founder { name, peer_urls, .. } = self.plan.me().clone();
        let mut troubles = BTreeMap::new();
        let (mut said, mut pause) = (Vec::new(), PAUSE);
        loop {
            for founder in self.plan.founders.iter().filter(|founder| founder.id != self.plan.id) {
                let question = Question::Join { owner, name: name.clone(), peer_urls: peer_urls.clone() };
                let ask = ask_in_turn(self.network, &founder.peer_urls, question);
                let why = match self.ask_to_join(ask).await {
                    Ok(Answer::Joined { cluster, id, genesis }) => return Ok((cluster, id, genesis)),
                    Ok(Answer::Refused(reason)) => {
                        return Err(Error::JoinRefused { by: founder.name.clone(), reason });
                    }
                    Ok(Answer::Later(why)) | Err(NoAnswer(why)) => why,
                    Ok(_) => "it answers what was not asked".to_owned(),
                };
                troubles.insert(founder.name.clone(), why);
            }
            let words: Vec<String> = troubles.iter().map(|(name, why)| format!("{name}: {why}")).collect();
            say("waiting for a member of the cluster to let this one join", &words, &mut said);
            let mut until = Box::pin(self.clock.sleep_until(self.clock.now() + pause));
            let mut nobody = Asks::waiting();
            while let Some(Event::Question(asked)) = next(&mut nobody, self.questions, &mut until).await {
                put_off(asked);
            }
            pause = (pause * 2).min(JOIN_PAUSE_MAX);
        }
    }

    async fn ask_to_join(
        &mut self,
        ask: impl Future<Output = Result<Answer, NoAnswer>> + Send,
    ) -> Result<Answer, NoAnswer> {
        let mut asks = Asks::default();
        asks.add(self.plan.id, ask);
        let mut never = Box::pin(std::future::pending());
        loop {
            match next(&mut asks, self.questions, &mut never).await {
                Some(Event::Answer(_, answer)) => return answer,
                Some(Event::Question(asked)) => put_off(asked),
                Some(Event::Time) | None => unreachable!("one question is under way"),
            }
        }
    }
}

/// Answers a question in the meeting. Says whether it was news.
async fn answer_founder<D: Disk>(
    disk: &D,
    meeting: &mut Meeting,
    owner: u64,
    asked: Asked,
) -> Result<bool, Error> {
    let (answer, news) = match asked.question {
        Question::Meet { cluster, founder, accepted } => match meeting.hear(cluster, founder, accepted) {
            Ok(news) => {
                save(disk, meeting, owner).await?;
                meeting.note_saved();
                (meeting.answer(), news)
            }
            Err(why) => (Answer::Refused(why), false),
        },
        Question::Join { .. } => (Answer::Later("the cluster has not begun yet".into()), false),
    };
    // Whoever asked may have gone.
    let _ = asked.answer.send(answer);
    Ok(news)
}

/// Answers while there is nothing to say.
fn put_off(asked: Asked) {
    let _ = asked.answer.send(Answer::Later("it is about to join the cluster itself".into()));
}

/// Makes durable what the meeting has accepted.
async fn save<D: Disk>(disk: &D, meeting: &Meeting, owner: u64) -> Result<(), Error> {
    match meeting.unsaved() {
        Some(genesis) => write_owner(disk, &Owner { owner, accepted: Some(genesis.clone()) }).await,
        None => Ok(()),
    }
}

/// Says for whom it waits, once, until that changes.
fn say(what: &str, troubles: &[String], said: &mut Vec<String>) {
    if troubles != said {
        *said = troubles.to_vec();
        tracing::info!(reasons = troubles.join("; "), "{what}");
    }
}

/// Asks by each of a member's addresses, until there is an answer.
async fn ask_in_turn<N: Network>(
    network: &N,
    peer_urls: &[String],
    question: Question,
) -> Result<Answer, NoAnswer> {
    let mut last = NoAnswer("no address of it is known".into());
    for url in peer_urls {
        match network.ask(url, question.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(error) => last = error,
        }
    }
    Err(last)
}

type Ask<'a> = Pin<Box<dyn Future<Output = Result<Answer, NoAnswer>> + Send + 'a>>;

/// Questions under way.
#[derive(Default)]
struct Asks<'a> {
    asks: Vec<(NodeId, Ask<'a>)>,
    /// Whether there is something to wait for when all are answered.
    waiting: bool,
}

impl<'a> Asks<'a> {
    fn waiting() -> Asks<'a> {
        Asks { asks: Vec::new(), waiting: true }
    }

    fn add(&mut self, to: NodeId, ask: impl Future<Output = Result<Answer, NoAnswer>> + Send + 'a) {
        self.asks.push((to, Box::pin(ask)));
    }
}

enum Event {
    Answer(NodeId, Result<Answer, NoAnswer>),
    Question(Asked),
    Time,
}

/// The next thing that happens; `None` when all questions are answered. Looks in a fixed order: what runs in the
/// simulator must not depend on chance.
async fn next<S: Future<Output = ()>>(
    asks: &mut Asks<'_>,
    questions: &mut QuestionReceiver,
    time: &mut Pin<Box<S>>,
) -> Option<Event> {
    poll_fn(|context| {
        for at in 0..asks.asks.len() {
            if let Poll::Ready(answer) = asks.asks[at].1.as_mut().poll(context) {
                let (to, _) = asks.asks.remove(at);
                return Poll::Ready(Some(Event::Answer(to, answer)));
            }
        }
        if asks.asks.is_empty() && !asks.waiting {
            return Poll::Ready(None);
        }
        if let Poll::Ready(Some(asked)) = questions.0.poll_recv(context) {
            return Poll::Ready(Some(Event::Question(asked)));
        }
        time.as_mut().poll(context).map(|()| Some(Event::Time))
    })
    .await
}

async fn read_owner<D: Disk>(disk: &D) -> Result<Option<Owner>, Error> {
    let names = disk.list().await.map_err(Error::io("list", "the data directory"))?;
    if !names.iter().any(|name| name == OWNER_FILE) {
        return Ok(None);
    }
    let bytes = meta::read_file(disk, OWNER_FILE).await?;
    let owner =
        codec::decode_whole(Kind::Owner, &bytes).map_err(|error| Error::decode(OWNER_FILE, 0, error))?;
    Ok(Some(owner))
}

async fn write_owner<D: Disk>(disk: &D, owner: &Owner) -> Result<(), Error> {
    let mut bytes = Vec::new();
    codec::encode_frame(Kind::Owner, owner, &mut bytes)
        .map_err(|source| Error::Encode { file: OWNER_FILE.into(), source })?;
    meta::install_file(disk, TEMPORARY, OWNER_FILE, &bytes).await
}

/// Removes the file when the meta file has taken its place.
pub(crate) async fn remove_owner<D: Disk>(disk: &D) -> Result<(), Error> {
    let names = disk.list().await.map_err(Error::io("list", "the data directory"))?;
    if names.iter().any(|name| name == OWNER_FILE) {
        disk.remove(OWNER_FILE).await.map_err(Error::io("remove", OWNER_FILE))?;
    }
    Ok(())
}

/// The file of a directory that is no member's yet.
pub(crate) const OWNER_FILE: &str = "owner";
const TEMPORARY: &str = "owner.tmp";

/// Between two rounds of a meeting in which nothing new was heard.
const PAUSE: Duration = Duration::from_millis(200);
/// Between two rounds of asking to join, at most.
const JOIN_PAUSE_MAX: Duration = Duration::from_secs(2);
