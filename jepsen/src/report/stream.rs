//! A verdict on a history that is not kept: see [`online`](crate::online).

use std::io::Read;

use super::{ModelName, Report, Settings, unfit};
use crate::etcd::online::Online;
use crate::format::jepsen::{Answer, Ask};
use crate::format::{Format, Recording, read_pieces};
use crate::history::History;
use crate::model::Model;
use crate::models::named::{self, Bound, Unmeaning};
use crate::models::{OwnedLock, Semaphore, named_objects as objects};
use crate::online::Bounds;
use crate::search::Search;
use crate::txn::Lists;
use crate::verdict::Verdict;

/// Judges a history of lines as it is read. An error says why it cannot be read, or not be judged so.
pub fn judge_stream(
    input: impl Read,
    format: Option<Format>,
    settings: &Settings<'_>,
) -> Result<Report, String> {
    let mut judge: Option<Box<dyn Judge + '_>> = None;
    let mut wrong: Option<String> = None;
    let mut name = "";
    let (mut count, mut is_stopped) = (0, false);
    let mut visit = |piece: Recording| {
        is_stopped = settings.limits.stop.is_some_and(|stop| stop());
        if is_stopped {
            return false;
        }
        if judge.is_none() {
            match choose(&piece, settings) {
                Ok((chosen, model)) => (judge, name) = (Some(chosen), model),
                Err(why) => {
                    wrong = Some(why);
                    return false;
                }
            }
        }
        let judge = judge.as_mut().expect("it was just chosen");
        match judge.push(piece, &mut count) {
            Ok(goes_on) => goes_on,
            Err(why) => {
                wrong = Some(why);
                false
            }
        }
    };
    read_pieces(input, format, &mut visit).map_err(|error| error.to_string())?;
    if let Some(why) = wrong {
        return Err(why);
    }
    let verdict = judge.as_mut().map_or(Verdict::Valid, |judge| judge.conclude());
    let evidence = judge.map_or_else(Vec::new, |judge| judge.evidence());
    let verdict = match verdict {
        Verdict::Valid if is_stopped => {
            Verdict::Unknown(format!("stopped after {count} operations, and nothing was wrong up to there"))
        }
        verdict => verdict,
    };
    settings.judged.inspect(|judged| judged());
    Ok(super::finish(name, count, verdict, evidence, None))
}

/// What takes a history piece by piece.
trait Judge {
    /// Takes a piece, counts its operations, and says whether it wants more.
    fn push(&mut self, piece: Recording, count: &mut usize) -> Result<bool, String>;

    /// The verdict.
    fn conclude(&mut self) -> Verdict;

