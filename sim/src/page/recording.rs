//! What a flight recorder wrote down, as the page that simulated runs are shown on.
//!
//! A recorder sees one member. So there is one lane with roles, terms and positions, and a lane for every peer that only
//! messages touch; when those left a peer, or came to it, nobody here knows, and they are drawn as upright arrows. The clients' operations beneath
//! are the requests that this member took. Members' numbers are long: on the page the recorded one is n1, and the heading
//! says who the others are.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use quorate_node::flight::Header;
use quorate_raft::Instant;
use quorate_replica::RequestId;

use super::{Texts, fill, list, micros, rules, status, text};
use crate::recording::{About, Ending, Replayed, Step, Turn};
use crate::trace::{MessageLine, StatusLine};

/// Draws these turns, which were replayed one after the other.
#[must_use]
pub fn draw_recording(header: &Header, turns: &[Turn], replayed: &Replayed) -> String {
    let title = format!("Flight recording of member {:x}", header.member.0);
    let mut picture = Picture::new(header.member.0, turns.first().map_or(Instant(0), |turn| turn.now));
    turns.iter().for_each(|turn| picture.turn(turn));
    fill(&title, &picture.data(&title, header, turns, replayed))
}

/// What has been drawn so far.
struct Picture {
    begin: Instant,
    now: Instant,
    texts: Texts,
    /// The numbers of members on the page.
    lanes: BTreeMap<u64, u64>,
    /// Lines and arrows say how much later than the one before they are.
    line_before: u64,
    arrow_before: u64,
    lines: Vec<String>,
    arrows: Vec<String>,
    operations: Vec<Operation>,
    /// Where requests that wait are among the operations.
    waiting: BTreeMap<RequestId, usize>,
    /// Which rows are taken.
    rows: Vec<bool>,
    /// Whether nothing has been drawn yet.
    first: bool,
}

/// A request of a client's.
struct Operation {
    row: usize,
    call: u64,
    back: Option<(u64, bool)>,
    text: String,
}

impl Picture {
    fn new(member: u64, begin: Instant) -> Picture {
        Picture {
            begin,
            now: begin,
            texts: Texts::default(),
            lanes: BTreeMap::from([(member, 1)]),
            line_before: 0,
            arrow_before: 0,
            lines: Vec::new(),
            arrows: Vec::new(),
            operations: Vec::new(),
            waiting: BTreeMap::new(),
            rows: Vec::new(),
            first: true,
        }
    }

    fn turn(&mut self, turn: &Turn) {
        self.now = self.now.max(turn.now);
        // Standings are drawn as such.
        let told = |step: &&Step| !matches!(step.about, About::Standing);
        let inputs = turn.inputs.iter().filter(told).map(|step| (step, true));
        let steps: Vec<_> =
            inputs.chain(turn.outputs.iter().filter(told).map(|step| (step, false))).collect();
        for (at, (step, came)) in steps.iter().enumerate() {
            // It is known between two turns only.
            let first = std::mem::take(&mut self.first).then_some(turn.before);
            let stands = turn.changed.filter(|_| at + 1 == steps.len()).or(first);
            self.step(turn.number, step, *came, stands);
        }
    }

    fn step(&mut self, turn: u64, step: &Step, came: bool, stands: Option<StatusLine>) {
        let now = self.now.0 - self.begin.0;
        let (kind, said) = match step.about {
            About::Message(peer, message) => {
                let peer = self.lane(peer.0);
                self.arrow(now, if came { (peer, 1) } else { (1, peer) }, message);
                let MessageLine { kind, term, first, second } = message;
                let (from, to) = if came { (peer, 1) } else { (1, peer) };
                (0, format!("n{from} → n{to} {kind}@{term} {first} {second}"))
            }
            About::Time => (1, "n1: time".to_owned()),
            About::Disk => (2, format!("n1 {}", step.text)),
            About::Asked(id) => {
                self.asked(id, now, &step.text);
                (3, step.text.clone())
            }
            About::Answered(id, failed) => {
                self.answered(id, now, failed, &step.text);
                (4, step.text.clone())
            }
            About::Other | About::Standing => (9, step.text.clone()),
        };
        let passed = micros(now - std::mem::replace(&mut self.line_before, now));
        let place = self.texts.place(&format!("turn {turn} {} {said}", if came { "←" } else { "→" }));
        let mut item = format!("[{passed},{kind},1,{place}");
        if let Some(stands) = stands {
            let leader = if stands.leader == 0 { 0 } else { self.lane(stands.leader) };
            let _ = write!(item, ",{}", status(&StatusLine { leader, ..stands }));
        }
        self.lines.push(item + "]");
    }

