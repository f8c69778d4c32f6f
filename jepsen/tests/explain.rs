//! Explanations are true: every order that a picture shows is one, it is whole if the history is valid, and the
//! operations that show a violation are few and among the words.

use proptest::prelude::*;
use quorate_jepsen::explain::{Picture, html};
use quorate_jepsen::format::{self, ReadOptions};
use quorate_jepsen::report::{Report, Settings, judge};

/// One operation of a random history: process, call, length, and what it does.
type Random = (u64, u64, Option<u64>, bool, i64);

fn lines(operations: &[Random]) -> String {
    let line = |(process, call, length, writes, value): &Random| {
        let returned = length.map_or(String::new(), |length| format!(r#""return":{},"#, call + length));
        let (f, value, output) = if *writes {
            ("write", value.to_string(), "null".into())
        } else {
            ("read", "null".into(), value.to_string())
        };
        format!(
            r#"{{"process":{process},"call":{call},{returned}"f":"{f}","value":{value},"output":{output}}}"#
        )
    };
    operations.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn report(text: &str) -> Report {
    let recording = format::read(text, None, ReadOptions::default()).expect("well formed");
    judge(&recording, &Settings { draw: true, ..Settings::default() }).expect("a register")
}

/// Whether the order of the picture's one part is one: by the register's rule, and by the times.
fn assert_is_an_order(picture: &Picture, operations: &[Random]) {
    let (mut state, mut latest_call) = (None, 0);
    for step in &picture.parts[0].order {
        let (_, call, length, writes, value) = operations[picture.bars[step.bar].id];
        assert!(length.is_none_or(|length| call + length >= latest_call), "it had returned before");
        latest_call = latest_call.max(call);
        if writes {
            state = Some(value);
        } else {
            assert_eq!(state, Some(value), "a read finds what was written last");
        }
        assert_eq!(step.state, state.expect("written").to_string());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_a_picture_shows_is_true(
        operations in prop::collection::vec(
            (0..4_u64, 0..20_u64, prop::option::weighted(0.8, 0..8_u64), any::<bool>(), 0..3_i64),
            1..12,
        ),
    ) {
        let report = report(&lines(&operations));
        let picture = report.picture.expect("asked for");
        assert_is_an_order(&picture, &operations);
        let part = &picture.parts[0];
        if report.verdict.is_valid() {
            prop_assert!(part.stuck.is_none() && report.why.is_empty());
            let answered = operations.iter().filter(|operation| operation.2.is_some()).count();
            prop_assert!(part.order.len() >= answered, "a witness has all that was answered");
        } else {
            let stuck = part.stuck.as_ref().expect("no order is whole");
            prop_assert!(stuck.exhaustive && stuck.states.len() <= 4, "a few operations are searched through");
            prop_assert_eq!(picture.bars.iter().filter(|bar| bar.core == 2).count(), 1);
            prop_assert!(report.why.len() >= 2 || picture.bars.iter().filter(|bar| bar.core > 0).count() == 1);
        }
    }
}

#[test]
fn a_stale_read_is_told_as_a_story() {
    let text = r#"{"process":1,"call":10,"return":20,"f":"write","value":5}
{"process":2,"call":30,"return":40,"f":"write","value":6}
{"process":4,"call":31,"return":33,"f":"read","output":5}
{"process":3,"call":50,"return":60,"f":"read","output":5}"#;
    let report = report(text);
    let told = "process 3 read 5 at op 3, after process 1 wrote 5 at op 0 and process 2 wrote 6 at op 1";
    assert_eq!(report.why[0], told);
    assert!(
        report.why[1].contains("before op 3 (read 5) returns; the longest has 3 steps"),
        "{}",
        report.why[1]
    );
    let page = html::page(&report.picture.expect("drawn"));
    assert!(page.contains(told), "the page says the same");
}

#[test]
fn an_operation_that_is_wrong_by_itself_is_told_first() {
    let report = report(r#"{"process":3,"call":50,"return":60,"f":"read","output":5}"#);
    assert_eq!(report.why[0], "process 3 read 5, which is a value that nobody wrote");
    assert_eq!(report.evidence, ["* op 0   [50, 60]         process 3    read 5"]);
}

#[test]
fn what_is_asked_of_transactions_is_not_asked_of_others() {
    let text = r#"{"process":3,"call":50,"return":60,"f":"read","output":5}"#;
    let recording = format::read(text, None, ReadOptions::default()).expect("lines");
    let transactions = Some(quorate_jepsen::txn::Options::default());
    let refused = judge(&recording, &Settings { transactions, ..Settings::default() });
    let error = refused.expect_err("a register has no level of isolation");
    assert!(error.contains("this is judged as register"), "{error}");
}

#[test]
fn etcd_is_ordered_by_its_revisions() {
    let text = r#"{"process":0,"call":10,"return":25,"request":{"put":{"key":"k","value":"v"}},"response":{"revision":2,"result":{"Ok":{"put":{}}}}}
{"process":0,"call":30,"return":35,"request":{"put":{"key":"k","value":"w"}},"response":{"revision":3,"result":{"Ok":{"put":{}}}}}
{"process":1,"call":40,"return":45,"request":{"range":{"key":"k"}},"response":{"revision":2,"result":{"Ok":{"range":{"kvs":[{"key":"k","value":"v","create_revision":2,"mod_revision":2,"version":1}],"count":1}}}}}"#;
    let report = report(text);
    let picture = report.picture.expect("drawn");
    let part = picture.parts.iter().find(|part| part.name == "\"k\"").expect("the key is a part");
    let order: Vec<(usize, &str)> = part.order.iter().map(|step| (step.bar, step.state.as_str())).collect();
    assert_eq!(order, [(0, "\"v\" at revision 2"), (1, "\"w\" at revision 3")]);
    assert_eq!(part.stuck.as_ref().expect("the read is stale").bar, 2);
}
