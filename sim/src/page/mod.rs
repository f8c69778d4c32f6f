//! A run as one page for a browser: `--report FILE`.
//!
//! The page holds everything it needs: the run as data, and the few hundred lines that draw it. A lane for
//! each member, its roles and terms as bands, messages as arrows (lost ones broken), faults as shading, the
//! clients' operations and the watchers' streams beneath, those that cannot be explained marked; and at the cursor
//! where every log stands. What can be seen is in `draw.js`, what can be done in `page.js`; this file only writes the
//! run down for them.
//!
//! A run of ten thousand events should stay a small file. So times are differences, texts stand in a table once and
//! are named by their place, and a member's status is left out while it is as before.

mod recording;
mod rules;

pub use recording::draw_recording;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::nemesis::{Fault, FaultLine};
use crate::report::Finished;
use crate::scenario;
use crate::time::Time;
use crate::trace::{Arrow, Event, Line, StatusLine};

/// Draws a run that was recorded completely ([`crate::core::Watch::record`]).
#[must_use]
pub fn draw(finished: &Finished) -> String {
    let title = format!("Quorate simulation, seed {}", finished.options.seed);
    fill(&title, &data(finished, &title))
}

/// The page with this data.
fn fill(title: &str, data: &str) -> String {
    include_str!("page.html")
        .replace("/*TITLE*/", title)
        .replace("/*STYLE*/", include_str!("page.css"))
        .replace("/*DRAW*/", include_str!("draw.js"))
        .replace("/*SCRIPT*/", include_str!("page.js"))
        .replace("/*DATA*/", data)
}

/// Texts that are said once.
#[derive(Default)]
struct Texts {
    places: BTreeMap<String, usize>,
    said: Vec<String>,
}

impl Texts {
    /// The place of a text in the table.
    fn place(&mut self, text: &str) -> usize {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = self.said.len();
        self.said.push(text.to_owned());
        self.places.insert(text.to_owned(), place);
        place
    }
}

/// The run as the script reads it.
fn data(finished: &Finished, title: &str) -> String {
    let (rule, why) = match &finished.violation {
        Some(violation) => (violation.invariant, violation.detail.as_str()),
        None => ("", "every property holds"),
    };
    let end = finished.trace.last().last().map_or(Time::ZERO, |line| line.time);
    let members = members(finished);
    let names: Vec<String> = members.iter().map(ToString::to_string).collect();
    let texts = &mut Texts::default();
    let mut out = String::from("{");
    let _ = write!(out, "title:{},rule:{},why:{},", text(title), text(rule), text(&short(why)));
    let _ = write!(out, "meaning:{},", text(rules::meaning(rule)));
    let _ = write!(out, "failed:{},end:{},", finished.violation.is_some(), micros(end.0));
    let about = format!("{}\n{}", crate::command::banner(&finished.options), finished.summary);
    let _ = write!(out, "options:{},members:[{}],", text(&about), names.join(","));
    list(&mut out, "lines", &lines(finished, texts));
    list(&mut out, "arrows", &arrows(finished, texts));
    list(&mut out, "faults", &faults(finished, end, &members));
    list(&mut out, "ops", &operations(finished));
    let said: Vec<String> = texts.said.iter().map(|said| text(said)).collect();
    list(&mut out, "texts", &said);
    out.push('}');
    out
}

fn list(out: &mut String, name: &str, items: &[String]) {
    let _ = write!(out, "{name}:[{}],", items.join(",\n"));
}

/// Everybody who was ever part of the cluster.
fn members(finished: &Finished) -> BTreeSet<u64> {
    let founders = finished.options.member_ids().into_iter().map(|id| id.0);
    let seen = finished.trace.last().filter_map(|line| line.status).map(|status| status.node);
    founders.chain(seen).filter(|node| *node > 0).collect()
}

/// The events: time since the last one, kind, member, text, status if it has changed. Watchers' events name the
/// watcher in place of the member.
fn lines(finished: &Finished, texts: &mut Texts) -> Vec<String> {
    let clients = finished.options.load.clients.max(1);
    let mut last = Time::ZERO;
    let mut stood: BTreeMap<u64, StatusLine> = BTreeMap::new();
    let mut lines = Vec::new();
    for line in finished.trace.last() {
        let (kind, node) = kind(line);
        let passed = micros(line.time.0 - std::mem::replace(&mut last, line.time).0);
        let place = texts.place(&said(line, clients));
        let mut item = format!("[{passed},{kind},{node},{place}");
        if let Event::Crash(node) = line.event {
            stood.remove(&node.0);
        } else if let Some(now) = line.status
            && stood.insert(now.node, now) != Some(now)
        {
            let _ = write!(item, ",{}", status(&now));
        }
        lines.push(item + "]");
    }
    lines
}