    /// The operations of a violation, one line each.
    fn evidence(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Judge for Online {
    fn push(&mut self, piece: Recording, count: &mut usize) -> Result<bool, String> {
        let Recording::Etcd(records) = piece else { return Err(MIXED.to_owned()) };
        let history = records.history();
        *count += history.operations.operations.len() + history.watches.len();
        history.watches.into_iter().for_each(|stream| self.push_watch(stream));
        history.operations.operations.into_iter().for_each(|operation| Online::push(self, operation));
        Ok(self.verdict().is_none())
    }

    fn conclude(&mut self) -> Verdict {
        Online::conclude(self)
    }
}

impl Judge for Lists {
    fn push(&mut self, piece: Recording, count: &mut usize) -> Result<bool, String> {
        let Recording::Named(history) = piece else { return Err(MIXED.to_owned()) };
        *count += history.operations.len();
        history.operations.into_iter().for_each(|operation| Lists::push(self, operation));
        Ok(self.verdict().is_none())
    }

    fn conclude(&mut self) -> Verdict {
        Lists::conclude(self)
    }
}

/// A model, and how operations by name become its own.
struct Bind<M: Model, B> {
    search: Search<M>,
    bind: B,
    pushed: usize,
}

impl<M, B> Judge for Bind<M, B>
where
    M: Model,
    M::State: Sync,
    B: Fn(&History<Ask, Answer>) -> Result<Bound<M>, Unmeaning>,
{
    fn push(&mut self, piece: Recording, count: &mut usize) -> Result<bool, String> {
        let Recording::Named(history) = piece else { return Err(MIXED.to_owned()) };
        let first = self.pushed;
        let bound = (self.bind)(&history)
            .map_err(|error| Unmeaning { operation: error.operation + first, ..error }.to_string())?;
        self.pushed += history.operations.len();
        *count += bound.history.operations.len();
        for (place, operation) in bound.origin.iter().zip(bound.history.operations) {
            self.search.push(first + place, operation);
        }
        Ok(self.search.verdict().is_none())
    }

    fn conclude(&mut self) -> Verdict {
        self.search.conclude()
    }

    fn evidence(&self) -> Vec<String> {
        let first = match self.search.verdict() {
            Some(Verdict::Invalid(violation)) => violation.operations.first().copied(),
            _ => None,
        };
        let lines = self.search.evidence().map(|(index, operation, words)| {
            super::line_of(&format!("op {index}"), Some(index) == first, operation, &words)
        });
        lines.collect()
    }
}

fn bound<'s, M: Model + 's>(
    bind: impl Fn(&History<Ask, Answer>) -> Result<Bound<M>, Unmeaning> + 's,
) -> Result<Box<dyn Judge + 's>, String>
where
    M::State: Sync,
{
    let none = bind(&History::new()).map_err(|error| error.to_string())?;
    Ok(Box::new(Bind { search: Search::new(none.model, Bounds::default()), bind, pushed: 0 }))
}

/// The judge for a history that begins like this.
fn choose<'s>(
    piece: &Recording,
    settings: &'s Settings<'_>,
) -> Result<(Box<dyn Judge + 's>, &'static str), String> {
    let history: &History<Ask, Answer> = match piece {
        Recording::Etcd(_) if matches!(settings.model, None | Some(ModelName::Etcd)) => {
            let online = Online::new(settings.etcd.clone(), Bounds::default());
            return Ok((Box::new(online), "etcd"));
        }
        Recording::Etcd(_) => {
            return Err("operations of etcd can be judged by the model etcd only".to_owned());
        }
        Recording::Named(history) => history,
        _ => return Err(MIXED.to_owned()),
    };
    let Some(model) = settings.model.or_else(|| ModelName::guess(history)) else {
        return Err(unfit(history));
    };
    let semantics = &settings.semantics;
    let permits = settings.permits;
    let judge = match model {
        ModelName::Register => bound(move |history| named::register(history, semantics)),
        ModelName::KeyValue => bound(named::key_value),
        ModelName::Mutex => bound(named::mutex),
        ModelName::OwnerMutex => bound(|history| objects::owned_lock(history, OwnedLock::default())),
        ModelName::ReentrantMutex => {
            let lock = OwnedLock { depth: permits.unwrap_or(2), fenced: false };
            bound(move |history| objects::owned_lock(history, lock))
        }
        ModelName::FencedLock => {
            let lock = OwnedLock { depth: permits.unwrap_or(1), fenced: true };
            bound(move |history| objects::owned_lock(history, lock))
        }
        ModelName::Semaphore => {
            let semaphore = permits.map_or_else(Semaphore::default, |permits| Semaphore { permits });
            bound(move |history| objects::semaphore(history, semaphore))
        }
        ModelName::FifoQueue => bound(objects::fifo_queue),
        ModelName::Queue => bound(objects::unordered_queue),
        ModelName::LinearizableSet => bound(objects::set),
        ModelName::LinearizableCounter => bound(objects::counter),
        ModelName::ListAppend if settings.transactions.is_none() => {
            Ok(Box::new(Lists::new(Bounds::default())) as Box<dyn Judge>)
        }
        ModelName::ListAppend => {
            Err("as they come, transactions are judged as strictly serializable only: leave out the \
                                      level, or --stream"
                .to_owned())
        }
        other => {
            Err(format!("the model {} judges histories as a whole only: leave out --stream", other.name()))
        }
    };
    Ok((judge?, model.name()))
}

/// A history is of one kind.
const MIXED: &str = "expected a history of one kind, in lines";
