//! A scenario's lines as they come due, and a run written down as a scenario.

use quorate_raft::NodeId;

use super::clients::WatcherSlot;
use super::{Event, Simulation, place};
use crate::invariants::Violation;
use crate::nemesis::{Target, World};
use crate::scenario::{Action, Depths, Expected, Operation, Scenario, Step, WatcherAction, When};
use crate::time::Time;
use crate::workload::Outcome;
use crate::workload::watch::Watcher;

/// The lines, and what waits for something to be so.
#[derive(Debug)]
pub struct Script {
    steps: Vec<Step>,
    armed: Vec<usize>,
    happened: Vec<bool>,
    /// Lines whose condition has to become so by a time.
    awaited: Vec<(usize, Time)>,
    /// Lines whose condition must not become so, until a time.
    forbidden: Vec<(usize, Time)>,
    /// The slot of each watcher that a line has begun.
    watchers: Vec<(u64, u32)>,
}

impl Script {
    /// A scenario's lines.
    pub fn new(scenario: &Scenario) -> Script {
        Script {
            steps: scenario.steps.clone(),
            armed: Vec::new(),
            happened: vec![false; scenario.steps.len()],
            awaited: Vec::new(),
            forbidden: Vec::new(),
            watchers: Vec::new(),
        }
    }

    /// Whether nothing depends on what a member's status is.
    fn is_indifferent(&self) -> bool {
        self.armed.is_empty() && self.awaited.is_empty() && self.forbidden.is_empty()
    }

