//! The members, as a list that is searched from the front.

use quorate_store::{Command, Error, Member, Response};

/// Who is a member, and who was one.
#[derive(Debug, Default)]
pub struct Membership {
    members: Vec<Member>,
    gone: Vec<u64>,
}

impl Membership {
    pub fn list(&self) -> Vec<Member> {
        let mut members = self.members.clone();
        members.sort_by_key(|member| member.id);
        members
    }

    pub fn apply(&mut self, command: &Command) -> Result<Response, Error> {
        match command {
            Command::MemberAdd { id, peer_urls, learner, auto_promote } => {
                if !self.is_unused(*id) {
                    return Err(Error::MemberExists);
                }
                if self.is_taken(peer_urls, *id) {
                    return Err(Error::PeerUrlExists);
                }
                let (peer_urls, learner, auto_promote) = (peer_urls.clone(), *learner, *auto_promote);
                self.members.push(Member { id: *id, peer_urls, learner, auto_promote, ..Member::default() });
            }
            Command::MemberRemove { id } => {
                let place = self.find(*id)?;
                self.check_voters_without(place)?;
                self.members.remove(place);
                self.gone.push(*id);
            }
            Command::MemberUpdate { id, peer_urls } => {
                let place = self.find(*id)?;
                if self.is_taken(peer_urls, *id) {
                    return Err(Error::PeerUrlExists);
                }
                self.members[place].peer_urls = peer_urls.clone();
            }
            Command::MemberPromote { id } => {
                let place = self.find(*id)?;
                if !self.members[place].learner {
                    return Err(Error::MemberNotLearner);
                }
                self.members[place].learner = false;
            }
            Command::MemberDemote { id } => {
                let place = self.find(*id)?;
                if self.members[place].learner {
                    return Err(Error::MemberNotVoter);
                }
                self.check_voters_without(place)?;
                self.members[place].learner = true;
                self.members[place].auto_promote = false;
            }
            Command::MemberPublish { id, name, client_urls, priority } => {
                let place = self.find(*id)?;
                let (name, client_urls) = (name.clone(), client_urls.clone());
                let member = self.members[place].clone();
                self.members[place] = Member { name, client_urls, priority: *priority, ..member };
                return Ok(Response::Done);
            }
            Command::MemberJoin { id, owner, name, peer_urls } => {
                let joined = self.join(*id, *owner, name, peer_urls)?;
                return Ok(Response::Joined { id: joined });
            }
            Command::MemberRefused { error } => return Err(*error),
            other => unreachable!("{other:?} is not about members"),
        }
        Ok(Response::Members(self.list()))
    }

    fn join(&mut self, id: u64, owner: u64, name: &str, peer_urls: &[String]) -> Result<u64, Error> {
        let mut wanted = peer_urls.to_vec();
        wanted.sort();
        wanted.dedup();
        let has_urls = |member: &Member| {
            let mut urls = member.peer_urls.clone();
            urls.sort();
            urls.dedup();
            urls == wanted
        };
        // Of several (which only empty lists can make) none is meant.
        let place = self.members.iter().position(has_urls).filter(|_| owner > 0 && !wanted.is_empty());
        let place = place.ok_or(Error::NoMemberToJoin)?;
        let member = self.members[place].clone();
        if member.owner == 0 {
            self.members[place] = Member { owner, name: name.into(), ..member };
            return Ok(self.members[place].id);
        }
        if member.owner == owner {
            return Ok(member.id);
        }
        if !self.is_unused(id) {
            return Err(Error::MemberExists);
        }
        self.check_voters_without(place)?;
        self.members.remove(place);
        self.gone.push(member.id);
        let auto_promote = if member.learner { member.auto_promote } else { true };
        let (name, client_urls) = (name.to_owned(), Vec::new());
        self.members.push(Member { id, owner, name, client_urls, learner: true, auto_promote, ..member });
        Ok(id)
    }

    fn find(&self, id: u64) -> Result<usize, Error> {
        self.members.iter().position(|member| member.id == id).ok_or(Error::MemberNotFound)
    }

    fn is_unused(&self, id: u64) -> bool {
        id != 0 && self.find(id).is_err() && !self.gone.contains(&id)
    }

    fn is_taken(&self, peer_urls: &[String], by_others_than: u64) -> bool {
        let others = self.members.iter().filter(|member| member.id != by_others_than);
        others.flat_map(|member| &member.peer_urls).any(|url| peer_urls.contains(url))
    }

    fn check_voters_without(&self, place: usize) -> Result<(), Error> {
        let voters = self.members.iter().filter(|member| !member.learner).count();
        if !self.members[place].learner && voters < 2 { Err(Error::NotEnoughStarted) } else { Ok(()) }
    }
}
