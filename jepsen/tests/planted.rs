//! A right history of every model, and a violation planted behind it: it is found, and what shows it is what was
//! planted, nothing of what was there before, and nothing that could be left out.

mod common;
#[path = "common/transactions.rs"]
mod transactions;

use std::collections::BTreeMap;

use common::Random;
use quorate_jepsen::Verdict;
use quorate_jepsen::format::{self, ReadOptions};
use quorate_jepsen::report::{ModelName, Settings, judge};
use quorate_jepsen::txn::{Options, Outcome, VersionOrder, Workload, check};
use transactions::{Planted, Shape, Step, build, plant, read, serial, write};

/// An operation: process, name, what was asked, what was answered (none: a failure), call and return.
#[derive(Clone, Debug)]
struct Call {
    process: u64,
    f: &'static str,
    asked: String,
    answered: Option<String>,
    call: u64,
    end: u64,
}

/// What a client does at the moment of its effect: its name, its question, its answer.
type Serve<'s> = dyn FnMut(&mut Random, u64) -> (&'static str, String, Option<String>) + 's;

/// Clients that overlap, served one at a time somewhere between call and return.
fn right(random: &mut Random, count: usize, serve: &mut Serve<'_>) -> Vec<Call> {
    const CLIENTS: u64 = 4;
    let mut idle = [0; CLIENTS as usize];
    let mut times: Vec<(u64, u64, u64, u64)> = (0..count as u64)
        .map(|number| {
            let process = number % CLIENTS;
            let call = idle[process as usize] + 1 + random.below(3);
            let effect = call + random.below(9);
            let end = effect + random.below(9);
            idle[process as usize] = end + 1;
            (effect, call, end, process)
        })
        .collect();
    times.sort_unstable();
    let mut calls = Vec::new();
    for (_, call, end, process) in times {
        let (f, asked, answered) = serve(random, process);
        calls.push(Call { process, f, asked, answered, call, end });
    }
    calls.sort_by_key(|call| call.call);
    calls
}

