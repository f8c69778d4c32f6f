//! Lines of operations, read without a detour: a plain operation of etcd goes from the bytes of the file into its
//! record. Any line that is not as usual is given up on, and read in full by [`lines`](super::lines), which is
//! also who finds words for what is wrong with it. So whatever is accepted here must mean the same there.

use super::jepsen::{Answer, Ask, Event, EventKind};
use super::scan::{Once, Scanner};
use crate::etcd::{Does, Guard, Plain, Shown};
use crate::history::{Operation, Returned};
use crate::value::Value;

/// Reads the line that begins at a byte of a text, if it is a plain operation. Gives where the next one begins.
pub(super) fn plain(text: &str, at: usize) -> Option<(Plain<'_>, usize)> {
    let mut scanner = Scanner::new(text, at);
    let (mut process, mut call, mut returned) = (0, 0, None);
    let (mut asked, mut response) = (None, None);
    let mut once = Once::default();
    scanner.object(|scanner, name| {
        match name {
            b"process" => {
                once.mark(0)?;
                process = scanner.unsigned()?;
            }
            b"call" => {
                once.mark(1)?;
                call = scanner.unsigned()?;
            }
            b"return" => {
                once.mark(2)?;
                returned = Some(scanner.unsigned()?);
            }
            b"request" => {
                once.mark(3)?;
                asked = Some(asking(scanner, false)?);
            }
            b"response" => {
                once.mark(4)?;
                response = Some(Response::read(scanner)?);
            }
            _ => return None,
        }
        Some(())
    })?;
    scanner.end_of_line()?;
    let (end, Response { revision, member, answered }) = (returned?, response?);
    let (key, does) = together(asked?, answered)?;
    (call <= end).then_some((Plain { process, call, end, revision, member, key, does }, scanner.at))
}

/// What is asked, as far as it can be plain.
#[derive(Clone, Copy)]
enum Asked<'t> {
    Get(&'t [u8]),
    Put(&'t [u8], &'t [u8]),
    Delete(&'t [u8]),
    Guarded { key: &'t [u8], expected: i64, value: &'t [u8], or_get: bool },
}

/// What is answered, as far as it can be plain.
#[derive(Clone, Copy)]
enum Answered<'t> {
    Range(Option<(&'t [u8], Shown<'t>)>),
    Put,
    Delete(bool),
    Txn(bool, Option<Part<'t>>),
}

/// The answer to the one request of a txn.
#[derive(Clone, Copy)]
enum Part<'t> {
    Range(Option<(&'t [u8], Shown<'t>)>),
    Put,
}

/// Brings question and answer together, if they fit.
fn together<'t>(asked: Asked<'t>, answered: Answered<'t>) -> Option<(&'t [u8], Does<'t>)> {
    Some(match (asked, answered) {
        (Asked::Get(key), Answered::Range(shown)) => (key, Does::Get(of_key(key, shown)?)),
        (Asked::Put(key, value), Answered::Put) => (key, Does::Put(value)),
        (Asked::Delete(key), Answered::Delete(deleted)) => (key, Does::Delete(deleted)),
        (Asked::Guarded { key, expected, value, or_get }, Answered::Txn(succeeded, part)) => {
            let guard = match (succeeded, part) {
                (true, Some(Part::Put)) => Guard::Held,
                (false, None) if !or_get => Guard::Failed(None),
                (false, Some(Part::Range(shown))) if or_get => Guard::Failed(of_key(key, shown)?),
                _ => return None,
            };
            (key, Does::Guarded { expected, value, or_get, guard })
        }
        _ => return None,
    })
}

/// What is shown, if it is of this key.
fn of_key<'t>(key: &[u8], shown: Option<(&'t [u8], Shown<'t>)>) -> Option<Option<Shown<'t>>> {
    match shown {
        None => Some(None),
        Some((of, shown)) => (of == key).then_some(Some(shown)),
    }
}

