//! The members of the cluster, as far as they are replicated: who they are and where to reach them.
//!
//! The table is part of the state like the keys are. It begins with the founders, and every change of it is
//! a command of the log. Who votes is Raft's to decide with, and the table's to tell:
//! [`Members::plan`] says what a command would change of Raft's configuration, and the owner of the store
//! sees to it that both change together.
//!
//! # A member is a disk
//!
//! What a voter has promised (its vote, the entries it acknowledged) lies on its disk. So an id belongs to one
//! data directory, for ever; `owner` is a number that the directory drew when it was created.
//!
//! * A member is *added* with its peer URLs and no owner; it has never been started.
//! * A directory *joins* by its URLs. If the member there has no owner yet, the directory becomes its owner. If it is
//!   the owner already, it is answered the same again. If another directory is, then that one has been lost
//!   with all its promises: its id is *removed*, and the newcomer gets a new id, as a learner.
//! * An id that has been removed is remembered and never given out again.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::error::Error;
use crate::hash::Checksum;
use crate::response::Response;

/// A member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id, never zero.
    pub id: u64,
    /// The number of the data directory that it is; zero as long as it has never been started.
    pub owner: u64,
    /// Its name; empty as long as it has never been started.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it receives the log without a vote.
    pub learner: bool,
    /// Whether the leader makes it a voter as soon as it has caught up.
    pub auto_promote: bool,
    /// The higher, the rather it shall lead.
    pub priority: u32,
}

impl Member {
    /// Whether it has ever been started.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.owner != 0
    }
}

/// What a command changes of Raft's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A new member that does not vote.
    AddLearner(u64),
    /// A new member that votes, or a learner that does from now on.
    AddVoter(u64),
    /// A voter that does not from now on.
    Demote(u64),
    /// A member less.
    Remove(u64),
}

/// The members of the cluster, and who is one no more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    table: BTreeMap<u64, Member>,
    removed: BTreeSet<u64>,
}

/// What is known of members.
impl Members {
    /// Members with these records, of which none has been removed.
    pub(crate) fn new(members: impl IntoIterator<Item = Member>, removed: BTreeSet<u64>) -> Members {
        Members { table: members.into_iter().map(|member| (member.id, member)).collect(), removed }
    }

    /// The members, ascending by id.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.table.values()
    }

    /// The member with this id.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Member> {
        self.table.get(&id)
    }

    /// Those that vote, ascending by id.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.iter().filter(|member| !member.learner)
    }

    /// Those that do not, ascending by id.
    pub fn learners(&self) -> impl Iterator<Item = &Member> {
        self.iter().filter(|member| member.learner)
    }

    /// Whether there has been a member with this id, which is none any more and never will be again.
    #[must_use]
    pub fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    /// The ids that have been removed, ascending.
    pub fn removed(&self) -> impl Iterator<Item = u64> {
        self.removed.iter().copied()
    }
}

/// What commands do.
impl Members {
    /// What a command changes of Raft's configuration, or why the table does not allow it. Commands that are not
    /// about members change nothing.
    pub fn plan(&self, command: &Command) -> Result<Vec<MemberChange>, Error> {
        match command {
            Command::MemberAdd { id, peer_urls, learner, .. } => {
                self.check_new(*id)?;
                self.check_urls(*id, peer_urls)?;
                Ok(vec![if *learner { MemberChange::AddLearner(*id) } else { MemberChange::AddVoter(*id) }])
            }
            Command::MemberRemove { id } => {
                self.check_not_last(self.known(*id)?)?;
                Ok(vec![MemberChange::Remove(*id)])
            }
            Command::MemberPromote { id } => match self.known(*id)?.learner {
                true => Ok(vec![MemberChange::AddVoter(*id)]),
                false => Err(Error::MemberNotLearner),
            },
            Command::MemberDemote { id } => {
                let member = self.known(*id)?;
                if member.learner {
                    return Err(Error::MemberNotVoter);
                }
                self.check_not_last(member)?;
                Ok(vec![MemberChange::Demote(*id)])
            }
            Command::MemberUpdate { id, peer_urls } => {
                self.known(*id)?;
                self.check_urls(*id, peer_urls)?;
                Ok(Vec::new())
            }
            Command::MemberPublish { id, .. } => self.known(*id).map(|_| Vec::new()),
            Command::MemberJoin { id, owner, peer_urls, .. } => self.plan_join(*id, *owner, peer_urls),
            Command::MemberRefused { error } => Err(*error),
            _ => Ok(Vec::new()),
        }
    }

    fn plan_join(&self, id: u64, owner: u64, peer_urls: &[String]) -> Result<Vec<MemberChange>, Error> {
        let member = self.at_urls(peer_urls).filter(|_| owner != 0).ok_or(Error::NoMemberToJoin)?;
        if !member.is_started() || member.owner == owner {
            return Ok(Vec::new());
        }
        self.check_new(id)?;
        self.check_not_last(member)?;
        Ok(vec![MemberChange::Remove(member.id), MemberChange::AddLearner(id)])
    }

