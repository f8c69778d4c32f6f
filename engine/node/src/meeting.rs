//! The meeting: how the founders of a new cluster make sure that each of them is one data directory, for ever.
//!
//! # The problem
//!
//! A voter's promises are on its disk. If a founder's directory is lost and the founder starts again under the same
//! id, it may vote a second time in a term, and acknowledge entries that it does not have. Nobody could tell,
//! unless everybody knows from the start which directory is which founder's. So no founder takes part in Raft
//! before all have agreed on the list of all directories: the [`Genesis`].
//!
//! # The rule
//!
//! - Founders tell each other who they are, again and again, until a round of questions has reached all.
//! - Then a founder *accepts* the genesis that it has seen, or one that another founder has accepted and in which it
//!   finds its own directory. **A directory accepts one genesis, durably, and never another.**
//! - A founder *begins* when it knows that all directories of a genesis have accepted it.
//!
//! # Why it is right
//!
//! Let two directories begin with different geneses. All directories of the one have accepted the one, all of the
//! other the other; none has accepted both. So the two have no directory in common, that is, *every* founder has
//! lost its disk in between: then nothing is left of the first cluster. While one founder keeps its directory, all that
//! begin do so with the same genesis, and no id with two directories.
//!
//! If nobody loses a directory, all begin as soon as all are up at the same time for about three round trips. A
//! directory lost before the round in which somebody accepts does no harm, however long the others have waited. One that
//! is lost between then and the last acceptance leaves a meeting that cannot end, because nobody can know whether the
//! lost one had begun; [`Meeting::trouble`] says so. One that is lost later finds that the cluster has begun with
//! another directory of its name, and joins as a new member.
//!
//! This file is the rule alone, without I/O; `establish.rs` asks, answers and saves.

use std::collections::BTreeMap;

use quorate_raft::NodeId;
use quorate_replica::Founder;

use crate::meta::ClusterId;
use crate::question::{Answer, Genesis, Question};

/// One founder's view of the meeting.
#[derive(Clone, Debug)]
pub struct Meeting {
    cluster: ClusterId,
    me: Founder,
    others: BTreeMap<NodeId, Other>,
    accepted: Option<Genesis>,
    /// Whether `accepted` is durable. Until then nobody may hear of it.
    saved: bool,
    ending: Option<Ending>,
}

/// What is known of another founder.
#[derive(Clone, Debug, Default)]
struct Other {
    name: String,
    /// Its directory, if it has spoken since the round began.
    present: Option<u64>,
    /// Who it said it is when it last spoke, and what it had accepted.
    said: Option<(Founder, Option<Genesis>)>,
    /// What its directory has accepted, if one of its directories has. That is never taken back, so it counts even if
    /// the directory has been lost since.
    agreed: Option<Genesis>,
    /// Why it does not answer.
    silent: Option<String>,
}

/// How a meeting ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// This directory is a founder's: begin.
    Begin(Genesis),
    /// The cluster has begun with another directory in this one's place: join it.
    Join,
    /// The cluster has begun with this directory, which knows nothing of it: it is an old copy of the founder's. It must
    /// not speak for it; under a new number it may join.
    OldCopy,
}

impl Meeting {
    /// A meeting of these founders, `me` among them (the numbers of the others' directories do not matter). `accepted`
    /// is what this directory has accepted before.
    #[must_use]
    pub fn new(cluster: ClusterId, me: Founder, all: &[Founder], accepted: Option<Genesis>) -> Meeting {
        let other =
            |founder: &Founder| (founder.id, Other { name: founder.name.clone(), ..Other::default() });
        let others = all.iter().filter(|founder| founder.id != me.id).map(other).collect();
        let mut meeting = Meeting { cluster, me, others, accepted, saved: true, ending: None };
        meeting.maybe_end_alone();
        meeting
    }

    /// What to ask every other founder now.
    #[must_use]
    pub fn question(&self) -> Question {
        assert!(self.saved, "nobody hears of what is not durable");
        Question::Meet { cluster: self.cluster, founder: self.me.clone(), accepted: self.accepted.clone() }
    }

    /// What to answer a founder now, after [`hear`](Meeting::hear).
    #[must_use]
    pub fn answer(&self) -> Answer {
        assert!(self.saved, "nobody hears of what is not durable");
        Answer::Met { founder: self.me.clone(), accepted: self.accepted.clone() }
    }

    /// A new round of questions begins: who is present has to be seen again.
    pub fn begin_round(&mut self) {
        self.others.values_mut().for_each(|other| other.present = None);
    }

    /// All questions of the round have been answered or have failed. If everybody is present, this founder accepts
    /// what it has seen.
    pub fn end_round(&mut self) {
        if self.accepted.is_some() || self.others.values().any(|other| other.present.is_none()) {
            return;
        }
        let seen = self.others.values().filter_map(|other| other.said.as_ref());
        let founders = seen.map(|(founder, _)| founder.clone()).chain([self.me.clone()]);
        self.accept(Genesis::new(founders.collect()));
    }