    /// Where a watcher is.
    pub fn watcher(&self, number: u64) -> Option<u32> {
        self.watchers.iter().find(|(other, _)| *other == number).map(|(_, slot)| *slot)
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
        match &line.when {
            When::At(_) => {}
            When::After(delay) => {
                let at = self.time + *delay;
                self.queue.push(at, Event::Script { step });
            }
            When::On(condition, delay) if self.holds(condition) => {
                let at = self.time + *delay;
                self.queue.push(at, Event::Script { step });
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
        let Some(script) = self.script.as_ref().filter(|script| !script.is_indifferent()) else { return };
        let due = |step: &usize| match &script.steps[*step].when {
            When::On(condition, delay) => self.holds(condition).then_some((*step, *delay)),
            _ => None,
        };
        let due: Vec<_> = script.armed.iter().filter_map(due).collect();
        let condition = |step: usize| match &script.steps[step].action {
            Action::Require(condition, _) | Action::Never(condition, _) => Some(condition),
            _ => None,
        };
        let so = |(step, _): &&(usize, Time)| condition(*step).is_some_and(|condition| self.holds(condition));
        let fulfilled: Vec<usize> = script.awaited.iter().filter(so).map(|(step, _)| *step).collect();
        let now = self.time;
        let broken = script.forbidden.iter().filter(|(_, until)| now <= *until).find(so);
        let broken = broken.map(|(step, _)| script.steps[*step].clone());
        if let Some(script) = &mut self.script {
            script.armed.retain(|armed| !due.iter().any(|(step, _)| step == armed));
            script.awaited.retain(|(awaited, _)| !fulfilled.contains(awaited));
        }
        for (step, delay) in due {
            self.queue.push(self.time + delay, Event::Script { step });
        }
        fulfilled.into_iter().for_each(|step| self.arm(step + 1));
        if let Some(Step { line, action: Action::Never(condition, _), .. }) = broken {
            self.scenario_breaks(format!("line {line}: {condition}, which it never is to be"));
        }
    }

    /// A line is due.
    pub(super) fn script_acts(&mut self, step: usize) {
        let Some(script) = &mut self.script else { return };
        if script.happened[step] {
            return self.deadline_passes(step);
        }
        script.happened[step] = true;
        let Step { line, action, .. } = script.steps[step].clone();
        match action {
            Action::Fault { fault, lasts } => {
                let lasts = lasts.unwrap_or(self.options.storm);
                if !self.with_nemesis(|nemesis, time, world| nemesis.strike(time, lasts, fault, world)) {
                    let why = if self.may_operate(&fault) {
                        "would leave the cluster without a quorum (say \"budget off\" before the schedule if that is \
                         meant)"
                    } else {
                        "makes no sense now: the operator is busy with another change (wait for \"operator idle\"), \
                         or the member is not there"
                    };
                    let detail = format!("line {line}: {fault} {why}");
                    self.demand(Err(Violation { invariant: "fault budget", detail }));
                }
            }
            Action::Heal(name) => {
                self.with_nemesis(|nemesis, _, world| {
                    nemesis.heal(name, world);
                    true
                });
            }
            Action::Operation(operation) => self.line_asks(line, operation),
            Action::Watcher(number, action) => self.line_watches(number, action),
            Action::Require(condition, within) => {
                if !self.holds(&condition) {
                    match within {
                        None => {
                            self.scenario_breaks(format!(
                                "line {line}: {condition} is required, and is not so"
                            ));
                        }
                        // The next line comes when it has become so.
                        Some(period) => return self.awaits(step, self.time + period.length(&self.options)),
                    }
                }
            }
            Action::Never(condition, lasts) => {
                if self.holds(&condition) {
                    self.scenario_breaks(format!("line {line}: {condition}, which it never is to be"));
                }
                let until = self.time + lasts.unwrap_or(self.options.storm);
                if let Some(script) = &mut self.script {
                    script.forbidden.push((step, until.min(Time::ZERO + self.options.storm)));
                }
            }
        }
        self.arm(step + 1);
    }

    /// A line's condition has to become so by then.
    fn awaits(&mut self, step: usize, deadline: Time) {
        if let Some(script) = &mut self.script {
            script.awaited.push((step, deadline));
        }
        self.queue.push(deadline, Event::Script { step });
    }

    /// By now a line's condition had to become so.
    fn deadline_passes(&mut self, step: usize) {
        let Some(script) = &self.script else { return };
        if script.awaited.iter().any(|(awaited, _)| *awaited == step) {
            let Step { line, action, .. } = &script.steps[step];
            let detail = format!("line {line}: it has not become so: {action}");
            self.scenario_breaks(detail);
        }
    }

    fn line_asks(&mut self, line: usize, operation: Operation) {
        let member = match operation.member {
            Some(Target::Node(node)) => node,
            Some(Target::Leader(otherwise)) => World::leader(self).unwrap_or(otherwise),
            None => World::leader(self).unwrap_or(NodeId(1)),
        };
        let slot = operation.client as u32;
        self.clients[slot as usize].queue(line, member, operation);
        self.ask_queued(slot);
    }

    fn line_watches(&mut self, number: u64, action: WatcherAction) {
        let slot = self.script.as_ref().and_then(|script| script.watcher(number));
        match (action, slot) {
            (WatcherAction::Watch { member, keys, from, prev_kv, slowly }, slot) => {
                slot.into_iter().for_each(|slot| self.watcher_stops(slot));
                let new = self.watchers.len() as u32;
                let watcher = Watcher::scripted(member, keys, from, prev_kv, if slowly { 1 } else { 1_000 });
                self.watchers.push(WatcherSlot::new(new, watcher));
                if let Some(script) = &mut self.script {
                    script.watchers.retain(|(other, _)| *other != number);
                    script.watchers.push((number, new));
                }
                self.watch_opens(new);
            }
            (WatcherAction::Resume(member), Some(slot)) => self.watcher_moves(slot, member),
            (WatcherAction::Progress, Some(slot)) => self.watcher_asks_progress(slot),
            (WatcherAction::Stop, Some(slot)) => self.watcher_stops(slot),
            (_, None) => unreachable!("the reader has seen that it watches"),
        }
    }

    /// The storm is over: a line that waits still would make the scenario say less than it seems to.
    pub(super) fn script_must_be_over(&mut self) {
        let Some(script) = &self.script else { return };
        if let Some((step, _)) = script.awaited.first() {
            let Step { line, action, .. } = &script.steps[*step];
            let detail = format!("line {line}: it has not become so when the storm ended: {action}");
            return self.scenario_breaks(detail);
        }
        let waits = |(line, happened): &(&Step, &bool)| !**happened && !matches!(line.when, When::At(_));
        if let Some((line, _)) = script.steps.iter().zip(&script.happened).find(waits) {
            let detail = format!("line {} never happened: {line}", line.line);
            self.scenario_breaks(detail);
        }
    }

    fn scenario_breaks(&mut self, detail: String) {
        self.demand(Err(Violation { invariant: "scenario", detail }));
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
        let workers = self.options.load.clients;
        let calls = self.recorder.calls().zip(&self.asked);
        let calls = calls
            .filter(|(_, (slot, _))| u64::from(*slot) < workers)
            .map(|((at, request), (slot, member))| (at, u64::from(*slot), Some(*member), request.clone()));
        let depths = Depths { core: true, whole: false };
        Scenario::of_run(&self.options, depths, self.faults_begun(), calls)
    }

    /// An answer was not what its line says.
    pub(super) fn unexpected(&mut self, line: usize, node: NodeId, wanted: &Expected, found: &Outcome) {
        let said = match found {
            Outcome::Answered(response) => format!("{:?}", response.result),
            other => other.name().to_owned(),
        };
        let detail =
            format!("line {line}: the answer of n{} was to be {wanted}, and is {said}", place(node) + 1);
        self.scenario_breaks(detail);
    }
}
