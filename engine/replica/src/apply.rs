//! The replicated half: committed entries become state, and answers.

use alloc::sync::Arc;
use alloc::vec::Vec;

use quorate_raft::{Command as _, Entry, Payload, SnapshotMeta, Term};
use quorate_store::{Applied, Command};

use crate::io::{Body, Error, Output, Proposal, RequestId, Response, SharedProposal};
use crate::leases::Leases;
use crate::limits::LOG_ENTRY_BYTES;
use crate::pending::Ask;
use crate::replica::Replica;

impl Replica {
    /// Applies committed entries, and answers those that this member was asked for.
    pub(crate) fn apply(&mut self, entries: Vec<Entry<SharedProposal>>) {
        // The entries of the term in which a member leads are its own.
        let leading = if self.leads() { self.raft.status().term } else { Term(0) };
        for entry in entries {
            assert_eq!(entry.index, self.applied.index.next(), "entries are applied in order");
            self.applied = entry.position();
            match entry.payload {
                Payload::Noop => {}
                Payload::Command(proposal) => {
                    let size = proposal.size();
                    self.snapshots.log_bytes += size as u64 + LOG_ENTRY_BYTES;
                    if entry.term == leading {
                        self.uncommitted_bytes = self.uncommitted_bytes.saturating_sub(size);
                    }
                    self.apply_proposal(&proposal.0);
                }
                Payload::Membership(membership) => {
                    self.configuration = membership.configuration;
                    if let Some(proposal) = membership.command {
                        self.snapshots.log_bytes += proposal.size() as u64 + LOG_ENTRY_BYTES;
                        self.apply_change(&proposal.0);
                    }
                    self.conform_members();
                }
            }
        }
        self.maybe_start_leases();
        assert!(self.applied.index <= self.raft.status().commit, "only what is committed is applied");
    }

    fn apply_proposal(&mut self, proposal: &Arc<Proposal>) {
        let Proposal { origin, id, ref command } = **proposal;
        self.note_own_boot(origin, id);
        if self.store.members().get(origin.0).is_none() || !self.sessions.admit(origin, id) {
            // It has taken effect before, and was answered then; or it comes from who has been removed.
            return;
        }
        let applied = match self.store.members().plan(command) {
            // Who votes changes together with Raft's configuration or not at all. No leader of good faith asks for it here.
            Ok(changes) if !changes.is_empty() => Applied {
                result: Err(quorate_store::Error::UnhealthyCluster),
                revision: self.store.revision(),
            },
            _ => self.store.apply(command),
        };
        if command.is_about_members() {
            self.on_members_applied();
        }
        self.update_leases(proposal, &applied);
        self.answer_applied(proposal, applied);
    }

    /// Applies what came with a configuration, which is in force.
    fn apply_change(&mut self, proposal: &Arc<Proposal>) {
        let Proposal { origin, id, ref command } = **proposal;
        self.note_own_boot(origin, id);
        if self.store.members().get(origin.0).is_some() {
            self.sessions.admit(origin, id);
        }
        let applied = self.store.apply(command);
        if self.leads() && matches!(command, Command::MemberPromote { .. }) && applied.result.is_ok() {
            self.membership.promotions += 1;
        }
        self.answer_applied(proposal, applied);
    }

    /// Answers this member's client.
    fn answer_applied(&mut self, proposal: &Proposal, applied: Applied) {
        let id = proposal.id;
        if proposal.origin != self.config.raft.id {
            return;
        }
        if self.alarm.as_ref().is_some_and(|alarm| alarm.proposal.0.id == id) {
            self.alarm = None;
        }
        if self.pending.remove(id).is_some() {
            let term = self.raft.status().term;
            let Applied { result, revision } = applied;
            let result = result
                .map(|response| Response { revision, term, body: Body::Store(response) })
                .map_err(Error::Store);
            self.outputs.push_back(Output::Respond { id, result });
        }
    }

    /// Begins to keep the time of leases once this leader has applied an entry of its own term, the
    /// first of which it appended when it was elected: by then, whatever its predecessors have
    /// committed is applied.
    fn maybe_start_leases(&mut self) {
        let term = self.raft.status().term;
        if self.leads() && self.applied.term == term && self.leases.is_none() {
            self.leases = Some(Leases::new(term, self.store.leases(), self.now));
        }
    }

    fn update_leases(&mut self, proposal: &Proposal, applied: &Applied) {
        let proposed_here = proposal.origin == self.config.raft.id && proposal.id.is_own();
        let retry = self.now + self.patience();
        let Some(leases) = &mut self.leases else { return };
        match (&proposal.command, &applied.result) {
            (Command::LeaseGrant { id, ttl }, Ok(_)) => leases.grant(*id, *ttl, self.now),
            (Command::LeaseRevoke { id }, Ok(_)) => {
                let parked = leases.remove(*id);
                parked.into_iter().for_each(|ask| self.answer_lease(ask));
            }
            // An alarm forbids what this leader proposed. The lease's time is still up when it is cleared.
            (Command::LeaseRevoke { id }, Err(_)) if proposed_here => {
                self.lease_asks.extend(leases.put_off(*id, retry))
            }
            _ => {}
        }
    }

    /// Takes over the state that a leader has sent.
    ///
    /// Commands of this member's clients that it includes have taken effect, but what they would have
    /// been answered is not known here. Their clients are told at once that the outcome is unknown,
    /// rather than after the rest of the time that they would wait.
    pub(crate) fn restore(&mut self, meta: SnapshotMeta) {
        let (received, store, sessions) =
            self.snapshots.received.take().expect("Raft restores what it was told is here");
        assert_eq!(received, meta, "Raft restores what it was told is here");
        assert!(meta.position.index > self.applied.index, "a snapshot never takes state back");
        let me = self.config.raft.id;
        self.abandon_own_snapshot();
        self.stop_sending_all();
        self.store.replace_contents(store);
        self.sessions = sessions;
        self.applied = meta.position;
        self.configuration = meta.configuration;
        self.snapshots.log_bytes = 0;
        self.conform_members();
        self.note_own_boot(me, RequestId { boot: self.sessions.boot(me), sequence: 0 });
        self.settle_after_restore();
    }

    fn settle_after_restore(&mut self) {
        let me = self.config.raft.id;
        let effective = |id: RequestId| self.sessions.seen(me, id);
        if self.alarm.as_ref().is_some_and(|alarm| effective(alarm.proposal.0.id)) {
            self.alarm = None;
        }
        let settled: Vec<RequestId> = self
            .pending
            .iter()
            .filter(|waiting| matches!(waiting.ask, Ask::Command(_)) && effective(waiting.id))
            .map(|waiting| waiting.id)
            .collect();
        for id in settled {
            self.pending.remove(id);
            self.respond(id, Err(Error::Timeout));
        }
    }
}
