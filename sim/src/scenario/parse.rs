//! Reads a scenario.

use std::time::Duration;

use quorate_raft::NodeId;

use super::words::{Mistake, Read, Words};
use super::{Action, Condition, Expect, Operation, Scenario, Step, When, faults, options, requests};
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
        "budget" if words.take("off") => scenario.budget = false,
        "budget" => words.expect("on")?,
        name => match options::read(name, words, &mut scenario.options) {
            Some(read) => read?,
            None => {
                let names: Vec<&str> = options::names().collect();
                let what = format!(
                    "there is no option {name:?} (there are source, expect, budget, {})",
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
        let condition = condition(words)?;
        let delay = if words.take("after") { words.duration()? } else { Duration::ZERO };
        When::On(condition, delay)
    };
    Ok(Step { line, when, action: action(words, options)? })
}

fn action(words: &mut Words, options: &Options) -> Read<Action> {
    if words.take("client") {
        return operation(words).map(Action::Operation);
    }
    if words.take("require") {
        return condition(words).map(Action::Require);
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
        Some("leader") => Some(Target::Leader(NodeId(1))),
        Some(name) => {
            name.strip_prefix('n').and_then(|id| id.parse().ok()).map(|id| Target::Node(NodeId(id)))
        }
        None => None,
    };
    let Some(member) = member else {
        return Err(words.back().wrong("expected a member and a colon (such as \"n1:\" or \"leader:\")"));
    };
    let request = requests::read(words)?;
    let outcome = if words.take("->") {
        let name = words.word("an outcome")?;
        let known = OUTCOMES.into_iter().find(|outcome| *outcome == name);
        Some(known.ok_or_else(|| words.back().wrong("expected ok, error, refused or unknown"))?)
    } else {
        None
    };
    Ok(Operation { client, member, request, outcome })
}

fn condition(words: &mut Words) -> Read<Condition> {
    if words.take("client") {
        let client = words.number("a client's number")?;
        return words.expect("idle").map(|()| Condition::Idle(client));
    }
    let node = if words.take("any") { None } else { Some(words.node()?) };
    let verb = words.word("leads, commits, applies, holds or reaches-term")?;
    Ok(match verb.as_str() {
        "leads" => Condition::Leads(node),
        "commits" => Condition::Commits(node, words.number("an index")?),
        "applies" => Condition::Applies(node, words.number("an index")?),
        "holds" => Condition::Holds(node, words.number("an index")?),
        "reaches-term" => Condition::Term(node, words.number("a term")?),
        _ => return Err(words.back().wrong("expected leads, commits, applies, holds or reaches-term")),
    })
}

/// What can be seen only when everything is read; and there are as many clients as are named.
fn check(scenario: &mut Scenario) -> Result<(), Mistake> {
    let members = scenario.options.members;
    let mut clients = scenario.options.load.clients;
    for step in &scenario.steps {
        let wrong = |what: String| Err(Mistake { line: step.line, column: 1, what });
        let beyond = match &step.action {
            Action::Fault { fault, .. } => highest(fault),
            Action::Operation(Operation { member: Target::Node(node), client, .. }) => {
                clients = clients.max(client + 1);
                node.0
            }
            Action::Operation(Operation { client, .. }) => {
                clients = clients.max(client + 1);
                0
            }
            Action::Heal(_) | Action::Require(_) => 0,
        };
        if beyond > members {
            return wrong(format!("there is no member n{beyond} in a cluster of {members}"));
        }
        if let (When::At(at), Action::Fault { .. }) = (step.when, &step.action)
            && at >= Time::ZERO + scenario.options.storm
        {
            return wrong(format!("the storm is over after {:?}: make it longer", scenario.options.storm));
        }
    }
    scenario.options.load.clients = clients;
    Ok(())
}

/// The highest member that a fault names.
fn highest(fault: &Fault) -> u64 {
    match (fault.target(), fault) {
        (Some(Target::Node(node)), _) => node.0,
        (_, Fault::Cut { links, .. } | Fault::Clog { links }) => {
            links.members().last().map_or(0, |node| node.0)
        }
        _ => 0,
    }
}

const OUTCOMES: [&str; 4] = ["ok", "error", "refused", "unknown"];

/// More clients than any run needs.
const CLIENTS_MAX: u64 = 1_000;