    /// The number of a member on the page.
    fn lane(&mut self, member: u64) -> u64 {
        let next = self.lanes.len() as u64 + 1;
        *self.lanes.entry(member).or_insert(next)
    }

    fn arrow(&mut self, now: u64, (from, to): (u64, u64), message: MessageLine) {
        let passed = micros(now - std::mem::replace(&mut self.arrow_before, now));
        let MessageLine { kind, term, first, second } = message;
        let kind = self.texts.place(kind);
        self.arrows.push(format!("[{passed},0,{from},{to},1,{kind},{term},{first},{second}]"));
    }

    fn asked(&mut self, id: RequestId, call: u64, what: &str) {
        let free = self.rows.iter().position(|taken| !taken).unwrap_or(self.rows.len());
        let row = free.min(ROWS_MAX - 1);
        if row == self.rows.len() {
            self.rows.push(true);
        }
        self.rows[row] = true;
        self.waiting.insert(id, self.operations.len());
        self.operations.push(Operation { row, call, back: None, text: what.to_owned() });
    }

    fn answered(&mut self, id: RequestId, now: u64, failed: bool, what: &str) {
        let Some(at) = self.waiting.remove(&id) else { return };
        let operation = &mut self.operations[at];
        operation.back = Some((now, failed));
        let _ = write!(operation.text, " → {}", what.rsplit_once(": ").map_or(what, |(_, said)| said));
        self.rows[operation.row] = false;
    }

    /// All of it as the script reads it.
    fn data(&self, title: &str, header: &Header, turns: &[Turn], replayed: &Replayed) -> String {
        let (rule, why) = match &replayed.ending {
            Ending::Arrived => ("", "replayed: every turn as it was recorded".to_owned()),
            Ending::PanicAgain(text) => ("panic", format!("n1: {text}")),
            Ending::Panic(text) => ("replay", format!("n1 panics, which it did not then: {text}")),
            Ending::Diverged => ("replay", format!("n1 does something else in turn {}", replayed.turns)),
            Ending::OtherState => ("replay", "n1 ends in another state than was recorded".to_owned()),
            Ending::Senseless(error) => ("replay", error.to_string()),
        };
        let end = micros(self.now.0 - self.begin.0);
        let failed = !rule.is_empty();
        let mut out = String::from("{");
        let _ = write!(out, "title:{},rule:{},why:{},", text(title), text(rule), text(&why));
        let _ = write!(out, "meaning:{},failed:{failed},end:{end},", text(rules::meaning(rule)));
        let members: Vec<String> = (1..=self.lanes.len()).map(|lane| lane.to_string()).collect();
        let about = text(&self.about(header, turns, replayed));
        let _ = write!(out, "options:{about},absent:\"not recorded\",members:[{}],", members.join(","));
        list(&mut out, "lines", &self.lines);
        list(&mut out, "arrows", &self.arrows);
        list(&mut out, "faults", &[]);
        let operations: Vec<String> = self.operations.iter().map(Operation::data).collect();
        list(&mut out, "ops", &operations);
        let said: Vec<String> = self.texts.said.iter().map(|said| text(said)).collect();
        list(&mut out, "texts", &said);
        out.push('}');
        out
    }

    /// Who is who, and what part of the recording this is.
    fn about(&self, header: &Header, turns: &[Turn], replayed: &Replayed) -> String {
        let mut who: Vec<(u64, u64)> = self.lanes.iter().map(|(member, lane)| (*lane, *member)).collect();
        who.sort_unstable();
        let who: Vec<String> =
            who.iter().map(|(lane, member)| format!("n{lane} is member {member:x}")).collect();
        let (first, last) =
            (turns.first().map_or(0, |turn| turn.number), turns.last().map_or(0, |turn| turn.number));
        format!(
            "quorate {} (core {}), recorded because of: {}\n{}\nturns {first} to {last} of {}; time zero is {:.6} s by \
             the member's clock",
            header.version,
            header.core,
            header.reason,
            who.join(", "),
            replayed.turns,
            self.begin.0 as f64 / 1e9
        )
    }
}

impl Operation {
    fn data(&self) -> String {
        let (back, outcome) = match self.back {
            None => ("-1".to_owned(), 2),
            Some((at, failed)) => (micros(at), u8::from(failed)),
        };
        let row = text(&format!("requests {}", self.row + 1));
        format!("[{row},{},{back},{outcome},{},0]", micros(self.call), text(&self.text))
    }
}

/// So many requests beside each other have a row of their own.
const ROWS_MAX: usize = 40;
