//! A lease does not expire early.
//!
//! Whoever was told "this lease lives for *t* seconds" had asked before; if the lease is then ended for want
//! of renewal, the member that decided so must have seen *t* seconds pass on its own clock since the asking.
//! (Gray and Cheriton, "Leases", SOSP 1989; etcd issues 12528 and 15247, where stuck leaders revoked leases
//! that others had renewed.)
//!
//! Clocks run at different rates, jump and freeze, so true time says nothing here. But a revocation names its
//! origin, and the simulator can read that member's clock at any time: the check is exact, and allows no
//! drift.
//!
//! What a member has decided before it was removed, and what comes after its removal in the log, has no effect.

use std::collections::{BTreeMap, BTreeSet};

use quorate_raft::{NodeId, Payload};
use quorate_replica::{RequestId, SharedProposal, Write};
use quorate_store::Command;

use super::logs::Logs;
use super::{Check, broken};
use crate::env::network::MEMBERS_MAX;

/// What every member's clock reads, through restarts, at one moment.
pub type Readings = [u64; MEMBERS_MAX];

/// Renewals and expiries.
#[derive(Debug, Default)]
pub struct LeaseExpiry {
    /// The latest renewal of each lease: its time to live, and the clocks when it was asked for.
    renewed: BTreeMap<i64, (u64, Readings)>,
    /// When a member's clock said that a lease's time was up, by the command that ends it.
    decided: BTreeMap<(NodeId, RequestId), u64>,
    /// What some log holds, by index and term.
    proposed: BTreeMap<(u64, u64), Proposed>,
    /// Who belongs to the cluster as of the last committed entry, once that has changed.
    members: Option<BTreeSet<NodeId>>,
    /// Expiries that were committed, by lease.
    expired: BTreeMap<i64, Expiry>,
    checked: u64,
}

#[derive(Clone, Debug)]
enum Proposed {
    /// The end of a lease: whose decision it was, and that member's clock then.
    Expiry(Expiry),
    /// Other members.
    Members(BTreeSet<NodeId>),
}

#[derive(Clone, Copy, Debug)]
struct Expiry {
    lease: i64,
    origin: NodeId,
    reading: u64,
}

impl LeaseExpiry {
    /// A member writes entries: those that end leases were decided on when their own origin first appended them.
    pub fn on_write(&mut self, node: NodeId, write: &Write, reading: impl Fn() -> u64) {
        for entry in &write.entries {
            let key = (entry.index.0, entry.term.0);
            if let Payload::Membership(membership) = &entry.payload {
                let members = membership.configuration.members().collect();
                self.proposed.entry(key).or_insert(Proposed::Members(members));
            }
            let Payload::Command(SharedProposal(proposal)) = &entry.payload else { continue };
            let Command::LeaseRevoke { id } = &proposal.command else { continue };
            if !proposal.id.is_own() {
                continue;
            }
            let decision = (proposal.origin, proposal.id);
            if proposal.origin == node {
                self.decided.entry(decision).or_insert_with(&reading);
            }
            // (Whoever may have put it into the log: a decision that comes late is as early as it was.)
            if let Some(&reading) = self.decided.get(&decision) {
                let expiry = Expiry { lease: id.0, origin: proposal.origin, reading };
                self.proposed.entry(key).or_insert(Proposed::Expiry(expiry));
            }
        }
    }

    /// Everything up to an index is committed.
    pub fn on_chosen(&mut self, commit: u64, logs: &Logs) -> Check {
        let from = self.checked + 1;
        if commit < from {
            return Ok(());
        }
        self.checked = commit;
        let committed: Vec<Proposed> = self
            .proposed
            .range((from, 0)..=(commit, u64::MAX))
            .filter(|((index, term), _)| logs.chosen(*index).is_some_and(|chosen| chosen.term.0 == *term))
            .map(|(_, proposed)| proposed.clone())
            .collect();
        for proposed in committed {
            match proposed {
                Proposed::Members(members) => self.members = Some(members),
                Proposed::Expiry(expiry) => {
                    let belongs = |members: &BTreeSet<_>| members.contains(&expiry.origin);
                    if self.members.as_ref().is_none_or(belongs) {
                        self.expired.insert(expiry.lease, expiry);
                        self.check(expiry.lease)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A client was told that a lease lives for so many seconds; the clocks are of when it asked.
    pub fn on_renewed(&mut self, lease: i64, ttl: i64, readings: &Readings) -> Check {
        let nanos = u64::try_from(ttl).unwrap_or(0) * 1_000_000_000;
        self.renewed.insert(lease, (nanos, *readings));
        self.check(lease)
    }

    fn check(&self, lease: i64) -> Check {
        let (Some(&(ttl, readings)), Some(expiry)) = (self.renewed.get(&lease), self.expired.get(&lease))
        else {
            return Ok(());
        };
        let asked = readings[expiry.origin.0 as usize];
        if expiry.reading >= asked + ttl {
            return Ok(());
        }
        broken("leases do not expire early", || {
            format!(
                "n{} ended lease {lease:x} when its clock read {} ns; renewed for {ttl} ns at {asked} ns",
                expiry.origin, expiry.reading
            )
        })
    }
}
