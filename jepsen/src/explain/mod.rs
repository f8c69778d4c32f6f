//! Explanations: a verdict that a person can follow.
//!
//! A violation names the few operations that show it ([`Violation::operations`](crate::Violation)). From them
//! and from the history this module makes
//!
//! * sentences: who did what after whom, and why no order explains it (`words`);
//! * a [`Picture`]: every operation as a bar, the longest order that the model permits (`path`), and the point
//!   where it breaks;
//! * a page that shows the picture in any browser, in one file without a network ([`html::page`]).
//!
//! Nothing here decides a verdict. A search that gives up early makes the picture poorer, never wrong: what it
//! shows as an order is one.

mod etcd;
pub mod html;
mod path;
mod picture;
mod sources;
mod words;

use std::collections::BTreeMap;

use crate::history::{History, Operation};
use crate::model::Model;
use crate::verdict::Verdict;

pub(crate) use etcd::picture as picture_of_etcd;
pub use picture::{Band, Bar, Break, Cycle, Edge, Kind, Part, Picture, Step};

/// Draws a history that a model has judged. The operations of the verdict are indices into `history`; `names`
/// says what each operation is called outside. `thorough`: for somebody who will look at it, not only read.
pub(crate) fn picture<M: Model>(
    model: &M,
    history: &History<M::Input, M::Output>,
    names: &[usize],
    verdict: &Verdict,
    thorough: bool,
) -> Picture {
    let mut picture = blank(verdict);
    let members = parts(model, history);
    picture.parts = members.iter().map(|(name, _)| Part { name: name.clone(), ..Part::default() }).collect();
    picture.bars =
        history.operations.iter().zip(names).map(|(operation, id)| bar(model, operation, *id)).collect();
    for (number, (_, indices)) in members.iter().enumerate() {
        indices.iter().for_each(|index| picture.bars[*index].part = number);
    }
    let mut core = mark_core(&mut picture, verdict);
    let broken = core.first().map(|offender| picture.bars[*offender].part);
    for (number, (_, indices)) in members.iter().enumerate() {
        if thorough || broken == Some(number) {
            let visits = if thorough { VISITS_THOROUGH } else { VISITS_QUICK };
            draw_part(&mut picture.parts[number], model, history, indices, visits);
        }
    }
    accuse(&mut picture, &mut core);
    picture.why = words::why(&picture, &core, verdict);
    picture
}

/// What a picture says of a verdict alone.
fn blank(verdict: &Verdict) -> Picture {
    let (name, rule) = match verdict {
        Verdict::Valid => ("valid", None),
        Verdict::Invalid(violation) => ("invalid", Some(violation.rule.to_owned())),
        Verdict::Unknown(_) => ("unknown", None),
    };
    Picture { verdict: name.to_owned(), rule, label: "op ", ..Picture::default() }
}

/// Marks the operations of a violation and returns them, the offender first.
fn mark_core(picture: &mut Picture, verdict: &Verdict) -> Vec<usize> {
    let Verdict::Invalid(violation) = verdict else { return Vec::new() };
    for (place, index) in violation.operations.iter().enumerate().rev() {
        picture.bars[*index].core = if place == 0 { 2 } else { 1 };
    }
    violation.operations.clone()
}

/// Engines name some operation of the core first. People look for the one that shows the fault: the one where
/// every order ends, or else the last read.
fn accuse(picture: &mut Picture, core: &mut [usize]) {
    let Some(first) = core.first().copied() else { return };
    let ends = picture.parts[picture.bars[first].part].stuck.as_ref().filter(|stuck| stuck.exhaustive);
    let end = ends.and_then(|stuck| core.iter().position(|bar| *bar == stuck.bar));
    let is_read = |place: &usize| picture.bars[core[*place]].kind == Kind::Read;
    let last_read = || (0..core.len()).filter(is_read).max_by_key(|place| picture.bars[core[*place]].call);
    let accused = end.or_else(|| if is_read(&0) { Some(0) } else { last_read() }).unwrap_or(0);
    picture.bars[first].core = 1;
    core[..=accused].rotate_right(1);
    picture.bars[core[0]].core = 2;
}

/// The independent parts and what belongs to them; one without a name if there are none.
fn parts<M: Model>(model: &M, history: &History<M::Input, M::Output>) -> Vec<(String, Vec<usize>)> {
    let mut parts: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, operation) in history.operations.iter().enumerate() {
        let Some(key) = model.partition_key(&operation.input) else {
            return vec![(String::new(), (0..history.operations.len()).collect())];
        };
        parts.entry(key).or_default().push(index);
    }
    let mut parts: Vec<_> = parts.into_iter().map(|(key, indices)| (key.to_owned(), indices)).collect();
    if parts.is_empty() {
        parts.push(Default::default());
    }
    parts
}

fn bar<M: Model>(model: &M, operation: &Operation<M::Input, M::Output>, id: usize) -> Bar {
    let (input, output) = (&operation.input, operation.output());
    Bar {
        id,
        process: operation.process,
        call: operation.call,
        end: operation.returned.as_ref().map(|returned| returned.at),
        text: shorten(model.describe(input, output), TEXT_MAX),
        kind: if model.is_read(input, output) { Kind::Read } else { Kind::Write },
        part: 0,
        core: 0,
    }
}

/// Finds how far an order comes.
fn draw_part<M: Model>(
    part: &mut Part,
    model: &M,
    history: &History<M::Input, M::Output>,
    indices: &[usize],
    visits: usize,
) {
    let operations: Vec<_> = indices.iter().map(|index| &history.operations[*index]).collect();
    let path = path::longest(model, &operations, visits);
    let show = |state: &M::State| shorten(model.describe_state(state), TEXT_MAX);
    part.order =
        path.order.iter().map(|(bar, state)| Step { bar: indices[*bar], state: show(state) }).collect();
    part.stuck = path.stuck.map(|stuck| Break {
        bar: indices[stuck.operation],
        states: stuck
            .states
            .iter()
            .map(|(state, last)| (show(state), last.iter().map(|bar| indices[*bar]).collect()))
            .collect(),
        exhaustive: path.exhaustive,
    });
}

/// Cuts a text that is too long for a picture, in the middle: both ends of a list tell something.
fn shorten(text: String, length: usize) -> String {
    if text.len() <= length {
        return text;
    }
    let characters: Vec<char> = text.chars().collect();
    let Some(cut) = characters.len().checked_sub(length) else { return text };
    let keep = (length - 1) / 2;
    let (head, tail) = (&characters[..keep], &characters[keep + cut + 1..]);
    head.iter().chain(&['…']).chain(tail).collect()
}

/// Configurations to visit in each part.
const VISITS_THOROUGH: usize = 30_000;
const VISITS_QUICK: usize = 2_000;
/// Characters of a text in a picture.
const TEXT_MAX: usize = 160;
