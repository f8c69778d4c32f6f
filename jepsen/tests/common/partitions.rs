//! Histories of clusters that are cut again and again: while it lasts hardly anything is answered, and what was asked
//! meanwhile happens at once, when the cut ends, much later, or never. So dozens of writes of unknown outcome pile up
//! before as many revisions that nobody claims.

use quorate_jepsen::etcd::{EtcdHistory, Request, Store};
use quorate_jepsen::{Operation, Returned};

use super::{Random, Shape, execute, random_request};

/// What becomes of an operation.
#[derive(Clone, Copy)]
struct Plan {
    call: u64,
    /// When it takes effect, if it does.
    effect: Option<u64>,
    /// When it is answered, if it is.
    end: Option<u64>,
    process: u64,
}

/// A history of `shape.operations`, about `shape.unknown` percent of which are never answered.
pub fn partitioned_history(random: &mut Random, shape: Shape) -> EtcdHistory {
    let plans = plans(random, shape);
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (number, plan) in plans.iter().enumerate() {
        events.push((plan.call, false, number));
        events.extend(plan.effect.map(|effect| (effect, true, number)));
    }
    events.sort_unstable();
    let mut store = Store::new();
    let mut history = EtcdHistory::default();
    let mut requests: Vec<Option<Request>> = vec![None; plans.len()];
    let mut answers = vec![None; plans.len()];
    let (mut counter, mut log) = (0, Vec::new());
    for (at, takes_effect, number) in events {
        if takes_effect {
            let request = requests[number].as_ref().expect("it was called before");
            answers[number] = Some(execute(&mut store, request, at, &mut log));
        } else {
            requests[number] = Some(random_request(random, shape, &store, &mut counter));
        }
    }
    for ((plan, request), answer) in plans.into_iter().zip(requests).zip(answers) {
        let returned = plan.end.map(|at| Returned { at, output: answer.expect("what is answered was done") });
        let (process, call) = (plan.process, plan.call);
        let input = request.expect("every one was called");
        history.operations.operations.push(Operation { process, call, input, returned });
    }
    history.operations.operations.sort_by_key(|operation| operation.call);
    history
}

fn plans(random: &mut Random, shape: Shape) -> Vec<Plan> {
    let mut plans = Vec::new();
    let mut clients: Vec<(u64, u64)> = (0..shape.processes).map(|process| (1, process)).collect();
    let mut processes = shape.processes;
    let (mut is_cut, mut now) = (false, 0);
    while plans.len() < shape.operations {
        // One cut and what comes before it: some dozens of operations.
        let cycle = 40 + random.below(160);
        let share = if is_cut { shape.unknown } else { 100 - shape.unknown };
        let length = (cycle * share / 100).max(1);
        let heals = now + 40 * length / shape.processes + 20;
        for _ in 0..length {
            let client = clients.iter_mut().min().expect("there are clients");
            let call = client.0.max(now) + 1 + random.below(4);
            now = now.max(client.0);
            let is_answered = random.chance(if is_cut { 3 } else { 97 });
            let effect = call + random.below(20);
            let end = effect + random.below(20);
            let process = client.1;
            if is_answered {
                plans.push(Plan { call, effect: Some(effect), end: Some(end), process });
                client.0 = end + 1;
                continue;
            }
            let effect = match random.below(10) {
                0..=4 => None,
                5..=6 => Some(effect),
                7..=8 => Some(heals.max(call) + random.below(10)),
                _ => Some(heals.max(call) + random.below(400)),
            };
            plans.push(Plan { call, effect, end: None, process });
            // It gives up at last, and goes on as somebody else.
            (client.0, client.1) = (end + 20, processes);
            processes += 1;
        }
        is_cut = !is_cut;
    }
    plans
}