/// Operations one after the other behind all others: process, name, question, answer.
type Plan<'p> = &'p [(u64, &'static str, &'p str, &'p str)];

fn behind(calls: &[Call], planted: Plan<'_>) -> Vec<Call> {
    let begun = calls.iter().map(|call| call.end).max().unwrap_or(0) + 1;
    let one = |(number, (process, f, asked, answered)): (usize, &(u64, &'static str, &str, &str))| Call {
        process: *process,
        f,
        asked: (*asked).to_owned(),
        answered: Some((*answered).to_owned()),
        call: begun + 2 * number as u64,
        end: begun + 2 * number as u64 + 1,
    };
    planted.iter().enumerate().map(one).collect()
}

/// The history as Jepsen would write it.
fn edn(calls: &[Call]) -> String {
    let mut events: Vec<(u64, u8, usize, String)> = Vec::new();
    for (index, Call { process, f, asked, answered, call, end }) in calls.iter().enumerate() {
        events.push((
            *call,
            0,
            index,
            format!("{{:process {process}, :type :invoke, :f :{f}, :value {asked}}}"),
        ));
        let (kind, value) = answered.as_ref().map_or(("fail", asked), |value| ("ok", value));
        events.push((
            *end,
            1,
            index,
            format!("{{:process {process}, :type :{kind}, :f :{f}, :value {value}}}"),
        ));
    }
    events.sort();
    events.into_iter().map(|(_, _, _, event)| event + "\n").collect()
}

fn verdict(model: &str, calls: &[Call]) -> Verdict {
    if calls.is_empty() {
        return Verdict::Valid;
    }
    let options = ReadOptions { independent: model == "key-value", ..ReadOptions::default() };
    let recording = format::read(&edn(calls), None, options).expect("EDN");
    let model: Option<ModelName> = Some(model.parse().expect("a model"));
    let total = (model == Some(ModelName::Bank)).then_some(MONEY);
    judge(&recording, &Settings { model, total, ..Settings::default() }).expect("the model fits").verdict
}

/// Plants operations behind right histories. Nothing else may be shown. `needed` are those without which the
/// rest is no violation: they must be. The others are there so that it is one for the right reason, and need not
/// be shown if it is one whatever was there before.
fn plants(model: &str, planted: Plan<'_>, needed: &[usize], serve: &dyn Fn() -> Box<Serve<'static>>) {
    for seed in 0..12 {
        let mut random = Random::new(seed);
        let count = 1 + random.below(40) as usize;
        let mut calls = right(&mut random, count, &mut *serve());
        let_go(&mut calls);
        let before = verdict(model, &calls);
        assert!(!before.is_invalid(), "{model}, seed {seed}: {before}");
        let added = behind(&calls, planted);
        let all: Vec<Call> = calls.iter().chain(&added).cloned().collect();
        let Verdict::Invalid(violation) = verdict(model, &all) else {
            panic!("{model}, seed {seed}: what was planted was not found");
        };
        let mut shown = violation.operations.clone();
        shown.sort_unstable();
        let is_needed = |index: &usize| shown.contains(&(calls.len() + index));
        let is_enough = needed.iter().all(is_needed) && shown[0] >= calls.len();
        assert!(
            is_enough,
            "{model}, seed {seed}: {shown:?} of {} and more: {}",
            calls.len(),
            violation.sentence
        );
        for left_out in needed {
            let rest = added.iter().enumerate().filter(|(index, _)| index != left_out);
            let rest: Vec<Call> = rest.map(|(_, call)| call.clone()).collect();
            let alone = verdict(model, &rest);
            assert!(!alone.is_invalid(), "{model}: {left_out} is not needed: {alone}");
        }
    }
}

/// What is held at the end was not taken.
fn let_go(calls: &mut [Call]) {
    let mut last: BTreeMap<u64, usize> = BTreeMap::new();
    for (index, call) in calls.iter().enumerate().filter(|(_, call)| call.answered.is_some()) {
        last.insert(call.process, index);
    }
    for index in last.into_values().filter(|index| calls[*index].f == "acquire").collect::<Vec<_>>() {
        calls[index].answered = None;
    }
}

fn done(f: &'static str, asked: impl ToString) -> (&'static str, String, Option<String>) {
    (f, asked.to_string(), Some(asked.to_string()))
}

fn saw(f: &'static str, value: impl ToString) -> (&'static str, String, Option<String>) {
    (f, "nil".to_owned(), Some(value.to_string()))
}

/// A register with values that repeat, and compare-and-sets.
fn register() -> Box<Serve<'static>> {
    let mut value = None::<u64>;
    Box::new(move |random, _| match random.below(4) {
        0 | 1 => {
            value = Some(random.below(4));
            done("write", value.unwrap_or_default())
        }
        2 if value.is_some() => {
            let (old, new) = (value.unwrap_or_default(), random.below(4));
            value = Some(new);
            done("cas", format!("[{old} {new}]"))
        }
        _ => saw("read", value.map_or("nil".to_owned(), |value| value.to_string())),
    })
}

#[test]
fn registers() {
    plants(
        "register",
        &[(7, "write", "91", "91"), (8, "write", "92", "92"), (7, "read", "nil", "91")],
        &[1, 2],
        &register,
    );
    let cas = [(7, "write", "91", "91"), (8, "cas", "[91 92]", "[91 92]"), (7, "cas", "[91 93]", "[91 93]")];
    plants("cas-register", &cas, &[1, 2], &register);
    plants("register", &[(7, "read", "nil", "77")], &[0], &register);
}

#[test]
fn registers_with_unique_values_are_decided_by_zones() {
    let serve = || -> Box<Serve<'static>> {
        let mut value = 100;
        Box::new(move |random, _| match random.below(2) {
            0 => {
                value += 1;
                done("write", value)
            }
            _ if value == 100 => saw("read", "nil"),
            _ => saw("read", value),
        })
    };
    plants(
        "register",
        &[(7, "write", "91", "91"), (8, "write", "92", "92"), (7, "read", "nil", "91")],
        &[1, 2],
        &serve,
    );
}

#[test]
fn several_registers() {
    let serve = || -> Box<Serve<'static>> {
        let mut values: BTreeMap<&str, u64> = BTreeMap::new();
        Box::new(move |random, _| {
            let key = *random.pick(&["x", "y"]);
            if random.chance(50) {
                values.insert(key, random.below(4));
                return done("txn", format!("[[:write :{key} {}]]", values[key]));
            }
            let value = values.get(key).copied().unwrap_or(0);
            ("txn", format!("[[:read :{key} nil]]"), Some(format!("[[:read :{key} {value}]]")))
        })
    };
    let planted = [
        (7, "txn", "[[:write :x 91]]", "[[:write :x 91]]"),
        (8, "txn", "[[:write :x 92]]", "[[:write :x 92]]"),
        (7, "txn", "[[:read :x nil]]", "[[:read :x 91]]"),
    ];
    plants("multi-register", &planted, &[1, 2], &serve);
}

