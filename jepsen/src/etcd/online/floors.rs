//! Real time, as it goes on: what had been shown before a call, and by whom.
//!
//! The same rules as in [`realtime`](crate::etcd::realtime), which sees a whole history at once. Here operations come in the
//! order of their calls, so that when one comes, everything that returned before its call has come.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::Violation;
use crate::etcd::order::EtcdOperation;
use crate::etcd::placing::{Role, shows_revision};

/// What had been shown by now.
#[derive(Default)]
pub(super) struct Floors {
    /// Returns that lie ahead.
    returns: BinaryHeap<Reverse<Shown>>,
    /// The greatest revision shown, when, and by whom ([`WATCH`]: a watch).
    floor: (i64, u64, usize),
    /// The same of what each member's answers showed.
    members: BTreeMap<u64, (i64, usize)>,
    /// Up to when.
    now: u64,
    /// Operations that are judged and may still be blamed.
    witnesses: BTreeMap<usize, EtcdOperation>,
}

/// When, which revision, by whom, and at which member.
type Shown = (u64, i64, usize, Option<u64>);

/// No operation: a watch showed it.
const WATCH: usize = usize::MAX;

impl Floors {
    /// The greatest revision shown before now, and since when.
    pub fn floor(&self) -> (i64, u64) {
        (self.floor.0, self.floor.1)
    }

    /// Up to when returns have been counted.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// How many judged operations are kept to be blamed.
    pub fn held(&self) -> usize {
        self.witnesses.len()
    }

    /// Goes on to a time: what returned before it has been shown.
    pub fn advance(&mut self, to: u64) {
        self.now = self.now.max(to);
        while let Some(Reverse((end, revision, index, member))) = self.returns.peek().copied() {
            if end >= self.now {
                break;
            }
            self.returns.pop();
            if revision > self.floor.0 {
                self.floor = (revision, end, index);
            }
            if let Some(member) = member {
                let floor = self.members.entry(member).or_insert((revision, index));
                if floor.0 < revision {
                    *floor = (revision, index);
                }
            }
        }
    }

    /// Adds an operation, called now or later; `find` gives those not yet retired.
    pub fn add<'a>(
        &mut self,
        (index, operation): (usize, &EtcdOperation),
        role: Option<Role>,
        members_never_go_back: bool,
        find: impl Fn(usize) -> Option<&'a EtcdOperation>,
    ) -> Result<(), Violation> {
        self.advance(operation.call);
        let Some(response) = operation.output() else { return Ok(()) };
        if response.revision > 0 && shows_revision(&operation.input) {
            let member = response.member.filter(|_| role.is_some());
            self.returns.push(Reverse((operation.return_time(), response.revision, index, member)));
        }
        let (floor, _, by) = self.floor;
        let in_order = match role {
            // Whoever places it will say that its revision is missing.
            _ if response.revision == 0 => true,
            Some(Role::Maker) => response.revision > floor,
            Some(Role::Observer) => response.revision >= floor,
            Some(Role::Stale) | None => true,
        };
        if !in_order {
            let known = find(by).or_else(|| self.witnesses.get(&by));
            let before = match known {
                Some(earlier) => format!("{earlier} [#{by}] had returned before it was called"),
                None => format!("a watch had shown revision {floor} before it was called"),
            };
            let sentence = format!("{operation} [#{index}] went back in time: {before}");
            let operations = std::iter::once(index).chain(known.map(|_| by)).collect();
            return Err(Violation { rule: "real-time", sentence, operations });
        }
        if let (Some(Role::Stale), Some(member), true) = (role, response.member, members_never_go_back)
            && let Some((floor, by)) = self.members.get(&member).filter(|floor| response.revision < floor.0)
            && let Some(earlier) = find(*by).or_else(|| self.witnesses.get(by))
        {
            debug_assert!(*floor > response.revision, "it was filtered");
            let sentence = format!(
                "member {member:x} went back: it answered {earlier} [#{by}], and after that {operation} [#{index}]"
            );
            return Err(Violation { rule: "member-monotonic", sentence, operations: vec![index, *by] });
        }
        Ok(())
    }

    /// A watch showed a revision at a time that has not passed yet.
    pub fn add_watch(&mut self, at: u64, revision: i64) {
        self.returns.push(Reverse((at, revision, WATCH, None)));
    }

    /// Keeps a judged operation if it may be blamed later.
    pub fn retire(&mut self, index: usize, operation: EtcdOperation) {
        let is_ahead = operation.returned.is_some() && operation.return_time() >= self.now;
        if is_ahead || self.is_witness(index) {
            self.witnesses.insert(index, operation);
        }
    }

    /// Forgets who is not to be blamed any more.
    pub fn forget(&mut self) {
        let mut witnesses = std::mem::take(&mut self.witnesses);
        witnesses.retain(|index, operation| operation.return_time() >= self.now || self.is_witness(*index));
        self.witnesses = witnesses;
    }

    fn is_witness(&self, index: usize) -> bool {
        self.floor.2 == index || self.members.values().any(|(_, by)| *by == index)
    }
}