    /// Another founder has spoken, as a question or as an answer. Says whether that was news.
    ///
    /// # Errors
    /// Why it is not taken for a founder of this cluster.
    pub fn hear(
        &mut self,
        cluster: ClusterId,
        founder: Founder,
        accepted: Option<Genesis>,
    ) -> Result<bool, String> {
        if cluster != self.cluster {
            return Err(format!(
                "this is cluster {}, not {cluster}: --initial-cluster and --initial-cluster-token must be the same \
                 for all members",
                self.cluster
            ));
        }
        let Some(other) = self.others.get_mut(&founder.id) else {
            return Err(format!(
                "member {:x} ({}) is not another one of --initial-cluster here",
                founder.id.0, founder.name
            ));
        };
        other.present = Some(founder.owner);
        other.silent = None;
        if let Some(genesis) = &accepted
            && genesis.names(founder.id, founder.owner)
        {
            other.agreed = Some(genesis.clone());
        }
        let said = Some((founder, accepted.clone()));
        let news = other.said != said;
        other.said = said;
        if let Some(genesis) = accepted
            && self.accepted.is_none()
            && self.is_ours(&genesis)
        {
            self.accept(genesis);
        }
        self.maybe_end();
        Ok(news)
    }

    /// Another founder has answered a question. Says whether that was news.
    pub fn on_answer(&mut self, from: NodeId, answer: Answer) -> bool {
        match answer {
            Answer::Met { founder, accepted } if founder.id == from => {
                self.hear(self.cluster, founder, accepted).expect("it was asked because it is a founder")
            }
            Answer::Met { founder, .. } => {
                let words = format!("member {:x} ({}) answers in its place", founder.id.0, founder.name);
                self.on_silence(from, words);
                false
            }
            Answer::Begun { genesis } => {
                self.on_begun(&genesis);
                true
            }
            Answer::Later(why) | Answer::Refused(why) => {
                self.on_silence(from, why);
                false
            }
            Answer::Joined { .. } => {
                self.on_silence(from, "it answers what was not asked".into());
                false
            }
        }
    }

    /// Another founder did not answer, for this reason.
    pub fn on_silence(&mut self, from: NodeId, why: String) {
        if let Some(other) = self.others.get_mut(&from) {
            other.silent = Some(why);
        }
    }

    /// Somebody has begun, with this genesis.
    fn on_begun(&mut self, genesis: &Genesis) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(if !genesis.names(self.me.id, self.me.owner) {
            Ending::Join
        } else if self.accepted.as_ref() == Some(genesis) {
            Ending::Begin(genesis.clone())
        } else {
            Ending::OldCopy
        });
    }

    /// What has to be made durable before anything else is said.
    #[must_use]
    pub fn unsaved(&self) -> Option<&Genesis> {
        if self.saved { None } else { self.accepted.as_ref() }
    }

    /// It is durable now.
    pub fn note_saved(&mut self) {
        self.saved = true;
        self.maybe_end();
    }

    /// How the meeting has ended; `None` while it goes on.
    #[must_use]
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// For whom and for what this founder waits, in words; empty when all is well.
    #[must_use]
    pub fn trouble(&self) -> Vec<String> {
        self.others.values().filter_map(|other| self.trouble_with(other)).collect()
    }

    fn trouble_with(&self, other: &Other) -> Option<String> {
        let name = &other.name;
        if let Some(why) = &other.silent {
            return Some(format!("{name}: {why}"));
        }
        let Some((founder, theirs)) = &other.said else {
            return Some(format!("{name}: it has not answered yet"));
        };
        let lost = |whose: &str| {
            Some(format!(
                "{name}: {whose} data directory is not the one that the members had agreed on before the cluster \
                 began; if the cluster has never served, empty the data directories of all members and start them again"
            ))
        };
        match (&self.accepted, theirs) {
            (Some(ours), _) if !ours.names(founder.id, founder.owner) => lost("its"),
            (_, Some(theirs)) if !theirs.names(self.me.id, self.me.owner) => lost("this member's"),
            (Some(ours), Some(theirs)) if ours != theirs => lost("another member's"),
            _ => None,
        }
    }

    /// Whether a genesis is of these founders and this directory.
    fn is_ours(&self, genesis: &Genesis) -> bool {
        let ids = genesis.founders().iter().map(|founder| founder.id);
        let mut all: Vec<NodeId> = self.others.keys().copied().chain([self.me.id]).collect();
        all.sort();
        ids.eq(all) && genesis.names(self.me.id, self.me.owner)
    }

    fn accept(&mut self, genesis: Genesis) {
        assert!(self.accepted.is_none(), "a directory accepts one genesis");
        assert!(self.is_ours(&genesis), "and only one that names it");
        self.accepted = Some(genesis);
        self.saved = false;
    }

    fn maybe_end(&mut self) {
        let Some(ours) = self.accepted.as_ref().filter(|_| self.saved && self.ending.is_none()) else {
            return;
        };
        if self.others.values().all(|other| other.agreed.as_ref() == Some(ours)) {
            self.ending = Some(Ending::Begin(ours.clone()));
        }
    }

    /// A cluster of one has nobody to meet.
    fn maybe_end_alone(&mut self) {
        if self.others.is_empty() && self.ending.is_none() {
            self.ending = Some(Ending::Begin(Genesis::new(vec![self.me.clone()])));
        }
    }
}