#[test]
fn strings_that_grow() {
    let serve = || -> Box<Serve<'static>> {
        let mut text = String::new();
        Box::new(move |random, _| {
            let letter = *random.pick(&["a", "b"]);
            match random.below(3) {
                0 => {
                    letter.clone_into(&mut text);
                    ("put", format!("[\"k\" \"{letter}\"]"), Some(format!("[\"k\" \"{letter}\"]")))
                }
                1 => {
                    text.push_str(letter);
                    ("append", format!("[\"k\" \"{letter}\"]"), Some(format!("[\"k\" \"{letter}\"]")))
                }
                _ => ("get", "[\"k\" nil]".to_owned(), Some(format!("[\"k\" \"{text}\"]"))),
            }
        })
    };
    let planted = [
        (7, "put", "[\"k\" \"p\"]", "[\"k\" \"p\"]"),
        (8, "append", "[\"k\" \"q\"]", "[\"k\" \"q\"]"),
        (7, "get", "[\"k\" nil]", "[\"k\" \"p\"]"),
    ];
    plants("key-value", &planted, &[1, 2], &serve);
}

/// A lock that is free in the end, half of the time taken by somebody in between.
fn lock(fenced: bool) -> Box<Serve<'static>> {
    let (mut token, mut holder) = (0, None);
    Box::new(move |_, process| {
        if holder == Some(process) {
            holder = None;
            return saw("release", "nil");
        }
        if holder.is_none() {
            holder = Some(process);
            token += 1;
            return if fenced { saw("acquire", token) } else { saw("acquire", "nil") };
        }
        ("acquire", "nil".to_owned(), None)
    })
}

#[test]
fn locks_and_semaphores() {
    let twice = [(7, "acquire", "nil", "nil"), (8, "acquire", "nil", "nil")];
    let released = [(8, "acquire", "nil", "nil"), (8, "release", "nil", "nil"), (8, "release", "nil", "nil")];
    plants("mutex", &released, &[2], &|| lock(false));
    plants("mutex", &twice, &[0, 1], &|| lock(false));
    plants("owner-mutex", &twice, &[0, 1], &|| lock(false));
    plants("owner-mutex", &[(8, "release", "nil", "nil")], &[0], &|| lock(false));
    let thrice = [(8, "acquire", "nil", "nil"), (8, "acquire", "nil", "nil"), (8, "acquire", "nil", "nil")];
    plants("reentrant-mutex", &thrice, &[0, 1, 2], &|| lock(false));
    plants("reentrant-mutex", &twice, &[0, 1], &|| lock(false));
    let permits = || -> Box<Serve<'static>> {
        let mut held = [0; 8];
        Box::new(move |_, process| {
            if held[process as usize] == 1 {
                held[process as usize] = 0;
                return saw("release", "nil");
            }
            if held.iter().sum::<u32>() < 2 {
                held[process as usize] = 1;
                return saw("acquire", "nil");
            }
            ("acquire", "nil".to_owned(), None)
        })
    };
    let thrice = [(7, "acquire", "nil", "nil"), (8, "acquire", "nil", "nil"), (9, "acquire", "nil", "nil")];
    plants("semaphore", &thrice, &[0, 1, 2], &permits);
    let token = [(7, "acquire", "nil", "900"), (7, "release", "nil", "nil"), (8, "acquire", "nil", "899")];
    plants("fenced-lock", &token, &[2], &|| lock(true));
}

#[test]
fn queues() {
    let serve = || -> Box<Serve<'static>> {
        let (mut queue, mut next) = (std::collections::VecDeque::new(), 0);
        Box::new(move |random, _| {
            if random.chance(50) {
                next += 1;
                queue.push_back(next);
                return done("enqueue", next);
            }
            queue
                .pop_front()
                .map_or_else(|| ("dequeue", "nil".to_owned(), None), |value: u64| saw("dequeue", value))
        })
    };
    let twice = [(7, "enqueue", "901", "901"), (8, "dequeue", "nil", "901"), (9, "dequeue", "nil", "901")];
    plants("queue", &twice, &[1, 2], &serve);
    let swapped = [(7, "enqueue", "901", "901"), (8, "enqueue", "902", "902"), (9, "dequeue", "nil", "902")];
    plants("fifo-queue", &swapped, &[0, 2], &serve);
    plants("queue", &[(9, "dequeue", "nil", "903")], &[0], &serve);
    plants("total-queue", &[(9, "dequeue", "nil", "903")], &[0], &serve);
}

