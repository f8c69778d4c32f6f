//! Reads a scenario.

use std::time::Duration;

use quorate_raft::NodeId;

use super::words::{Mistake, Read, Words};
use super::{
    Action, Condition, Depths, Expect, Fact, Operation, Period, Scenario, Standing, Step, WatcherAction,
    When, Who, conditions, expected, faults, options, requests, watchers,
};
use crate::env::network::Meddling;
use crate::nemesis::{Fault, Target};
use crate::options::Options;
use crate::time::Time;

/// Reads a scenario, or says where it is wrong.
pub fn parse(text: &str) -> Result<Scenario, Mistake> {
    let mut scenario = Scenario {
        comment: Vec::new(),
        source: String::new(),
        expect: Expect::Pass,
        budget: true,
        depths: Depths { core: true, whole: false },
        options: options::plain(),
        steps: Vec::new(),
    };
    for (number, line) in text.lines().enumerate() {
        let mut words = Words::of(number + 1, line)?;
        if words.is_empty() {
            let begins = scenario.steps.is_empty() && scenario.source.is_empty();
            if let Some(comment) = line.trim_start().strip_prefix('#').filter(|_| begins) {
                scenario.comment.push(comment.trim().to_owned());
            }
            continue;
        }
        match words.peek() {
            "at" | "after" | "when" => scenario.steps.push(step(&mut words, &scenario.options)?),
            _ if scenario.steps.is_empty() => header(&mut words, &mut scenario)?,
            _ => {
                let what = "a line of the schedule begins with \"at\", \"after\" or \"when\"; options stand \
                            before the first such line";
                return Err(words.wrong(what));
            }
        }
        words.finish()?;
    }
    check(&mut scenario)?;
    Ok(scenario)
}

/// Everything that stands before the schedule.
fn header(words: &mut Words, scenario: &mut Scenario) -> Read<()> {
    let name = words.word("an option")?;
    match name.as_str() {
        "source" => scenario.source = words.rest(),
        "expect" if words.take("pass") => scenario.expect = Expect::Pass,
        "expect" => {
            words.expect("violation")?;
            scenario.expect = Expect::Violation(words.rest());
        }
        "depths" => scenario.depths = depths(words)?,
        "budget" if words.take("off") => scenario.budget = false,
        "budget" => words.expect("on")?,
        name => match options::read(name, words, &mut scenario.options) {
            Some(read) => read?,
            None => {
                let names: Vec<&str> = options::names().collect();
                let what = format!(
                    "there is no option {name:?} (there are source, expect, depths, budget, {})",
                    names.join(", ")
                );
                return Err(words.back().wrong(&what));
            }
        },
    }
    if !(1..=7).contains(&scenario.options.members) {
        return Err(words.back().wrong("a cluster has 1 to 7 members"));
    }
    Ok(())
}

fn step(words: &mut Words, options: &Options) -> Read<Step> {
    let line = words.line();
    let when = if words.take("at") {
        When::At(Time::ZERO + words.duration()?)
    } else if words.take("after") {
        When::After(words.duration()?)
    } else {
        words.expect("when")?;
        let condition = conditions::read(words)?;
        let delay = if words.take("after") { words.duration()? } else { Duration::ZERO };
        When::On(condition, delay)
    };
    Ok(Step { line, when, action: action(words, options)? })
}

fn action(words: &mut Words, options: &Options) -> Read<Action> {
    if words.take("client") {
        return operation(words).map(Action::Operation);
    }
    if words.take("watcher") {
        let watcher = words.number("a watcher's number")?;
        return watchers::read(words).map(|action| Action::Watcher(watcher, action));
    }
    if words.take("require") {
        let condition = conditions::read(words)?;
        let within = if words.take("within") { Some(period(words)?) } else { None };
        return Ok(Action::Require(condition, within));
    }
    if words.take("never") {
        let condition = conditions::read(words)?;
        let lasts = if words.take("for") { Some(words.duration()?) } else { None };
        return Ok(Action::Never(condition, lasts));
    }
    if words.take("heal") {
        let name = words.word("the name of a fault, or \"all\"")?;
        return match name.as_str() {
            "all" => Ok(Action::Heal(None)),
            "partition" => Ok(Action::Heal(Some("cut"))),
            name => match faults::name(name) {
                Some(name) => Ok(Action::Heal(Some(name))),
                None => Err(words.back().wrong("expected the name of a fault, or \"all\"")),
            },
        };
    }
    let lasts = if words.take("for") { Some(words.duration()?) } else { None };
    let fault = faults::read(words, options)?;
    Ok(Action::Fault { fault, lasts })
}