/// A request; within a txn none that is a txn itself.
fn asking<'t>(scanner: &mut Scanner<'t>, in_txn: bool) -> Option<Asked<'t>> {
    let mut asked = None;
    scanner.object(|scanner, name| {
        let one = match name {
            b"range" => Asked::Get(key_only(scanner)?),
            b"put" => put(scanner)?,
            b"delete" => Asked::Delete(key_only(scanner)?),
            b"txn" if !in_txn => txn(scanner)?,
            _ => return None,
        };
        asked.replace(one).is_none().then_some(())
    })?;
    asked
}

/// An object with nothing but a key.
fn key_only<'t>(scanner: &mut Scanner<'t>) -> Option<&'t [u8]> {
    let mut key = None;
    scanner.object(|scanner, name| match name {
        b"key" => key.replace(scanner.string()?).is_none().then_some(()),
        _ => None,
    })?;
    key
}

fn put<'t>(scanner: &mut Scanner<'t>) -> Option<Asked<'t>> {
    let (mut key, mut value) = (None, None);
    scanner.object(|scanner, name| match name {
        b"key" => key.replace(scanner.string()?).is_none().then_some(()),
        b"value" => value.replace(scanner.string()?).is_none().then_some(()),
        _ => None,
    })?;
    Some(Asked::Put(key?, value?))
}

fn txn<'t>(scanner: &mut Scanner<'t>) -> Option<Asked<'t>> {
    let (mut compared, mut success, mut failure) = (None, None, None);
    let mut once = Once::default();
    scanner.object(|scanner, name| match name {
        b"compares" => {
            once.mark(0)?;
            scanner.array(|scanner| compared.replace(compare(scanner)?).is_none().then_some(()))
        }
        b"success" => {
            once.mark(1)?;
            scanner.array(|scanner| success.replace(asking(scanner, true)?).is_none().then_some(()))
        }
        b"failure" => {
            once.mark(2)?;
            scanner.array(|scanner| failure.replace(asking(scanner, true)?).is_none().then_some(()))
        }
        _ => None,
    })?;
    let ((guarded, expected), Some(Asked::Put(key, value))) = (compared?, success) else { return None };
    let or_get = match failure {
        None => false,
        Some(Asked::Get(read)) if read == key => true,
        Some(_) => return None,
    };
    (guarded == key).then_some(Asked::Guarded { key, expected, value, or_get })
}

/// The key and the mod revision that it must have.
fn compare<'t>(scanner: &mut Scanner<'t>) -> Option<(&'t [u8], i64)> {
    let (mut key, mut is_equal, mut expected) = (None, None, None);
    let mut once = Once::default();
    scanner.object(|scanner, name| match name {
        b"key" => key.replace(scanner.string()?).is_none().then_some(()),
        b"result" => is_equal.replace(scanner.string()? == b"equal").is_none().then_some(()),
        b"target" => {
            once.mark(0)?;
            scanner.object(|scanner, name| match name {
                b"mod" => expected.replace(scanner.signed()?).is_none().then_some(()),
                _ => None,
            })
        }
        _ => None,
    })?;
    is_equal?.then_some((key?, expected?))
}

struct Response<'t> {
    revision: i64,
    member: Option<u64>,
    answered: Answered<'t>,
}