#[test]
fn sets_and_counters() {
    let set = || -> Box<Serve<'static>> {
        let mut members: Vec<u64> = Vec::new();
        Box::new(move |random, _| {
            if random.chance(60) {
                members.push(members.len() as u64);
                return done("add", members.len() - 1);
            }
            let all: Vec<String> = members.iter().map(u64::to_string).collect();
            saw("read", format!("#{{{}}}", all.join(" ")))
        })
    };
    plants("set-full", &[(7, "read", "nil", "#{901}")], &[0], &set);
    plants("linearizable-set", &[(7, "contains", "901", "true")], &[0], &set_of_members);
    let twice = [(7, "add", "901", "true"), (8, "remove", "901", "true"), (9, "contains", "901", "true")];
    plants("linearizable-set", &twice, &[1, 2], &set_of_members);
    let counter = || -> Box<Serve<'static>> {
        let mut sum = 0_i64;
        Box::new(move |random, _| {
            if random.chance(60) {
                let number = random.below(5) as i64;
                sum += number;
                return done("add", number);
            }
            saw("read", sum)
        })
    };
    plants("counter", &[(7, "read", "nil", "-1")], &[0], &counter);
    plants("counter", &[(7, "add", "1000", "1000"), (8, "read", "nil", "0")], &[0, 1], &counter);
    plants("linearizable-counter", &[(8, "read", "nil", "-1")], &[0], &counter);
}

/// How much money there is.
const MONEY: i64 = 100;

#[test]
fn banks_ids_and_comments() {
    let bank = || -> Box<Serve<'static>> {
        let mut accounts = [MONEY - 60, 60];
        Box::new(move |random, _| {
            if random.chance(50) {
                let amount = 1 + random.below(5) as i64;
                let (from, to) = if accounts[0] > accounts[1] { (0, 1) } else { (1, 0) };
                accounts[from] -= amount;
                accounts[to] += amount;
                return done("transfer", format!("{{:from {from} :to {to} :amount {amount}}}"));
            }
            saw("read", format!("{{0 {} 1 {}}}", accounts[0], accounts[1]))
        })
    };
    plants("bank", &[(7, "read", "nil", "{0 50 1 51}")], &[0], &bank);
    plants("bank", &[(7, "read", "nil", "{0 50 1 49}")], &[0], &bank);
    plants("bank", &[(7, "read", "nil", "{0 101 1 -1}")], &[0], &bank);
    let ids = || -> Box<Serve<'static>> {
        let mut next = 0;
        Box::new(move |_, _| {
            next += 1;
            saw("generate", next)
        })
    };
    plants("unique-ids", &[(7, "generate", "nil", "901"), (8, "generate", "nil", "901")], &[0, 1], &ids);
    let comments = || -> Box<Serve<'static>> {
        let mut written: Vec<u64> = Vec::new();
        Box::new(move |random, _| {
            if random.chance(60) {
                written.push(written.len() as u64);
                return done("write", written.len() - 1);
            }
            let all: Vec<String> = written.iter().map(u64::to_string).collect();
            saw("read", format!("#{{{}}}", all.join(" ")))
        })
    };
    let missed = [(7, "write", "901", "901"), (8, "write", "902", "902"), (9, "read", "nil", "#{902}")];
    plants("comments", &missed, &[0, 1, 2], &comments);
}

fn set_of_members() -> Box<Serve<'static>> {
    let mut members = std::collections::BTreeSet::new();
    Box::new(move |random, _| {
        let value = random.below(3);
        match random.below(3) {
            0 => ("add", value.to_string(), Some(members.insert(value).to_string())),
            1 => ("remove", value.to_string(), Some(members.remove(&value).to_string())),
            _ => ("contains", value.to_string(), Some(members.contains(&value).to_string())),
        }
    })
}

const SHAPE: Shape =
    Shape { transactions: 80, processes: 5, keys: 4, writes_per_key: 10, aborted: 8, unknown: 8 };

