//! Which commands have taken effect: what makes sending one twice harmless.
//!
//! # At most once
//!
//! A command is named by its origin (the member that took the request) and its id there. The table of
//! sessions is part of the replicated state: every member updates it while it applies the log, and it
//! travels in snapshots. Per origin it holds the latest boot, the highest sequence applied, and one bit
//! for each sequence in a window below it. `apply` first asks [`Sessions::admit`], which says no to
//!
//! * a sequence whose bit is set: the command has taken effect already;
//! * a sequence below the window: it may have;
//! * an earlier boot: whoever waited for it is gone.
//!
//! Whether an entry is skipped depends on the entries before it in the log and on nothing else, so all
//! members skip the same ones. Therefore **no command takes effect twice**, whoever proposes it how
//! often and through whichever leader.
//!
//! The other half is that **no live command is skipped for good**. It could be only by the second rule
//! (its bit is set only by itself, and a live command has the latest boot there is). The origin gives
//! out ids in ascending order and refuses a request whose id lies a whole window or more above that of
//! its oldest unanswered one (`pending.rs`). So whatever the origin has ever proposed lies less than a
//! window above each id that it still waits for, hence so does the highest one applied, hence that id is
//! inside the window. A command that is no longer waited for (timed out, cancelled) may be skipped:
//! its client was told that the outcome is unknown.
//!
//! So an origin may send an unanswered command again whenever it likes: when the leader changes, and
//! after a silence, because messages get lost.
//!
//! Nothing is admitted from who is no member: an id that was removed never comes back, so its session can be
//! dropped at once, and the table is as small as the cluster.
//!
//! A change of the membership takes effect even if it is not admitted. It is in force in Raft since it was
//! appended, and its leader has seen to it that it is in the log once (`membership.rs`).
//!
//! The commands that a replica makes up itself (to revoke a lease, to raise an alarm) have a session of
//! their own, because their sequences come from another counter ([`RequestId::OWN_FROM`]).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use quorate_raft::NodeId;
use quorate_store::ImportError;
use serde::{Deserialize, Serialize};

use crate::io::RequestId;
use crate::limits::SESSION_WORDS;

/// What is known of the commands of one origin; `own` tells those of its clients from its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The member.
    origin: NodeId,
    /// Whether these are the commands that the member made up itself.
    own: bool,
    /// The latest boot from which a command was applied.
    boot: u64,
    /// The word (of 64 sequences) that `words[0]` stands for; everything below it is too old.
    first_word: u64,
    /// One bit per sequence, set when it was applied. At most [`SESSION_WORDS`] words.
    words: VecDeque<u64>,
}

impl Session {
    fn new(origin: NodeId, own: bool) -> Session {
        Session { origin, own, boot: 0, first_word: 0, words: VecDeque::new() }
    }

    /// Whether a command may still take effect.
    fn is_new(&self, id: RequestId) -> bool {
        if id.boot != self.boot {
            return id.boot > self.boot;
        }
        let (word, bit) = place(id);
        let Some(offset) = word.checked_sub(self.first_word) else { return false };
        match usize::try_from(offset).ok().and_then(|offset| self.words.get(offset)) {
            Some(bits) => bits & bit == 0,
            None => true,
        }
    }

    /// Notes that a new command takes effect, and moves the window up to it.
    fn set(&mut self, id: RequestId) {
        debug_assert!(self.is_new(id), "only a new command is noted");
        let (word, bit) = place(id);
        if id.boot > self.boot {
            self.boot = id.boot;
            self.words.clear();
            self.first_word = (word + 1).saturating_sub(SESSION_WORDS as u64);
        }
        let mut next = self.first_word + self.words.len() as u64;
        if word >= next + SESSION_WORDS as u64 {
            // So far ahead that nothing of the present window stays.
            self.words.clear();
            self.first_word = word + 1 - SESSION_WORDS as u64;
            next = self.first_word;
        }
        for _ in next..=word {
            if self.words.len() == SESSION_WORDS {
                self.words.pop_front();
                self.first_word += 1;
            }
            self.words.push_back(0);
        }
        self.words[(word - self.first_word) as usize] |= bit;
        assert!(self.words.len() <= SESSION_WORDS, "the window is bounded");
    }
}

/// The word in which a sequence has its bit, and the bit.
fn place(id: RequestId) -> (u64, u64) {
    let sequence = id.sequence & !RequestId::OWN_FROM;
    (sequence / 64, 1 << (sequence % 64))
}

/// The sessions of all origins, two per member.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sessions {
    table: BTreeMap<(NodeId, bool), Session>,
}

