//! Every model and every direct check on histories of our own: one that is right, and one for each way to be
//! wrong. Histories are written as one line per event: process, kind, operation, value.

use quorate_jepsen::Verdict;
use quorate_jepsen::format::{self, ReadOptions};
use quorate_jepsen::report::{ModelName, Settings, judge};

/// The verdict's rule, or `valid`, or `unknown`.
fn rule_with(model: Option<&str>, events: &str, settings: &Settings<'_>) -> String {
    let lines: Vec<String> = events
        .trim()
        .split('\n')
        .map(|event| {
            let mut words = event.split_whitespace();
            let mut word = || words.next().expect("process, kind, operation and value");
            let (process, kind, f) = (word(), word(), word());
            let value = event.split_once(f).map_or("nil", |(_, value)| value.trim());
            let value = if value.is_empty() { "nil" } else { value };
            format!("{{:process {process}, :type :{kind}, :f :{f}, :value {value}}}")
        })
        .collect();
    let recording = format::read(&lines.join("\n"), None, ReadOptions::default()).expect("EDN");
    let model: Option<ModelName> = model.map(|name| name.parse().expect("a model"));
    let report = judge(&recording, &Settings { model, ..settings.clone() }).expect("the model fits");
    match report.verdict {
        Verdict::Valid => "valid".to_owned(),
        Verdict::Invalid(violation) => {
            assert!(!violation.operations.is_empty(), "{violation} shows nothing");
            violation.rule.to_owned()
        }
        Verdict::Unknown(_) => "unknown".to_owned(),
    }
}

fn rule(model: &str, events: &str) -> String {
    rule_with(Some(model), events, &Settings::default())
}

/// Operations one after the other, each acknowledged with the value it was called with or the one given.
fn one_by_one(operations: &[(&str, &str, &str)]) -> String {
    let mut events = String::new();
    for (f, asked, answered) in operations {
        events.push_str(&format!("0 invoke {f} {asked}\n0 ok {f} {answered}\n"));
    }
    events
}

#[test]
fn queues_give_what_they_got() {
    let fifo = one_by_one(&[
        ("enqueue", "1", "1"),
        ("enqueue", "2", "2"),
        ("dequeue", "nil", "1"),
        ("dequeue", "nil", "2"),
    ]);
    let swapped = fifo.replace("dequeue 1", "dequeue X").replace("dequeue 2", "dequeue 1").replace('X', "2");
    assert_eq!(rule("fifo-queue", &fifo), "valid");
    assert_eq!(rule("fifo-queue", &swapped), "not-linearizable");
    assert_eq!(rule("queue", &swapped), "valid");
    assert_eq!(rule("queue", &fifo.replace("dequeue 2", "dequeue 1")), "not-linearizable");
    let lost_answer =
        "0 invoke enqueue 1\n0 ok enqueue 1\n1 invoke dequeue\n2 invoke dequeue\n2 ok dequeue nil";
    assert_eq!(rule("queue", lost_answer), "valid", "the lost answer may have had it");
    assert_eq!(rule("fifo-queue", lost_answer), "valid");
}

#[test]
fn a_drained_queue_has_lost_nothing() {
    let put = "0 invoke enqueue 1\n0 ok enqueue 1\n1 invoke enqueue 2\n1 info enqueue 2\n";
    let drained = |values: &str| rule("total-queue", &format!("{put}2 invoke drain\n2 ok drain {values}"));
    assert_eq!(drained("[1]"), "valid");
    assert_eq!(drained("[2 1]"), "valid");
    assert_eq!(drained("[2]"), "queue-lost");
    assert_eq!(drained("[1 3]"), "queue-unexpected");
    assert_eq!(drained("[1 1]"), "queue-duplicate");
    assert_eq!(rule("total-queue", put), "unknown");
}

#[test]
fn sets_keep_what_was_added() {
    let add = "0 invoke add 1\n0 ok add 1\n1 invoke add 2\n1 info add 2\n";
    let set = |values: &str| rule("set", &format!("{add}0 invoke read\n0 ok read {values}"));
    assert_eq!(set("#{1}"), "valid");
    assert_eq!(set("[2 1]"), "valid");
    assert_eq!(set("[2]"), "set-lost");
    assert_eq!(set("[1 3]"), "set-unexpected");
    assert_eq!(rule("set", add), "unknown");
    let full = |reads: &[&str]| {
        let reads: Vec<String> =
            reads.iter().map(|values| format!("0 invoke read\n0 ok read {values}\n")).collect();
        rule("set-full", &format!("{add}{}", reads.concat()))
    };
    assert_eq!(full(&["[1]", "[1 2]", "[2 1]"]), "valid");
    assert_eq!(full(&["[]", "[1]"]), "valid", "late, but it came");
    assert_eq!(full(&["[1]", "[2]"]), "set-lost");
    assert_eq!(full(&["[1 2]", "[1]"]), "set-lost", "seen once, it was there");
    assert_eq!(full(&["[1 1]"]), "set-duplicate");
    assert_eq!(full(&["[1 7]"]), "set-unexpected");
    let object = one_by_one(&[
        ("add", "1", "1"),
        ("contains", "1", "true"),
        ("remove", "1", "1"),
        ("contains", "1", "false"),
        ("read", "nil", "#{}"),
    ]);
    assert_eq!(rule("linearizable-set", &object), "valid");
    assert_eq!(rule("linearizable-set", &object.replace("#{}", "#{1}")), "not-linearizable");
}