/// Committed transactions that show an anomaly.
fn shows(name: &'static str, in_order: bool, steps: Vec<Vec<Step>>, shown: &[usize]) -> Planted {
    let transactions = steps.into_iter().map(|steps| (Outcome::Committed, steps)).collect();
    Planted { name, transactions, in_order, shown: shown.to_vec() }
}

/// One of each anomaly of registers, on the keys from `x` on, with what must be assumed for it.
fn anomalies_of_registers(x: i64) -> Vec<(Planted, VersionOrder)> {
    let y = x + 1;
    let follow = VersionOrder { writes_follow_reads: true, ..VersionOrder::default() };
    let overwrites =
        vec![vec![read(y, &[2]), write(y, 1), write(x, 1)], vec![read(x, &[1]), write(x, 2), write(y, 2)]];
    let mut all = vec![(shows("G0", false, overwrites, &[0, 1]), follow)];
    let others = [anomalies_of_values(x), anomalies_of_cycles(x)].concat();
    all.extend(others.into_iter().map(|planted| (planted, VersionOrder::default())));
    all
}

fn anomalies_of_values(x: i64) -> Vec<Planted> {
    let aborted = Planted {
        name: "G1a",
        transactions: vec![(Outcome::Aborted, vec![write(x, 1)]), (Outcome::Committed, vec![read(x, &[1])])],
        in_order: false,
        shown: vec![0, 1],
    };
    let updates = vec![vec![write(x, 1)], vec![read(x, &[1]), write(x, 2)], vec![read(x, &[1]), write(x, 3)]];
    vec![
        aborted,
        shows("G1b", false, vec![vec![write(x, 1), write(x, 2)], vec![read(x, &[1])]], &[0, 1]),
        shows("internal", false, vec![vec![write(x, 1), read(x, &[2])], vec![write(x, 2)]], &[0]),
        shows("lost-update", false, updates, &[1, 2]),
    ]
}

fn anomalies_of_cycles(x: i64) -> Vec<Planted> {
    let y = x + 1;
    let circle = vec![vec![write(x, 1), read(y, &[1])], vec![write(y, 1), read(x, &[1])]];
    let half = vec![vec![write(x, 1), write(y, 1)], vec![read(x, &[1]), read(y, &[])]];
    let fork = vec![
        vec![write(x, 1)],
        vec![write(y, 1)],
        vec![read(x, &[1]), read(y, &[])],
        vec![read(x, &[]), read(y, &[1])],
    ];
    let skew = vec![vec![read(x, &[]), write(y, 1)], vec![read(y, &[]), write(x, 1)]];
    let late = vec![vec![write(x, 1)], vec![read(x, &[])]];
    vec![
        shows("G1c", false, circle, &[0, 1]),
        shows("G-single-item", false, half, &[0, 1]),
        shows("G-nonadjacent-item", false, fork, &[0, 1, 2, 3]),
        shows("G2-item", false, skew, &[0, 1]),
        shows("G-single-item-realtime", true, late, &[0, 1]),
    ]
}

#[test]
fn every_anomaly_of_registers_is_found_by_the_transactions_planted() {
    for seed in 0..15 {
        let mut random = Random::new(seed);
        let background = serial(&mut random, SHAPE, Workload::Register);
        for (planted, order) in anomalies_of_registers(1_000_000) {
            let mut plans = background.clone();
            let first = plant(&mut random, &mut plans, &planted);
            let options = Options { order, ..Options::default() };
            let report = check(&build(&plans), Workload::Register, &options).expect("values are unique");
            let name = planted.name;
            let found = report.findings.iter().find(|finding| finding.anomaly.name() == name);
            let found =
                found.unwrap_or_else(|| panic!("seed {seed}: {name} is not in {:?}", report.anomalies()));
            let mut shown: Vec<usize> =
                found.operations.iter().map(|index| index.wrapping_sub(first)).collect();
            shown.sort_unstable();
            assert_eq!(shown, planted.shown, "seed {seed}: {name}: {}", found.sentence);
            // Without any of them the anomaly is gone.
            let all = build(&plans);
            for left_out in &planted.shown {
                let is_kept = |place: &u32| all.list[*place as usize].origin != first + left_out;
                let part = all.part(&(0..plans.len() as u32).filter(is_kept).collect::<Vec<_>>());
                let report = check(&part, Workload::Register, &options).expect("values are unique");
                assert!(!report.anomalies().contains(&name), "seed {seed}: {name} without {left_out}");
            }
        }
    }
}