impl Sessions {
    /// Whether a command that is being applied shall take effect; if so, it never will again.
    pub(crate) fn admit(&mut self, origin: NodeId, id: RequestId) -> bool {
        let key = (origin, id.is_own());
        let session = self.table.entry(key).or_insert_with(|| Session::new(key.0, key.1));
        let new = session.is_new(id);
        if new {
            session.set(id);
        }
        new
    }

    /// Whether a command has taken effect already (or never will), so that proposing it is pointless.
    pub(crate) fn seen(&self, origin: NodeId, id: RequestId) -> bool {
        self.table.get(&(origin, id.is_own())).is_some_and(|session| !session.is_new(id))
    }

    /// The latest boot of an origin of which anything has taken effect.
    pub(crate) fn boot(&self, origin: NodeId) -> u64 {
        let boots = [false, true].into_iter().filter_map(|own| self.table.get(&(origin, own)));
        boots.map(|session| session.boot).max().unwrap_or(0)
    }

    /// Forgets the sessions of origins from which nothing more is admitted.
    pub(crate) fn retain(&mut self, keep: impl Fn(NodeId) -> bool) {
        self.table.retain(|(origin, _), _| keep(*origin));
    }

    /// The table as it goes into a snapshot.
    pub(crate) fn export(&self) -> Vec<Session> {
        self.table.values().cloned().collect()
    }

    /// The table that a snapshot holds.
    pub(crate) fn import(sessions: Vec<Session>) -> Result<Sessions, ImportError> {
        let mut table = BTreeMap::new();
        for session in sessions {
            // The last word's sequences must be representable, below the mark of a replica's own.
            let end = session.first_word.checked_add(session.words.len() as u64);
            if session.words.len() > SESSION_WORDS || end.is_none_or(|end| end > RequestId::OWN_FROM / 64) {
                return Err(ImportError("a session's window is too long"));
            }
            if table.insert((session.origin, session.own), session).is_some() {
                return Err(ImportError("two sessions of one origin"));
            }
        }
        Ok(Sessions { table })
    }

    /// A checksum (FNV-1a over words) of the table, for comparing members.
    pub(crate) fn hash(&self) -> u64 {
        let mut hash = Fnv::default();
        for session in self.table.values() {
            let head = [session.origin.0, u64::from(session.own), session.boot, session.first_word];
            head.iter().chain(&session.words).for_each(|word| hash.word(*word));
        }
        hash.0
    }
}

struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::limits::SESSION_WINDOW;

    const ORIGIN: NodeId = NodeId(1);

    fn id(boot: u64, sequence: u64) -> RequestId {
        RequestId { boot, sequence }
    }

    proptest! {
        /// The table against a set of everything ever admitted.
        #[test]
        fn admits_every_command_once(
            steps in prop::collection::vec((1..3u64, prop_oneof![1..200u64, 1..4 * SESSION_WINDOW]), 1..200)
        ) {
            let mut sessions = Sessions::default();
            let mut admitted: BTreeSet<RequestId> = BTreeSet::new();
            for (boot, sequence) in steps {
                let id = id(boot, sequence);
                let latest = admitted.last().copied().unwrap_or_default();
                let new = sessions.admit(ORIGIN, id);
                prop_assert!(!(new && admitted.contains(&id)), "twice");
                if id.boot == latest.boot && id.sequence + SESSION_WINDOW > latest.sequence {
                    prop_assert_eq!(new, !admitted.contains(&id), "within the window, it is exact");
                }
                prop_assert!(new || id <= latest, "whatever is above all others is new");
                if new {
                    admitted.insert(id);
                }
                prop_assert!(sessions.seen(ORIGIN, id));
            }
            let copy = Sessions::import(sessions.export()).expect("what was exported can be imported");
            prop_assert_eq!(copy.hash(), sessions.hash());
        }
    }

    #[test]
    fn a_replicas_own_commands_have_their_own_session() {
        let mut sessions = Sessions::default();
        assert!(sessions.admit(ORIGIN, id(1, 7)));
        assert!(sessions.admit(ORIGIN, RequestId::own(1, 7)));
        assert!(!sessions.admit(ORIGIN, RequestId::own(1, 7)));
        assert!(!sessions.seen(NodeId(2), id(1, 7)));
    }

    #[test]
    fn refuses_damaged_tables() {
        let session = Session::new(ORIGIN, false);
        assert!(Sessions::import(vec![session.clone(), session.clone()]).is_err());
        let far = Session { first_word: u64::MAX, words: VecDeque::from([1]), ..session.clone() };
        assert!(Sessions::import(vec![far]).is_err());
        let long = Session { words: vec![0; SESSION_WORDS + 1].into(), ..session };
        assert!(Sessions::import(vec![long]).is_err());
    }
}