/// An event in words. Whoever asks is called by the name of its row, not by that of its process, which changes.
fn said(line: &Line, clients: u64) -> String {
    match line.event {
        Event::Request { process, node, what } => format!("{} asks n{node}: {what}", who(process, clients)),
        Event::Answer { process, outcome, revision } => {
            format!("{}: {outcome} revision={revision}", who(process, clients))
        }
        event => event.to_string(),
    }
}

/// Who asks as this process.
fn who(process: u64, clients: u64) -> String {
    match process {
        WATCHERS_BEGIN..PROBES_BEGIN => format!("watcher {}", process - WATCHERS_BEGIN),
        PROBES_BEGIN.. => AT_THE_END.to_owned(),
        process => format!("client {}", process % clients),
    }
}

/// A kind of event by its place in the script's list of kinds, and the member that it is about.
fn kind(line: &Line) -> (u8, u64) {
    match line.event {
        Event::Deliver { to, .. } => (0, to.0),
        Event::Wake(node) => (1, node.0),
        Event::Durable { node, .. } | Event::SnapshotSaved { node, .. } => (2, node.0),
        Event::Request { node, .. } => (3, node.0),
        Event::Answer { .. } => (4, 0),
        Event::Watch { watch, .. } => (5, watch),
        Event::Fault(FaultLine { node, .. }) => (6, node.map_or(0, |node| node.0)),
        Event::Start { node, .. } => (7, node.0),
        Event::Crash(node) => (8, node.0),
        Event::Phase(_) => (9, 0),
    }
}

fn status(status: &StatusLine) -> String {
    let StatusLine { term, role, leader, last, persisted, commit, applied, revision, last_term, .. } = status;
    format!("[{term},{},{leader},{last},{persisted},{commit},{applied},{revision},{last_term}]", *role as u8)
}

/// The messages in the order of their sending: time since the last one, how long it took (less than zero if it was
/// lost on its way), from, to, whether it was received, kind, and its numbers.
fn arrows(finished: &Finished, texts: &mut Texts) -> Vec<String> {
    let mut arrows: Vec<&Arrow> = finished.trace.arrows().iter().collect();
    arrows.sort_by_key(|arrow| arrow.sent);
    let mut last = Time::ZERO;
    let item = |arrow: &Arrow| {
        let Arrow { sent, arrives, delivered, from, to, message } = arrow;
        let passed = micros(sent.0 - std::mem::replace(&mut last, *sent).0);
        let took = arrives.map_or("-1".to_owned(), |arrives| micros(arrives.0 - sent.0));
        let (kind, received) = (texts.place(message.kind), u8::from(*delivered));
        let (term, first, second) = (message.term, message.first, message.second);
        format!("[{passed},{took},{from},{to},{received},{kind},{term},{first},{second}]")
    };
    arrows.into_iter().map(item).collect()
}

/// Every fault from its beginning to its end, and whom it concerns.
fn faults(finished: &Finished, end: Time, members: &BTreeSet<u64>) -> Vec<String> {
    let mut open: Vec<(Time, FaultLine)> = Vec::new();
    let mut done: Vec<(Time, Time, FaultLine)> = Vec::new();
    for line in finished.trace.last() {
        let Event::Fault(fault) = line.event else { continue };
        if fault.began {
            open.push((line.time, fault));
        } else if let Some(at) =
            open.iter().position(|(_, other)| (other.fault, other.node) == (fault.fault, fault.node))
        {
            let (begin, fault) = open.remove(at);
            done.push((begin, line.time, fault));
        }
    }
    done.extend(open.into_iter().map(|(begin, fault)| (begin, end, fault)));
    done.sort_by_key(|(begin, ..)| *begin);
    done.iter()
        .map(|(begin, end, line)| {
            let nodes: Vec<String> = concerned(line, members).iter().map(ToString::to_string).collect();
            let fault = line.node.map_or(line.fault, |node| line.fault.aimed_at(node));
            let what = text(&fault.to_string());
            format!("[{},{},[{}],{what}]", micros(begin.0), micros(end.0), nodes.join(","))
        })
        .collect()
}

/// Whom a fault concerns: everybody, if it is about no member or link; nobody, if it is what an operator does.
fn concerned(line: &FaultLine, members: &BTreeSet<u64>) -> Vec<u64> {
    match (line.node, line.fault) {
        (Some(node), _) => vec![node.0],
        (None, Fault::Cut { links, .. } | Fault::Clog { links }) => {
            links.members().iter().map(|node| node.0).collect()
        }
        (None, Fault::Meddle(meddling)) => meddling.links.about().iter().map(|node| node.0).collect(),
        (None, Fault::Add { .. } | Fault::Promote) => Vec::new(),
        (None, Fault::Transfer(to)) => to.iter().map(|node| node.0).collect(),
        (None, _) => members.iter().copied().collect(),
    }
}