    /// Does what a command says, if the table allows it. Gives the answer and the ids whose records have changed.
    pub(crate) fn execute(&mut self, command: &Command) -> Result<(Response, Vec<u64>), Error> {
        self.plan(command)?;
        let changed = match command {
            Command::MemberAdd { id, peer_urls, learner, auto_promote } => {
                self.insert(Member {
                    id: *id,
                    peer_urls: peer_urls.clone(),
                    learner: *learner,
                    auto_promote: *auto_promote,
                    ..Member::default()
                });
                vec![*id]
            }
            Command::MemberRemove { id } => {
                self.remove(*id);
                vec![*id]
            }
            Command::MemberPromote { id } => self.edit(*id, |member| member.learner = false),
            Command::MemberDemote { id } => self.edit(*id, |member| {
                (member.learner, member.auto_promote) = (true, false);
            }),
            Command::MemberUpdate { id, peer_urls } => {
                self.edit(*id, |member| member.peer_urls.clone_from(peer_urls))
            }
            Command::MemberPublish { id, name, client_urls, priority } => {
                let changed = self.edit(*id, |member| {
                    member.name.clone_from(name);
                    member.client_urls.clone_from(client_urls);
                    member.priority = *priority;
                });
                return Ok((Response::Done, changed));
            }
            Command::MemberJoin { id, owner, name, peer_urls } => {
                return Ok(self.join(*id, *owner, name, peer_urls));
            }
            _ => Vec::new(),
        };
        Ok((Response::Members(self.iter().cloned().collect()), changed))
    }

    /// Lets a directory be a member, as has been checked.
    fn join(&mut self, id: u64, owner: u64, name: &str, peer_urls: &[String]) -> (Response, Vec<u64>) {
        let old = self.at_urls(peer_urls).expect("this has been checked").clone();
        if old.owner == owner {
            return (Response::Joined { id: old.id }, Vec::new());
        }
        let joined = Member { owner, name: name.into(), ..old.clone() };
        if !old.is_started() {
            self.insert(joined);
            return (Response::Joined { id: old.id }, vec![old.id]);
        }
        self.remove(old.id);
        let auto_promote = !old.learner || old.auto_promote;
        self.insert(Member { id, learner: true, auto_promote, client_urls: Vec::new(), ..joined });
        (Response::Joined { id }, vec![old.id, id])
    }

    /// Makes the table agree with Raft's configuration, and gives the ids for which it did not before. What a leader
    /// of good faith has put into the log leaves nothing to do here.
    pub(crate) fn conform(&mut self, voters: &BTreeSet<u64>, learners: &BTreeSet<u64>) -> Vec<u64> {
        let is_member = |id: &u64| voters.contains(id) || learners.contains(id);
        let gone: Vec<u64> = self.table.keys().filter(|id| !is_member(id)).copied().collect();
        let mut changed = gone.clone();
        gone.into_iter().for_each(|id| self.remove(id));
        for id in voters.iter().chain(learners).copied() {
            let learner = !voters.contains(&id);
            if self.get(id).is_some_and(|member| member.learner == learner) {
                continue;
            }
            self.removed.remove(&id);
            self.table.entry(id).or_insert_with(|| Member { id, ..Member::default() }).learner = learner;
            changed.push(id);
        }
        changed
    }

    fn insert(&mut self, member: Member) {
        assert!(!self.removed.contains(&member.id), "an id that has been removed is never given out again");
        self.table.insert(member.id, member);
    }

    fn remove(&mut self, id: u64) {
        self.table.remove(&id);
        self.removed.insert(id);
    }

    fn edit(&mut self, id: u64, change: impl FnOnce(&mut Member)) -> Vec<u64> {
        change(self.table.get_mut(&id).expect("the plan has found it"));
        vec![id]
    }

    fn known(&self, id: u64) -> Result<&Member, Error> {
        self.get(id).ok_or(Error::MemberNotFound)
    }

    fn check_new(&self, id: u64) -> Result<(), Error> {
        let taken = id == 0 || self.table.contains_key(&id) || self.removed.contains(&id);
        if taken { Err(Error::MemberExists) } else { Ok(()) }
    }

    /// No two members share a peer URL.
    fn check_urls(&self, id: u64, peer_urls: &[String]) -> Result<(), Error> {
        let mut others = self.iter().filter(|member| member.id != id);
        let taken = others.any(|member| member.peer_urls.iter().any(|url| peer_urls.contains(url)));
        if taken { Err(Error::PeerUrlExists) } else { Ok(()) }
    }

    /// A cluster without voters could never decide anything again.
    fn check_not_last(&self, member: &Member) -> Result<(), Error> {
        let last = !member.learner && self.voters().count() == 1;
        if last { Err(Error::NotEnoughStarted) } else { Ok(()) }
    }

    /// The member with exactly these peer URLs, in whatever order.
    fn at_urls(&self, peer_urls: &[String]) -> Option<&Member> {
        let wanted: BTreeSet<&String> = peer_urls.iter().collect();
        self.iter()
            .find(|member| !wanted.is_empty() && member.peer_urls.iter().collect::<BTreeSet<_>>() == wanted)
    }
}

impl Checksum {
    /// Adds what is known of a member: its record, or that there is none.
    pub(crate) fn member(&mut self, id: u64, member: Option<&Member>) {
        self.word(id);
        let Some(member) = member else { return self.word(0) };
        self.word(1 + u64::from(member.learner) * 2 + u64::from(member.auto_promote) * 4);
        self.word(member.owner);
        self.word(u64::from(member.priority));
        self.bytes(member.name.as_bytes());
        for urls in [&member.peer_urls, &member.client_urls] {
            self.word(urls.len() as u64);
            urls.iter().for_each(|url| self.bytes(url.as_bytes()));
        }
    }
}
