//! Leadership is handed over only to a voter, and only when that has every entry that the leader has (thesis §3.10:
//! "the prior leader sends its log until it matches"); and nobody says that a leader wants it to be elected, whereupon
//! even those vote who hear from that leader, unless it was told so.

use std::collections::BTreeMap;

use quorate_raft::{NodeId, Term};

use super::logs::Logs;
use super::{Check, broken};

/// Who was told to stand for election, and in which term last.
#[derive(Debug, Default)]
pub struct HandOver {
    told: BTreeMap<NodeId, Term>,
}

impl HandOver {
    /// A leader tells another member to stand for election.
    pub fn on_campaign_now(&mut self, logs: &Logs, from: NodeId, to: NodeId, term: Term) -> Check {
        let told = self.told.entry(to).or_insert(term);
        *told = (*told).max(term);
        let (leader, next) = (logs.log(from), logs.log(to));
        if !logs.configuration(from, leader.last()).voters.contains(&to) {
            return broken("hand-over", || format!("n{from} hands over to n{to}, which is no voter of its"));
        }
        // Who goes because it was removed leaves it to whoever is best, as every election does.
        let leads =
            leader.leads() == term.0 && logs.configuration(from, leader.last()).voters.contains(&from);
        let last = leader.last();
        let has = next.is_durable(last)
            && next.link(last).map(|link| link.chain) == leader.link(last).map(|link| link.chain);
        if leads && !has && next.snapshot() < last {
            return broken("hand-over", || format!("n{from} hands over to n{to}, which lacks entry {last}"));
        }
        Ok(())
    }

    /// A member asks for a vote; perhaps it says that the leader wants it so.
    pub fn on_vote(&self, from: NodeId, term: Term, transfer: bool) -> Check {
        if !transfer || self.told.get(&from).is_some_and(|told| told.0 + 1 >= term.0) {
            return Ok(());
        }
        broken("hand-over", || format!("n{from} says in term {term} that a leader wants it to be elected"))
    }
}