/// What clients asked, and what became of it.
fn operations(finished: &Finished) -> Vec<String> {
    let clients = finished.options.load.clients.max(1);
    let operations = finished.history.operations.operations.iter().enumerate();
    operations
        .map(|(place, operation)| {
            // (The last reads have numbers just below those of probes.)
            let who = match operation.process {
                WATCHERS_BEGIN.. => AT_THE_END.to_owned(),
                process => who(process, clients),
            };
            let (back, outcome) = match &operation.returned {
                None => ("-1".to_owned(), 2),
                Some(returned) => (micros(returned.at), u8::from(returned.output.result.is_err())),
            };
            let mut what = scenario::request_text(&operation.input);
            if let Some(returned) = &operation.returned {
                let _ = write!(what, " → {}", answer(&returned.output));
            }
            let bad = u8::from(finished.suspects.contains(&place));
            let call = micros(operation.call);
            format!("[{},{call},{back},{outcome},{},{bad}]", text(&who), text(&what))
        })
        .collect()
}

/// An answer in a few words.
fn answer(response: &quorate_jepsen::etcd::Response) -> String {
    use quorate_jepsen::etcd::Reply;
    let revision = response.revision;
    let member = response.member.map_or(String::new(), |member| format!(" by n{member}"));
    match &response.result {
        Err(error) => format!("{error:?}{member}"),
        Ok(Reply::Range { kvs, .. }) => {
            let values: Vec<String> = kvs.iter().map(|kv| short(&kv.value.to_string())).collect();
            let values = if values.is_empty() { "nothing".to_owned() } else { values.join(" ") };
            format!("{values} @{revision}{member}")
        }
        Ok(Reply::Txn { succeeded, .. }) => {
            format!("{} @{revision}{member}", if *succeeded { "then" } else { "else" })
        }
        Ok(Reply::Lease { ttl, .. }) => format!("ttl {ttl} @{revision}{member}"),
        Ok(_) => format!("@{revision}{member}"),
    }
}

/// A text without what values are padded with.
fn short(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(200));
    let mut points = 0;
    for character in text.chars() {
        if character == '.' {
            points += 1;
            continue;
        }
        push_points(&mut out, std::mem::take(&mut points));
        out.push(character);
    }
    push_points(&mut out, points);
    out
}

fn push_points(out: &mut String, points: usize) {
    match points {
        0..=3 => out.extend(std::iter::repeat_n('.', points)),
        _ => out.push('…'),
    }
}

/// Processes of watchers begin here, and those of probes, who ask when the faults are over.
const WATCHERS_BEGIN: u64 = 1_000_000;
const PROBES_BEGIN: u64 = 2_000_000 - crate::env::network::MEMBERS_MAX as u64;
const AT_THE_END: &str = "at the end";

/// Nanoseconds as microseconds, without zeros at the end.
fn micros(nanos: u64) -> String {
    let text = format!("{}.{:03}", nanos / 1_000, nanos % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A string as scripts write it. Nothing in it can end the script it stands in.
fn text(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '<' => out.push_str("\\u003c"),
            character if character.is_control() => {
                let _ = write!(out, "\\u{:04x}", character as u32);
            }
            character => out.push(character),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use crate::core::{self, Plan, Watch};
    use crate::options::Options;

    fn recorded(members: u64, seconds: u64) -> crate::report::Finished {
        let mut options = Options::draw(0);
        options.storm = std::time::Duration::from_secs(seconds);
        options.members = members;
        core::execute(&Plan::Drawn(&options), Watch { record: true, ..Watch::default() })
    }

    #[test]
    fn a_page_holds_the_run_and_nothing_that_would_end_it_early() {
        let finished = recorded(3, 2);
        let page = super::draw(&finished);
        for name in ["TITLE", "STYLE", "DATA", "DRAW", "SCRIPT"] {
            assert!(!page.contains(&format!("/*{name}")), "{name}");
        }
        assert_eq!(page.matches("</script>").count(), 3);
        assert_eq!(finished.trace.last().count() as u64, finished.trace.events());
        assert!(finished.trace.arrows().iter().any(|arrow| arrow.delivered), "messages are drawn");
        assert_eq!(super::text("a\"</script>\n"), "\"a\\\"\\u003c/script>\\n\"");
    }

    #[test]
    fn a_page_is_small() {
        let finished = recorded(5, 30);
        let (page, events) = (super::draw(&finished), finished.trace.events());
        assert!(events > 5_000, "{events} events show nothing");
        let each = page.len() as u64 / events;
        assert!(each < 90, "{each} bytes for each of {events} events");
    }

    #[test]
    fn times_are_written_without_what_says_nothing() {
        assert_eq!(super::micros(1_500), "1.5");
        assert_eq!(super::micros(0), "0");
        assert_eq!(super::micros(100_000), "100");
        assert_eq!(super::short("\"v1.......\" of 1.5 and ...."), "\"v1…\" of 1.5 and …");
    }
}