impl<'t> Response<'t> {
    fn read(scanner: &mut Scanner<'t>) -> Option<Response<'t>> {
        let (mut revision, mut member, mut answered) = (None, None, None);
        let mut once = Once::default();
        scanner.object(|scanner, name| match name {
            b"revision" => revision.replace(scanner.signed()?).is_none().then_some(()),
            b"member" => member.replace(scanner.unsigned()?).is_none().then_some(()),
            b"result" => {
                once.mark(0)?;
                scanner.object(|scanner, name| match name {
                    b"Ok" => answered.replace(answer(scanner, false)?).is_none().then_some(()),
                    _ => None,
                })
            }
            _ => None,
        })?;
        Some(Response { revision: revision?, member, answered: answered? })
    }
}

fn answer<'t>(scanner: &mut Scanner<'t>, in_txn: bool) -> Option<Answered<'t>> {
    let mut answered = None;
    scanner.object(|scanner, name| {
        let one = match name {
            b"range" => Answered::Range(found(scanner)?),
            b"put" => replaced(scanner).map(|()| Answered::Put)?,
            b"delete" => Answered::Delete(deleted(scanner)?),
            b"txn" if !in_txn => done(scanner)?,
            _ => return None,
        };
        answered.replace(one).is_none().then_some(())
    })?;
    answered
}

/// The one version, or none, that a range found.
fn found<'t>(scanner: &mut Scanner<'t>) -> Option<Option<(&'t [u8], Shown<'t>)>> {
    let (mut shown, mut count) = (None, 0);
    let mut once = Once::default();
    scanner.object(|scanner, name| match name {
        b"kvs" => {
            once.mark(0)?;
            scanner.array(|scanner| shown.replace(version(scanner)?).is_none().then_some(()))
        }
        b"more" => {
            once.mark(1)?;
            (!scanner.boolean()?).then_some(())
        }
        b"count" => {
            once.mark(2)?;
            count = scanner.unsigned()?;
            Some(())
        }
        _ => None,
    })?;
    (count == u64::from(shown.is_some())).then_some(shown)
}

fn version<'t>(scanner: &mut Scanner<'t>) -> Option<(&'t [u8], Shown<'t>)> {
    let (mut key, mut value) = (None, None);
    let (mut created, mut modified, mut version) = (None, None, None);
    scanner.object(|scanner, name| match name {
        b"key" => key.replace(scanner.string()?).is_none().then_some(()),
        b"value" => value.replace(scanner.string()?).is_none().then_some(()),
        b"create_revision" => created.replace(scanner.signed()?).is_none().then_some(()),
        b"mod_revision" => modified.replace(scanner.signed()?).is_none().then_some(()),
        b"version" => version.replace(scanner.signed()?).is_none().then_some(()),
        _ => None,
    })?;
    let shown = Shown { value: value?, created: created?, modified: modified?, version: version? };
    Some((key?, shown))
}

/// That a put showed no version before it.
fn replaced(scanner: &mut Scanner<'_>) -> Option<()> {
    let mut once = Once::default();
    scanner.object(|scanner, name| match name {
        b"previous" => {
            once.mark(0)?;
            scanner.null()
        }
        _ => None,
    })
}

/// Whether a deletion found its key, if it showed nothing.
fn deleted(scanner: &mut Scanner<'_>) -> Option<bool> {
    let mut deleted = None;
    let mut once = Once::default();
    scanner.object(|scanner, name| match name {
        b"deleted" => deleted.replace(scanner.unsigned()?).is_none().then_some(()),
        b"previous" => {
            once.mark(0)?;
            scanner.array(|_| None)
        }
        _ => None,
    })?;
    match deleted.unwrap_or(0) {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn done<'t>(scanner: &mut Scanner<'t>) -> Option<Answered<'t>> {
    let (mut succeeded, mut part) = (None, None);
    let mut once = Once::default();
    scanner.object(|scanner, name| match name {
        b"succeeded" => succeeded.replace(scanner.boolean()?).is_none().then_some(()),
        b"replies" => {
            once.mark(0)?;
            scanner.array(|scanner| {
                let one = match answer(scanner, true)? {
                    Answered::Range(shown) => Part::Range(shown),
                    Answered::Put => Part::Put,
                    _ => return None,
                };
                part.replace(one).is_none().then_some(())
            })
        }
        _ => None,
    })?;
    Some(Answered::Txn(succeeded?, part))
}