#[test]
fn counters_stay_within_what_was_added() {
    let add = "0 invoke add 5\n0 ok add 5\n1 invoke add 3\n1 info add 3\n2 invoke add -1\n2 ok add -1\n";
    let read = |value: &str| rule("counter", &format!("{add}0 invoke read\n0 ok read {value}"));
    assert_eq!([read("4"), read("7")], ["valid", "valid"]);
    assert_eq!(read("6"), "valid", "bounds are all that is checked");
    assert_eq!([read("3"), read("8")], ["counter-bounds", "counter-bounds"]);
    let exact = |value: &str| rule("linearizable-counter", &format!("{add}0 invoke read\n0 ok read {value}"));
    assert_eq!([exact("4"), exact("7")], ["valid", "valid"]);
    assert_eq!(exact("6"), "not-linearizable");
}

#[test]
fn banks_keep_their_money() {
    let reads =
        |second: &str| format!("0 invoke read\n0 ok read {{0 10, 1 5}}\n1 invoke read\n1 ok read {second}");
    assert_eq!(rule("bank", &reads("{0 12, 1 3}")), "valid");
    assert_eq!(rule("bank", &reads("{0 12, 1 4}")), "bank-total");
    assert_eq!(rule("bank", &reads("{0 15}")), "bank-accounts");
    assert_eq!(rule("bank", &reads("{0 16, 1 -1}")), "bank-negative");
    let overdrawn = Settings { negative_balances: true, ..Settings::default() };
    assert_eq!(rule_with(Some("bank"), &reads("{0 16, 1 -1}"), &overdrawn), "valid");
    let hundred = Settings { total: Some(100), ..Settings::default() };
    assert_eq!(rule_with(Some("bank"), &reads("{0 12, 1 3}"), &hundred), "bank-total");
}

#[test]
fn locks_know_their_holder() {
    let twice = "0 invoke acquire\n0 ok acquire\n0 invoke acquire\n0 ok acquire\n";
    let stolen = "0 invoke acquire\n0 ok acquire\n1 invoke release\n1 ok release\n";
    let two = "0 invoke acquire\n0 ok acquire\n1 invoke acquire\n1 ok acquire\n";
    assert_eq!(rule("mutex", stolen), "valid");
    assert_eq!(rule("owner-mutex", stolen), "not-linearizable");
    assert_eq!(rule("owner-mutex", twice), "not-linearizable");
    assert_eq!(rule("reentrant-mutex", twice), "valid");
    assert_eq!(rule("reentrant-mutex", two), "not-linearizable");
    assert_eq!(rule("semaphore", two), "valid");
    let one = Settings { permits: Some(1), ..Settings::default() };
    assert_eq!(rule_with(Some("semaphore"), two, &one), "not-linearizable");
    let fenced = |token: &str| {
        let first = "0 invoke acquire\n0 ok acquire 7\n0 invoke release\n0 ok release\n";
        rule_with(None, &format!("{first}1 invoke acquire\n1 ok acquire {token}"), &Settings::default())
    };
    assert_eq!([fenced("8"), fenced("7")], ["valid", "not-linearizable"]);
}

#[test]
fn ids_differ_and_nobody_misses_what_came_before() {
    assert_eq!(
        rule("unique-ids", &one_by_one(&[("generate", "nil", "1"), ("generate", "nil", "2")])),
        "valid"
    );
    let same = one_by_one(&[("generate", "nil", "1"), ("generate", "nil", "1")]);
    assert_eq!(rule("unique-ids", &same), "duplicate-id");
    let comments = one_by_one(&[("write", "1", "1"), ("write", "2", "2"), ("read", "nil", "#{1 2}")]);
    assert_eq!(rule("comments", &comments), "valid");
    assert_eq!(rule("comments", &comments.replace("#{1 2}", "#{2}")), "missed-write");
}

#[test]
fn all_see_writes_in_one_order() {
    let write = "0 invoke write [[:w 1 1]]\n1 invoke write [[:w 2 1]]\n0 ok write [[:w 1 1]]\n1 ok write [[:w 2 1]]\n";
    let read = |process: u64, values: &str| {
        format!("{process} invoke read [[:r 1 nil] [:r 2 nil]]\n{process} ok read {values}\n")
    };
    let one = read(2, "[[:r 1 1] [:r 2 nil]]");
    let other = read(3, "[[:r 1 nil] [:r 2 1]]");
    let guessed = |events: &str| rule_with(None, events, &Settings::default());
    assert_eq!(guessed(&format!("{write}{one}")), "valid");
    assert_eq!(guessed(&format!("{write}{one}{other}")), "G-nonadjacent-item");
}

#[test]
fn cycles_of_transactions_are_drawn() {
    let skew = "{:process 0 :type :invoke :f :txn :value [[:r x nil] [:append y 1]]}
        {:process 1 :type :invoke :f :txn :value [[:r y nil] [:append x 1]]}
        {:process 0 :type :ok :f :txn :value [[:r x nil] [:append y 1]]}
        {:process 1 :type :ok :f :txn :value [[:r y nil] [:append x 1]]}";
    let recording = format::read(skew, None, ReadOptions::default()).expect("EDN");
    let report = judge(&recording, &Settings::default()).expect("transactions");
    let picture = report.picture.expect("what is invalid is drawn");
    assert_eq!(picture.bars.len(), 2);
    let kinds: Vec<&str> = picture.cycles[0].edges.iter().map(|edge| edge.kind.as_str()).collect();
    assert_eq!((picture.cycles[0].name.as_str(), kinds), ("G2-item", vec!["rw", "rw"]));
}
