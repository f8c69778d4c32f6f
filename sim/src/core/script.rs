//! A scenario's lines as they come due, and a run written down as a scenario.

use quorate_raft::{NodeId, Role};

use super::{Event, Simulation, place};
use crate::invariants::Violation;
use crate::nemesis::Target;
use crate::scenario::{Action, Condition, Expect, Scenario, Step, When};
use crate::time::Time;
use crate::trace::StatusLine;

/// The lines, and those that wait for something to be so.
#[derive(Debug)]
pub struct Script {
    steps: Vec<Step>,
    armed: Vec<usize>,
    happened: Vec<bool>,
}

impl Script {
    /// A scenario's lines.
    pub fn new(scenario: &Scenario) -> Script {
        Script {
            steps: scenario.steps.clone(),
            armed: Vec::new(),
            happened: vec![false; scenario.steps.len()],
        }
    }
}

impl Simulation {
    /// Schedules the lines that have a time, and what the first line waits for.
    pub(super) fn begin_script(&mut self) {
        let Some(script) = &self.script else { return };
        for (step, line) in script.steps.iter().enumerate() {
            if let When::At(at) = line.when {
                self.queue.push(at, Event::Script { step });
            }
        }
        self.arm(0);
    }

    /// The line before this one has happened.
    fn arm(&mut self, step: usize) {
        let Some(line) = self.script.as_ref().and_then(|script| script.steps.get(step)) else { return };
        match line.when {
            When::At(_) => {}
            When::After(delay) => self.queue.push(self.time + delay, Event::Script { step }),
            When::On(condition, delay) if self.holds(condition) => {
                self.queue.push(self.time + delay, Event::Script { step });
            }
            When::On(..) => {
                if let Some(script) = &mut self.script {
                    script.armed.push(step);
                }
            }
        }
    }

    /// Something has changed: what waited for it comes due.
    pub(super) fn check_script(&mut self) {
        let Some(script) = self.script.as_ref().filter(|script| !script.armed.is_empty()) else { return };
        let due = |step: &usize| match script.steps[*step].when {
            When::On(condition, delay) => self.holds(condition).then_some((*step, delay)),
            _ => None,
        };
        let due: Vec<_> = script.armed.iter().filter_map(due).collect();
        for (step, delay) in due {
            if let Some(script) = &mut self.script {
                script.armed.retain(|armed| *armed != step);
            }
            self.queue.push(self.time + delay, Event::Script { step });
        }
    }

    fn holds(&self, condition: Condition) -> bool {
        let any = |node: Option<NodeId>, test: &dyn Fn(&StatusLine) -> bool| {
            let members = self.members.iter().filter(|member| node.is_none_or(|node| node == member.id));
            members.filter(|member| member.is_up()).any(|member| test(&member.status))
        };
        match condition {
            Condition::Leads(node) => any(node, &|status| status.role == Role::Leader),
            Condition::Commits(node, index) => any(node, &|status| status.commit >= index),
            Condition::Applies(node, index) => any(node, &|status| status.applied >= index),
            Condition::Holds(node, index) => any(node, &|status| status.last >= index),
            Condition::Term(node, term) => any(node, &|status| status.term >= term),
            Condition::Idle(client) => self.clients.get(client as usize).is_none_or(|slot| slot.is_idle()),
        }
    }

    /// A line is due.
    pub(super) fn script_acts(&mut self, step: usize) {
        let Some(script) = &mut self.script else { return };
        script.happened[step] = true;
        let line = script.steps[step].clone();
        match line.action {
            Action::Fault { fault, lasts } => {
                let lasts = lasts.unwrap_or(self.options.storm);
                if !self.with_nemesis(|nemesis, time, world| nemesis.strike(time, lasts, fault, world)) {
                    let detail = format!(
                        "line {}: {fault} would leave the cluster without a quorum (say \"budget off\" before \
                         the schedule if that is meant)",
                        line.line
                    );
                    self.demand(Err(Violation { invariant: "fault budget", detail }));
                }
            }
            Action::Heal(name) => {
                self.with_nemesis(|nemesis, _, world| {
                    nemesis.heal(name, world);
                    true
                });
            }
            Action::Operation(operation) => {
                let member = match operation.member {
                    Target::Node(node) => node,
                    Target::Leader(otherwise) => crate::nemesis::World::leader(self).unwrap_or(otherwise),
                };
                let slot = operation.client as u32;
                self.clients[slot as usize].queue(line.line, member, operation);
                self.ask_queued(slot);
            }
            Action::Require(condition) => {
                if !self.holds(condition) {
                    let detail = format!("line {}: {condition} is required, and is not so", line.line);
                    self.demand(Err(Violation { invariant: "scenario", detail }));
                }
            }
        }
        self.arm(step + 1);
    }

    /// The storm is over: a line that waits still would make the scenario say less than it seems to.
    pub(super) fn script_must_be_over(&mut self) {
        let Some(script) = &self.script else { return };
        let waits = |(line, happened): &(&Step, &bool)| !**happened && !matches!(line.when, When::At(_));
        if let Some((line, _)) = script.steps.iter().zip(&script.happened).find(waits) {
            let detail = format!("line {} never happened: {line}", line.line);
            self.demand(Err(Violation { invariant: "scenario", detail }));
        }
    }

    /// Lets the nemesis do something. True if there is none any more, because the storm is over.
    fn with_nemesis(
        &mut self,
        act: impl FnOnce(&mut crate::nemesis::Nemesis, Time, &mut Simulation) -> bool,
    ) -> bool {
        let Some(mut nemesis) = self.nemesis.take() else { return true };
        let done = act(&mut nemesis, self.time, self);
        self.nemesis = Some(nemesis);
        self.schedule_nemesis();
        done
    }

    /// What has happened, as a scenario: every fault and every request at its time.
    pub(super) fn as_scenario(&self) -> Scenario {
        let begun = self.nemesis.as_ref().map_or(&self.faults_begun[..], |nemesis| nemesis.begun());
        let faults = begun.iter().map(|step| Step {
            line: 0,
            when: When::At(step.at),
            action: Action::Fault { fault: step.fault, lasts: Some(step.lasts) },
        });
        let calls = self.recorder.calls().zip(&self.asked);
        let workers = self.options.load.clients;
        let operations = calls.filter(|(_, (slot, _))| u64::from(*slot) < workers).map(
            |((at, request), (slot, member))| Step {
                line: 0,
                when: When::At(at),
                action: Action::Operation(crate::scenario::Operation {
                    client: u64::from(*slot),
                    member: Target::Node(*member),
                    request: request.clone(),
                    outcome: None,
                }),
            },
        );
        let mut steps: Vec<Step> = faults.chain(operations).collect();
        steps.sort_by_key(|step| match step.when {
            When::At(at) => at,
            _ => Time::ZERO,
        });
        Scenario {
            comment: Vec::new(),
            source: String::new(),
            expect: Expect::Pass,
            budget: true,
            options: self.options.clone(),
            steps,
        }
    }

    /// An answer was not what its line says.
    pub(super) fn unexpected(&mut self, line: usize, node: NodeId, wanted: &str, found: &str) {
        let detail =
            format!("line {line}: the answer of n{} was to be {wanted}, and is {found}", place(node) + 1);
        self.demand(Err(Violation { invariant: "scenario", detail }));
    }
}
