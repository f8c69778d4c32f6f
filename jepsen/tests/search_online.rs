//! Judging sequential objects as they come: the verdict is that of the whole, and what is held does not grow with it.

mod common;

use common::{Random, register_history};
use quorate_jepsen::format;
use quorate_jepsen::models::{Register, RegisterInput, RegisterOutput};
use quorate_jepsen::online::Bounds;
use quorate_jepsen::report::{Settings, judge, judge_stream};
use quorate_jepsen::{History, Limits, Search, Value, Verdict, check};

fn online(history: &History<RegisterInput, RegisterOutput>) -> (Verdict, usize) {
    let mut search = Search::new(Register::default(), Bounds::default());
    for (index, operation) in history.operations.iter().enumerate() {
        search.push(index, operation.clone());
    }
    let verdict = search.conclude();
    (verdict, search.peak())
}

fn by_call(mut history: History<RegisterInput, RegisterOutput>) -> History<RegisterInput, RegisterOutput> {
    history.operations.sort_by_key(|operation| operation.call);
    history
}

#[test]
fn what_is_judged_as_it_comes_is_what_is_judged_as_a_whole() {
    let mut seen = [0, 0];
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let operations = 20 + random.below(60);
        let mut history = by_call(register_history(operations, 2 + random.below(4), random.below(4)));
        for _ in 0..random.below(4) {
            let at = random.below(operations) as usize;
            let operation = &mut history.operations[at];
            match &mut operation.returned {
                _ if random.chance(30) => operation.returned = None,
                Some(returned) if matches!(returned.output, RegisterOutput::Value(_)) => {
                    returned.output = RegisterOutput::Value(Value::Int(random.below(5) as i64));
                }
                Some(returned) => returned.at = operation.call,
                None => {}
            }
        }
        let whole = check(&Register::default(), &history, &Limits::default());
        let (online, _) = online(&history);
        assert_eq!(
            whole.is_valid(),
            online.is_valid(),
            "seed {seed}: as a whole {whole}\nas it came {online}"
        );
        assert_eq!(whole.is_invalid(), online.is_invalid(), "seed {seed}: {whole}\n{online}");
        seen[usize::from(whole.is_valid())] += 1;
    }
    assert!(seen.iter().all(|count| *count > 500), "{seen:?}");
}

#[test]
fn what_is_held_does_not_grow_with_the_history() {
    let peaks = [2_000, 20_000].map(|operations| {
        let (verdict, peak) = online(&by_call(register_history(operations, 6, 5)));
        assert!(verdict.is_valid(), "{verdict}");
        peak
    });
    assert!(peaks[1] < 1000 && peaks[1] < peaks[0] * 3, "{peaks:?}");
}

/// A line of a register.
fn line(process: u64, at: u64, f: &str, value: &str, output: &str) -> String {
    let end = at + 1;
    format!(
        "{{\"process\":{process},\"call\":{at},\"return\":{end},\"f\":\"{f}\",\"value\":{value},\"output\":{output}}}\n"
    )
}

#[test]
fn what_is_planted_in_a_stream_is_found() {
    let mut text: String =
        (0..500_u64).map(|at| line(at % 3, 10 * at, "write", &at.to_string(), "null")).collect();
    for (process, at, f, value, output) in [
        (7, 9000, "write", "901", "null"),
        (8, 9010, "write", "902", "null"),
        (7, 9020, "read", "null", "901"),
    ] {
        text += &line(process, at, f, value, output);
    }
    let settings = Settings::default();
    let recording = format::read(&text, None, format::ReadOptions::default()).expect("lines");
    let whole = judge(&recording, &settings).expect("a register");
    let stream = judge_stream(text.as_bytes(), None, &settings).expect("a register");
    assert_eq!((stream.model, stream.operations), (whole.model, whole.operations));
    let (Verdict::Invalid(whole), Verdict::Invalid(stream)) = (whole.verdict, stream.verdict) else {
        panic!("both find it")
    };
    assert_eq!(stream.operations.first(), Some(&502));
    assert!(stream.operations.iter().all(|index| *index >= 500), "{stream}");
    assert!(whole.operations.iter().all(|index| *index >= 500), "{whole}");
}

#[test]
fn a_stream_that_cannot_be_judged_says_why() {
    let judged = |text: &str| judge_stream(text.as_bytes(), None, &Settings::default());
    let error = judged("{:process 0, :type :invoke, :f :read}").expect_err("no lines");
    assert!(error.contains("as a whole"), "{error}");
    let error = judged(&line(0, 1, "generate", "null", "5")).expect_err("not as it comes");
    assert!(error.contains("leave out --stream"), "{error}");
    let error = judged(&(line(0, 1, "write", "1", "null") + "{\"process\":x}")).expect_err("no number");
    assert!(error.starts_with("2:"), "{error}");
    let late = line(0, 9, "write", "1", "null") + &line(1, 5, "write", "2", "null");
    let Verdict::Unknown(why) = judged(&late).expect("lines").verdict else { panic!("not in order") };
    assert!(why.contains("called before"), "{why}");
}
