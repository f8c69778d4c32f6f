//! Revisions and real time.
//!
//! The *floor* of a moment is the greatest revision that any response had shown strictly before it. Whatever
//! is called at that moment happens at or above its floor. Whether that holds for all is found in one walk
//! through the revisions, backwards; one sweep over calls and returns finds the floors themselves, which are
//! needed only for what cannot be placed, and to say who is to blame.

use std::collections::HashMap;

use super::order::Options;
use super::placing::{Order, Placed, Role, shows_revision};
use super::records::Records;
use crate::Violation;

/// The floors of all operations.
pub(super) struct Revisions {
    /// By operation: the greatest revision shown before its call, and by which operation (`NOBODY` if by a
    /// watch).
    floors: Vec<(i64, u32)>,
}

impl Revisions {
    pub fn new(records: &Records<'_>) -> Revisions {
        let mut returns: Vec<(u64, i64, u32)> = Vec::with_capacity(records.len());
        for (index, record) in records.all().iter().enumerate() {
            let counts = records
                .rare_of(record)
                .is_none_or(|operation| operation.returned.is_some() && shows_revision(&operation.input));
            let revision = records.revision(index);
            if counts && revision > 0 {
                returns.push((record.end, revision, index as u32));
            }
        }
        for response in records.watches().iter().flat_map(|stream| &stream.responses) {
            returns.push((response.at, response.reach(), NOBODY));
        }
        returns.sort();
        let calls = records.all().iter().enumerate().map(|(index, record)| (record.call, index as u32));
        let mut calls: Vec<(u64, u32)> = calls.collect();
        calls.sort();

        let mut floors = vec![(0, NOBODY); records.len()];
        let mut floor = (0, NOBODY);
        let mut returns = returns.into_iter().peekable();
        for (call, index) in calls {
            while let Some((_, revision, by)) = returns.next_if(|(at, _, _)| *at < call) {
                if revision > floor.0 {
                    floor = (revision, by);
                }
            }
            floors[index as usize] = floor;
        }
        Revisions { floors }
    }

    /// The greatest revision shown before an operation's call, and by which operation.
    pub fn floor_and_by(&self, operation: usize) -> (i64, u32) {
        self.floors[operation]
    }

    /// The greatest revision shown before an operation's call.
    pub fn floor(&self, operation: usize) -> i64 {
        self.floors[operation].0
    }
}

/// Nobody goes back behind what was shown before it was called.
pub(super) fn check(records: &Records<'_>, order: &Order, options: &Options) -> Result<(), Violation> {
    if !is_in_order(records, order) {
        let revisions = Revisions::new(records);
        for placed in &order.placed {
            let index = placed.operation as usize;
            let (floor, by) = revisions.floors[index];
            let in_order = match placed.role {
                Role::Maker => placed.revision > floor,
                Role::Observer => placed.revision >= floor,
                Role::Stale => true,
            };
            if !in_order {
                return Err(back_in_time(records, index, floor, by));
            }
        }
        unreachable!("the two ways to compare with real time agree");
    }
    if options.members_never_go_back && order.has_stale {
        check_members(records, &order.placed)
    } else {
        Ok(())
    }
}

/// Goes through the revisions backwards: whoever was called after a greater one had been shown is too late,
/// and a maker also if its own had been.
fn is_in_order(records: &Records<'_>, order: &Order) -> bool {
    let times = |placed: &Placed| &records.all()[placed.operation as usize];
    let mut shown = order.shown.iter().rev().peekable();
    let mut least = u64::MAX;
    let mut end = order.placed.len();
    while let Some(last) = order.placed[..end].last() {
        let revision = last.revision;
        while let Some((_, at)) = shown.next_if(|(shown, _)| *shown > revision) {
            least = least.min(*at);
        }
        let mut start = end;
        let mut least_here = least;
        while start > 0 && order.placed[start - 1].revision == revision {
            start -= 1;
            let placed = &order.placed[start];
            if placed.role == Role::Observer && least < times(placed).call {
                return false;
            }
            least_here = least_here.min(times(placed).end);
        }
        while let Some((_, at)) = shown.next_if(|(shown, _)| *shown == revision) {
            least_here = least_here.min(*at);
        }
        let first = &order.placed[start];
        if first.role == Role::Maker && least_here < times(first).call {
            return false;
        }
        (least, end) = (least_here, start);
    }
    true
}

fn back_in_time(records: &Records<'_>, index: usize, floor: i64, by: u32) -> Violation {
    let operation = records.operation(index);
    let before = match by {
        0..NOBODY => format!("{} [#{by}] had returned before it was called", records.operation(by as usize)),
        NOBODY => format!("a watch had shown revision {floor} before it was called"),
    };
    let mut shown = vec![index];
    shown.extend((by != NOBODY).then_some(by as usize));
    let sentence = format!("{operation} [#{index}] went back in time: {before}");
    Violation { rule: "real-time", sentence, operations: shown }
}

/// The states that one member answers from its own never go back.
fn check_members(records: &Records<'_>, placed: &[Placed]) -> Result<(), Violation> {
    let mut by_member: HashMap<u64, Vec<&Placed>> = HashMap::new();
    for placed in placed {
        if let Some(member) = records.member(placed.operation as usize) {
            by_member.entry(member).or_default().push(placed);
        }
    }
    let mut members: Vec<_> = by_member.into_iter().collect();
    members.sort_unstable_by_key(|(member, _)| *member);
    for (member, mut placed) in members {
        if placed.iter().all(|placed| placed.role != Role::Stale) {
            continue;
        }
        let mut returns = placed.clone();
        returns.sort_by_key(|placed| records.all()[placed.operation as usize].end);
        placed.sort_by_key(|placed| records.all()[placed.operation as usize].call);
        let mut floor: Option<&Placed> = None;
        let mut returns = returns.into_iter().peekable();
        for read in placed {
            let is_before =
                |earlier: &&Placed| records.precedes(earlier.operation as usize, read.operation as usize);
            while let Some(earlier) = returns.next_if(is_before) {
                if floor.is_none_or(|floor| floor.revision < earlier.revision) {
                    floor = Some(earlier);
                }
            }
            let Some(floor) =
                floor.filter(|floor| read.role == Role::Stale && read.revision < floor.revision)
            else {
                continue;
            };
            let earlier = records.operation(floor.operation as usize);
            let operation = records.operation(read.operation as usize);
            let sentence = format!(
                "member {member:x} went back: it answered {earlier} [#{}], and after that {operation} [#{}]",
                floor.operation, read.operation
            );
            let operations = vec![read.operation as usize, floor.operation as usize];
            return Err(Violation { rule: "member-monotonic", sentence, operations });
        }
    }
    Ok(())
}

/// Stands for an operation where there is none.
pub(super) const NOBODY: u32 = u32::MAX;