/// Reads the line that begins at a byte of a text, if it is an operation by name as usual. Gives where the next
/// one begins.
pub(super) fn named(text: &str, at: usize) -> Option<(Operation<Ask, Answer>, usize)> {
    let mut scanner = Scanner::new(text, at);
    let (mut process, mut call, mut returned) = (None, None, None);
    let (mut f, mut key, mut asked, mut found, mut failed) = (None, None, None, None, None);
    scanner.object(|scanner, name| match name {
        b"process" => process.replace(scanner.unsigned()?).is_none().then_some(()),
        b"call" => call.replace(scanner.unsigned()?).is_none().then_some(()),
        b"return" => returned.replace(scanner.unsigned()?).is_none().then_some(()),
        b"f" => f.replace(scanner.text()?).is_none().then_some(()),
        b"key" => key.replace(scanner.text()?).is_none().then_some(()),
        b"value" => asked.replace(value(scanner, DEPTH_MAX)?).is_none().then_some(()),
        b"output" => found.replace(value(scanner, DEPTH_MAX)?).is_none().then_some(()),
        b"failed" => failed.replace(scanner.boolean()?).is_none().then_some(()),
        _ => None,
    })?;
    scanner.end_of_line()?;
    let call = call?;
    if returned.is_some_and(|returned| returned < call) {
        return None;
    }
    let output = Answer { ok: !failed.unwrap_or(false), value: found.unwrap_or_default() };
    let input = Ask { f: f?.to_owned(), key: key.map(str::to_owned), value: asked.unwrap_or_default() };
    let returned = returned.map(|at| Returned { at, output });
    Some((Operation { process: process?, call, input, returned }, scanner.at))
}

/// Reads the line that begins at a byte of a text, if it is one of Jepsen's events as usual. Gives where the next
/// one begins.
pub(super) fn event(text: &str, at: usize, line: usize) -> Option<(Event<'_>, usize)> {
    let mut scanner = Scanner::new(text, at);
    let (mut kind, mut process, mut f, mut key, mut about) = (None, None, None, None, None);
    let mut once = Once::default();
    scanner.object(|scanner, name| match name {
        b"type" => {
            let is_kind = match scanner.string()? {
                b"invoke" => EventKind::Invoke,
                b"ok" => EventKind::Ok,
                b"fail" => EventKind::Fail,
                b"info" => EventKind::Info,
                _ => return None,
            };
            kind.replace(is_kind).is_none().then_some(())
        }
        b"process" => process.replace(scanner.signed()?).is_none().then_some(()),
        b"f" => f.replace(scanner.text()?).is_none().then_some(()),
        b"key" => key.replace(value(scanner, DEPTH_MAX)?).is_none().then_some(()),
        b"value" => about.replace(value(scanner, DEPTH_MAX)?).is_none().then_some(()),
        b"time" => {
            once.mark(0)?;
            scanner.signed().map(|_| ())
        }
        b"index" => {
            once.mark(1)?;
            scanner.signed().map(|_| ())
        }
        _ => None,
    })?;
    scanner.end_of_line()?;
    let (f, value) = (f.unwrap_or_default().into(), about.unwrap_or_default());
    Some((Event { process, kind: kind?, f, key, value, line }, scanner.at))
}

/// Reads a value that holds no objects and is nested at most so deep.
fn value(scanner: &mut Scanner<'_>, depth: usize) -> Option<Value> {
    match scanner.next() {
        b'n' => scanner.null().map(|()| Value::Nil),
        b't' | b'f' => scanner.boolean().map(Value::Bool),
        b'"' => scanner.text().map(Value::text),
        b'[' => {
            let depth = depth.checked_sub(1)?;
            let mut values = Vec::new();
            scanner.array(|scanner| {
                values.push(value(scanner, depth)?);
                Some(())
            })?;
            Some(Value::List(values))
        }
        _ => scanner.signed().map(Value::Int),
    }
}

/// Deeper values are left to others.
const DEPTH_MAX: usize = 16;