fn operation(words: &mut Words) -> Read<Operation> {
    let client = words.number("a client's number")?;
    if client >= CLIENTS_MAX {
        return Err(words.back().wrong(&format!("a client's number is below {CLIENTS_MAX}")));
    }
    let text = words.word("a member and a colon (such as \"n1:\")")?;
    let member = match text.strip_suffix(':') {
        Some("any") => Some(None),
        Some("leader") => Some(Some(Target::Leader(NodeId(1)))),
        Some(name) => {
            name.strip_prefix('n').and_then(|id| id.parse().ok()).map(|id| Some(Target::Node(NodeId(id))))
        }
        None => None,
    };
    let Some(member) = member else {
        let wanted = "expected a member and a colon (such as \"n1:\", \"leader:\" or \"any:\")";
        return Err(words.back().wrong(wanted));
    };
    let times = times(words)?;
    let request = requests::read(words)?;
    let outcome = if words.take("->") { Some(expected::read(words)?) } else { None };
    Ok(Operation { client, member, times, request, outcome })
}

/// `1000 times`; once, if nothing is said.
fn times(words: &mut Words) -> Read<u32> {
    if !words.peek().starts_with(|first: char| first.is_ascii_digit()) {
        return Ok(1);
    }
    let times = words.number("how many times")?;
    if !(1..=TIMES_MAX).contains(&times) {
        return Err(words.back().wrong(&format!("a client asks 1 to {TIMES_MAX} times")));
    }
    words.expect("times").map(|()| times)
}

/// `500ms`, or `5 timeouts`.
fn period(words: &mut Words) -> Read<Period> {
    let text =
        words.word("a duration (such as 500ms), or a number of election timeouts (such as 5 timeouts)")?;
    match text.parse() {
        Ok(count) => words.expect("timeouts").map(|()| Period::Timeouts(count)),
        Err(_) => {
            words.back();
            words.duration().map(Period::Time)
        }
    }
}

fn depths(words: &mut Words) -> Read<Depths> {
    let mut depths = Depths { core: false, whole: false };
    while !words.is_empty() {
        if words.take("core") {
            depths.core = true;
        } else if words.take("whole") {
            depths.whole = true;
        } else {
            break;
        }
    }
    if depths.core || depths.whole { Ok(depths) } else { Err(words.wrong("expected core, whole or both")) }
}

/// What can be seen only when everything is read; and there are as many clients as are named.
fn check(scenario: &mut Scenario) -> Result<(), Mistake> {
    let storm = scenario.options.storm;
    let mut members = scenario.options.members;
    let mut clients = scenario.options.load.clients;
    let mut watchers: Vec<u64> = Vec::new();
    for step in &scenario.steps {
        let wrong = |what: String| Err(Mistake { line: step.line, column: 1, what });
        let beyond = highest(step);
        if beyond > members {
            return wrong(format!(
                "there is no member n{beyond} in a cluster of {members} (nor does a line before add one)"
            ));
        }
        match &step.action {
            Action::Fault { fault: Fault::Add { .. } | Fault::LostDisk(_), .. } => members += 1,
            Action::Operation(Operation { client, .. }) => clients = clients.max(client + 1),
            Action::Watcher(watcher, WatcherAction::Watch { .. }) => watchers.push(*watcher),
            Action::Watcher(watcher, _) if !watchers.contains(watcher) => {
                return wrong(format!("watcher {watcher} watches nothing before this line"));
            }
            _ => {}
        }
        let late = matches!(step.when, When::At(at) if at >= Time::ZERO + storm);
        if late && matches!(step.action, Action::Fault { .. }) {
            return wrong(format!("the storm is over after {storm:?}: make it longer (\"storm 20s\")"));
        }
    }
    scenario.options.load.clients = clients;
    Ok(())
}

/// The highest member that a line names.
fn highest(step: &Step) -> u64 {
    let condition = |condition: &Condition| match condition.fact {
        // Somebody may be waited for who is not there yet.
        Fact::Members(Who::Node(node), ref standing) if *standing != Standing::Belongs => node.0,
        _ => 0,
    };
    let waited = if let When::On(waited, _) = &step.when { condition(waited) } else { 0 };
    waited.max(match &step.action {
        Action::Fault { fault, .. } => highest_struck(fault),
        Action::Operation(Operation { member: Some(Target::Node(node)), .. }) => node.0,
        Action::Require(required, _) | Action::Never(required, _) => condition(required),
        Action::Watcher(_, WatcherAction::Watch { member, .. } | WatcherAction::Resume(member)) => member.0,
        _ => 0,
    })
}

fn highest_struck(fault: &Fault) -> u64 {
    match (fault.target(), fault) {
        (Some(Target::Node(node)), _) => node.0,
        (_, Fault::Transfer(Some(node))) => node.0,
        (_, Fault::Cut { links, .. } | Fault::Clog { links } | Fault::Meddle(Meddling { links, .. })) => {
            links.about().last().map_or(0, |node| node.0)
        }
        _ => 0,
    }
}

/// More clients than any run needs.
const CLIENTS_MAX: u64 = 1_000;

/// One line asks no more often.
const TIMES_MAX: u32 = 100_000;
