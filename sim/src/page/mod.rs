//! A run as one page for a browser: `--report FILE`.
//!
//! The page holds everything it needs: the run as data, and the few hundred lines that draw it. A lane for
//! each member, its roles and terms as bands, messages as arrows (lost ones broken), faults as shading, the
//! clients' operations beneath, those that cannot be explained marked; and at the cursor where every log
//! stands. What can be seen is in `page.js`; this file only writes the run down for it.

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
    include_str!("page.html")
        .replace("/*TITLE*/", &title)
        .replace("/*STYLE*/", include_str!("page.css"))
        .replace("/*SCRIPT*/", include_str!("page.js"))
        .replace("/*DATA*/", &data(finished, &title))
}

/// The run as the script reads it.
fn data(finished: &Finished, title: &str) -> String {
    let verdict = match &finished.violation {
        Some(violation) => format!("violates {violation}"),
        None => "every property holds".to_owned(),
    };
    let end = finished.trace.last().last().map_or(Time::ZERO, |line| line.time);
    let members: Vec<String> = finished.options.member_ids().iter().map(ToString::to_string).collect();
    let mut out = String::from("{");
    let _ = write!(out, "title:{},verdict:{},", text(title), text(&verdict));
    let _ = write!(out, "failed:{},end:{},", finished.violation.is_some(), micros(end));
    let about = format!("{}\n{}", crate::command::banner(&finished.options), finished.summary);
    let _ = write!(out, "options:{},members:[{}],", text(&about), members.join(","));
    list(&mut out, "lines", finished.trace.last().map(line));
    list(&mut out, "arrows", finished.trace.arrows().iter().map(arrow));
    list(&mut out, "faults", faults(finished, end).into_iter());
    list(&mut out, "ops", operations(finished).into_iter());
    out.push('}');
    out
}

fn list(out: &mut String, name: &str, items: impl Iterator<Item = String>) {
    let _ = write!(out, "{name}:[");
    for item in items {
        out.push_str(&item);
        out.push_str(",\n");
    }
    out.push_str("],");
}

fn line(line: &Line) -> String {
    let (kind, node) = match line.event {
        Event::Deliver { to, .. } => ("deliver", to.0),
        Event::Wake(node) => ("wake", node.0),
        Event::Durable { node, .. } | Event::SnapshotSaved { node, .. } => ("disk", node.0),
        Event::Request { node, .. } => ("ask", node.0),
        Event::Answer { .. } => ("answer", 0),
        Event::Watch { .. } => ("watch", 0),
        Event::Fault(FaultLine { node, .. }) => ("fault", node.map_or(0, |node| node.0)),
        Event::Start { node, .. } => ("start", node.0),
        Event::Crash(node) => ("crash", node.0),
        Event::Phase(_) => ("phase", 0),
    };
    let status = line.status.as_ref().map_or("0".to_owned(), status);
    format!("[{},{},{node},{},{status}]", micros(line.time), text(kind), text(&line.event.to_string()))
}

fn status(status: &StatusLine) -> String {
    let StatusLine { term, role, leader, last, persisted, commit, applied, revision, .. } = status;
    format!("[{term},{},{leader},{last},{persisted},{commit},{applied},{revision}]", *role as u8)
}

fn arrow(arrow: &Arrow) -> String {
    let Arrow { sent, arrives, delivered, from, to, message } = arrow;
    let arrives = arrives.map_or("-1".to_owned(), micros);
    format!("[{},{arrives},{from},{to},{},{}]", micros(*sent), text(message.kind), u8::from(*delivered))
}

/// Every fault from its beginning to its end, and whom it concerns.
fn faults(finished: &Finished, end: Time) -> Vec<String> {
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
    let everybody: Vec<u64> = finished.options.member_ids().iter().map(|id| id.0).collect();
    done.iter()
        .map(|(begin, end, line)| {
            let nodes = match (line.node, line.fault) {
                (Some(node), _) => vec![node.0],
                (None, Fault::Cut { links, .. } | Fault::Clog { links }) => {
                    links.members().iter().map(|node| node.0).collect()
                }
                (None, _) => everybody.clone(),
            };
            let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            let fault = line.node.map_or(line.fault, |node| line.fault.aimed_at(node));
            let what = text(&fault.to_string());
            format!("[{},{},[{}],{what}]", micros(*begin), micros(*end), nodes.join(","))
        })
        .collect()
}

/// What clients asked, and what became of it.
fn operations(finished: &Finished) -> Vec<String> {
    let clients = finished.options.load.clients.max(1);
    let operations = finished.history.operations.operations.iter().enumerate();
    operations
        .map(|(place, operation)| {
            let who = if operation.process < PROBES_BEGIN {
                format!("client {}", operation.process % clients)
            } else {
                format!("probe n{}", operation.process % PROBES_BEGIN)
            };
            let (back, outcome) = match &operation.returned {
                None => ("-1".to_owned(), "unknown"),
                Some(returned) => {
                    let name = if returned.output.result.is_ok() { "ok" } else { "error" };
                    (micros(Time(returned.at)), name)
                }
            };
            let mut what = scenario::request_text(&operation.input);
            if let Some(returned) = &operation.returned {
                let _ = write!(what, " → {}", answer(&returned.output));
            }
            let bad = u8::from(finished.suspects.contains(&place));
            let call = micros(Time(operation.call));
            format!("[{},{call},{back},{},{},{bad}]", text(&who), text(outcome), text(&what))
        })
        .collect()
}

/// An answer in a few words.
fn answer(response: &quorate_jepsen::etcd::Response) -> String {
    use quorate_jepsen::etcd::Reply;
    let revision = response.revision;
    match &response.result {
        Err(error) => format!("{error:?}"),
        Ok(Reply::Range { kvs, .. }) => {
            let values: Vec<String> = kvs.iter().map(|kv| kv.value.to_string()).collect();
            format!("{} @{revision}", if values.is_empty() { "nothing".to_owned() } else { values.join(" ") })
        }
        Ok(Reply::Txn { succeeded, .. }) => {
            format!("{} @{revision}", if *succeeded { "then" } else { "else" })
        }
        Ok(Reply::Lease { ttl, .. }) => format!("ttl {ttl} @{revision}"),
        Ok(_) => format!("@{revision}"),
    }
}

/// Processes of watchers and probes begin here.
const PROBES_BEGIN: u64 = 1_000_000;

fn micros(time: Time) -> String {
    format!("{}.{:03}", time.0 / 1_000, time.0 % 1_000)
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

    #[test]
    fn a_page_holds_the_run_and_nothing_that_would_end_it_early() {
        let mut options = Options::draw(0);
        options.storm = std::time::Duration::from_secs(2);
        let finished = core::execute(&Plan::Drawn(&options), Watch { record: true, ..Watch::default() });
        let page = super::draw(&finished);
        assert!(!["TITLE", "STYLE", "DATA", "SCRIPT"].iter().any(|name| page.contains(&format!("/*{name}"))));
        assert_eq!(page.matches("</script>").count(), 2);
        assert_eq!(finished.trace.last().count() as u64, finished.summary.events);
        assert!(finished.trace.arrows().iter().any(|arrow| arrow.delivered), "messages are drawn");
        assert_eq!(super::text("a\"</script>\n"), "\"a\\\"\\u003c/script>\\n\"");
    }
}
