//! Answers that need no log entry: queries, questions about leases, and what ran out of time.

use alloc::vec::Vec;

use quorate_raft::ReadId;
use quorate_store::{Command, Key, LeaseId, Query};

use crate::io::{Body, Error, RequestId, SharedProposal};
use crate::leases::Renewal;
use crate::peer::Message;
use crate::pending::{Ask, Waiting};
use crate::reads::{Asker, LeaseAsk, LeaseQuestion, Reader, Round};
use crate::replica::Replica;

/// Read rounds.
impl Replica {
    /// Lets questions about leases, and leases whose time is up, take part in the next read round. The
    /// questions come first, so that a keep-alive that arrived in time is not too late.
    pub(crate) fn ask_leases(&mut self) {
        // A new leader's clock starts soon; until then, questions wait.
        let Some(leases) = &mut self.leases else { return };
        if self.lease_asks.is_empty() && leases.deadline().is_none_or(|at| at > self.now) {
            return;
        }
        for ask in self.lease_asks.drain(..) {
            if ask.question == LeaseQuestion::KeepAlive {
                leases.renew(ask.lease, self.now);
            }
            self.reads.push(Reader::Lease(ask));
        }
        while let Some(lease) = leases.pop_expired(self.now) {
            self.reads.push(Reader::Expired(lease));
        }
    }

    /// Asks Raft for a read index on behalf of all that wait for one.
    pub(crate) fn begin_read_round(&mut self) {
        if !self.reads.are_wanted() {
            return;
        }
        let Some(route) = self.current_route() else { return };
        if let Some(id) = self.reads.begin(self.now, route.term, self.epoch) {
            self.raft_handle(quorate_raft::Input::Read(id));
        }
    }

    /// Raft does not know what became of a round: its readers take part in another.
    pub(crate) fn on_read_dropped(&mut self, id: ReadId) {
        let Some(round) = self.reads.drop_round(id) else { return };
        let keeps_time = self.keeps_time_of(&round);
        for reader in round.readers {
            // Whom the round asked about leases as the leader of a term that has ended, has been
            // forgotten by now; those who asked will ask the next leader.
            if keeps_time || matches!(reader, Reader::Query(_)) {
                self.reads.push(reader);
            }
        }
        if round.epoch == self.epoch {
            // Nothing has changed, so asking again at once might go on for ever.
            self.reads.pause(self.now + self.config.raft.heartbeat_interval);
        }
    }

    /// Answers the readers of every confirmed round whose index has been applied.
    pub(crate) fn answer_confirmed_reads(&mut self) {
        while let Some(round) = self.reads.pop_confirmed(self.applied.index) {
            let keeps_time = self.keeps_time_of(&round);
            for reader in round.readers {
                match reader {
                    Reader::Query(id) => self.answer_pending_query(id),
                    Reader::Lease(ask) if keeps_time => self.answer_lease(ask),
                    Reader::Expired(lease) if keeps_time => self.revoke(lease),
                    Reader::Lease(_) | Reader::Expired(_) => {}
                }
            }
        }
    }

    /// Whether a round was begun under the leadership in which this member keeps the time of leases.
    fn keeps_time_of(&self, round: &Round) -> bool {
        self.leases.as_ref().is_some_and(|leases| leases.term() == round.term)
    }

    fn answer_pending_query(&mut self, id: RequestId) {
        if let Some(Waiting { ask: Ask::Query(query), .. }) = self.pending.remove(id) {
            self.answer_query(id, &query);
        }
    }

    /// Answers a query from the present state.
    pub(crate) fn answer_query(&mut self, id: RequestId, query: &Query) {
        let result = self.store.query(query).map(Body::Store).map_err(Error::Store);
        self.respond(id, result);
    }
}

/// Leases, on the leader.
impl Replica {
    /// Answers a question about a lease, now that a read round has confirmed that this member led after
    /// it was asked.
    pub(crate) fn answer_lease(&mut self, ask: LeaseAsk) {
        let leases = self.leases.as_mut().expect("only who keeps the time is asked");
        match ask.question {
            LeaseQuestion::KeepAlive => {
                let ttl = match leases.renew(ask.lease, self.now) {
                    Renewal::Renewed(ttl) => ttl,
                    Renewal::Unknown => 0,
                    Renewal::Leaving => return leases.park(ask),
                };
                match ask.asker {
                    Asker::Client(id) => self.answer(id, Body::KeptAlive { id: ask.lease, ttl }),
                    Asker::Peer(to, id) => self.send(to, Message::KeptAlive { id, ttl }),
                }
            }
            LeaseQuestion::TimeToLive { keys } => {
                let (ttl, granted_ttl) = leases.remaining(ask.lease, self.now).unwrap_or((-1, 0));
                let keys = if keys { self.keys_of(ask.lease) } else { Vec::new() };
                match ask.asker {
                    Asker::Client(id) => {
                        self.answer(id, Body::TimeToLive { id: ask.lease, ttl, granted_ttl, keys });
                    }
                    Asker::Peer(to, id) => {
                        self.send(to, Message::TimeToLiveReply { id, ttl, granted_ttl, keys });
                    }
                }
            }
        }
    }

    fn keys_of(&self, lease: LeaseId) -> Vec<Key> {
        match self.store.query(&Query::Lease { id: lease, keys: true }) {
            Ok(quorate_store::Response::Lease(Some(lease))) => lease.keys,
            _ => Vec::new(),
        }
    }

    /// Revokes a lease whose time was up before a read round that is now confirmed, unless it has been
    /// renewed since. The revocation goes to this member's own Raft, which appends it in the term in
    /// which the member keeps the time, or not at all.
    fn revoke(&mut self, lease: LeaseId) {
        let leases = self.leases.as_mut().expect("only who keeps the time revokes");
        if leases.confirm_expired(lease) {
            let proposal = self.own_proposal(Command::LeaseRevoke { id: lease });
            self.propose(proposal);
        }
    }

    /// Gives a command of the replica's own its number.
    pub(crate) fn own_proposal(&mut self, command: Command) -> SharedProposal {
        self.own_commands += 1;
        SharedProposal::new(self.config.raft.id, RequestId::own(self.boot, self.own_commands), command)
    }
}

/// The end of a request.
impl Replica {
    /// Answers a request that waits; one that does not is left alone.
    pub(crate) fn answer(&mut self, id: RequestId, body: Body) {
        if self.pending.remove(id).is_some() {
            self.respond(id, Ok(body));
        }
    }

    /// Gives up the requests that have waited for too long.
    pub(crate) fn expire_requests(&mut self) {
        while let Some(oldest) = self.pending.oldest()
            && oldest.deadline <= self.now
        {
            let error = match oldest.sent {
                _ if matches!(oldest.ask, Ask::MoveLeader { .. }) => Error::TimeoutTransfer,
                // Only this member has ever known of it.
                None => Error::NoLeader,
                Some(_) if oldest.epoch != self.epoch => Error::TimeoutLeaderChanged,
                Some(_) => Error::Timeout,
            };
            let id = oldest.id;
            self.pending.remove(id);
            self.respond(id, Err(error));
        }
    }
}
