//! Files come in as they were written, and whatever else comes in is refused with a place and a reason.

mod common;

use common::{Random, Shape, correct_history, correct_watch};
use proptest::prelude::*;
use quorate_jepsen::format::{self, Format, ReadOptions, Recording, detect, edn, lines};
use quorate_jepsen::report::{ModelName, Settings, judge};

fn named(text: &str, options: ReadOptions) -> String {
    match format::read(text, None, options) {
        Ok(Recording::Named(history)) => {
            let mut written = Vec::new();
            lines::write_named(&history, &mut written).expect("memory is large enough");
            String::from_utf8(written).expect("JSON is text")
        }
        Ok(other) => panic!("not operations by name: {other:?}"),
        Err(error) => format!("error {error}"),
    }
}

fn strict(text: &str) -> String {
    named(text, ReadOptions::default())
}

const ONE_WRITE: &str = r#"{"process":0,"call":1,"return":2,"f":"write","value":5,"output":5}
"#;

#[test]
fn the_same_write_is_read_from_every_format() {
    for text in [
        "{:process 0, :type :invoke, :f :write, :value 5}\n{:process 0, :type :ok, :f :write, :value 5}",
        "[{:process 0 :type :invoke :f :write :value 5}, ; a comment\n {:process 0 :type :ok :f :write :value 5}]",
        "(#jepsen.history.Op{:process 0 :type :invoke :f :write :value 5}\n{:process 0 :type :ok :f :write :value 5})",
        r#"[{"process":0,"type":"invoke","f":"write","value":5},{"process":0,"type":"ok","f":"write","value":5}]"#,
        "{\"process\":0,\"type\":\"invoke\",\"f\":\"write\",\"value\":5}\n{\"process\":0,\"type\":\"ok\",\"f\":\"write\",\"value\":5}",
        "some line\nINFO  jepsen.util - 0\t:invoke\t:write\t5\nINFO  jepsen.util - 0  :ok  :write  5\n",
        ONE_WRITE,
    ] {
        assert_eq!(strict(text), ONE_WRITE, "{text}");
    }
}

#[test]
fn outcomes_are_known_unknown_or_none() {
    let text = "{:process 0 :type :invoke :f :write :value 1}
        {:process 1 :type :invoke :f :cas :value [1 2]}
        {:process :nemesis :type :info :f :start :value nil}
        {:process 0 :type :info :f :write :value 1 :error :timeout}
        {:process 1 :type :fail :f :cas :value [1 2]}";
    let expected = r#"{"process":0,"call":1,"f":"write","value":1,"output":null}
{"process":1,"call":2,"return":5,"f":"cas","value":[1,2],"output":[1,2],"failed":true}
"#;
    assert_eq!(strict(text), expected);
}

#[test]
fn independent_values_are_split_into_key_and_value() {
    let text = "{:process 0 :type :invoke :f :write :value [\"k\" 5]} {:process 0 :type :ok :f :write :value [\"k\" 5]}";
    let options = ReadOptions { independent: true, ..ReadOptions::default() };
    let expected = ONE_WRITE.replace("\"write\",", "\"write\",\"key\":\"k\",");
    assert_eq!(named(text, options), expected);
    let missing = "{:process 0 :type :invoke :f :write :value 5}";
    assert_eq!(named(missing, options), "error 1:1: expected a pair of key and value, found 5");
}

#[test]
fn errors_name_the_line_and_what_was_expected() {
    for (text, error) in [
        ("", "1:1: expected a history, and nothing is here"),
        ("{:process 0 :type :odd}", "1:1: expected :type to be :invoke, :ok, :fail or :info"),
        ("{:type :ok :process 0 :f :read}", "1:1: process 0 completes what it did not invoke"),
        (
            "{:type :invoke :process 0 :f :read}\n{:type :ok :process 0 :f :write}",
            "2:1: expected the completion of read from line 1, found that of write",
        ),
        (
            "{:type :invoke :process 0 :f :read}\n{:type :invoke :process 0 :f :read}",
            "2:1: process 0 invokes while its operation of line 1 is pending",
        ),
        ("{:type :invoke\n :process ]", "2:11: expected a value, found ']'"),
        ("[1 2]", "1:2: expected a map, found 1"),
        (
            "{\"process\":0,\"call\":5,\"return\":4,\"f\":\"read\"}",
            "1:1: expected a return at or after the call at 5, found 4",
        ),
        ("{\"process\":0,\"call\":5", "1:21: EOF while parsing an object"),
        ("x jepsen.util - 0 :invoke :write [1", "1:36: expected ']', the text ends"),
    ] {
        assert_eq!(strict(text), format!("error {error}"), "{text:?}");
    }
    let unknown = strict("; a comment\n\n  hello world");
    assert!(
        unknown.starts_with("error 3:1: expected a history, not \"hello world\": operations in EDN such as ")
    );
    assert!(unknown.contains("--format names one of edn, json, log"), "{unknown}");
}

#[test]
fn formats_are_recognized_by_their_content() {
    for (text, format) in [
        ("{:process 0", Format::Edn),
        ("\n\n; comment\n[{:process 0", Format::Edn),
        ("[\n{:process 0", Format::Edn),
        ("[\n  {\n \"process\": 0", Format::Json),
        ("{\"process\":0,\"type\":\"ok\"}", Format::Json),
        ("{\"process\":0,\"call\":1,\"request\":{}}", Format::Etcd),
        ("{\"watch\":{}}", Format::Etcd),
        ("{\"process\":0,\"call\":1,\"f\":\"read\"}", Format::Lines),
        ("INFO  jepsen.util - 0 :invoke :read nil", Format::Log),
    ] {
        assert_eq!(detect(text), Some(format), "{text}");
    }
    assert_eq!(detect(" \n\n"), None);
}

#[test]
fn edn_is_written_so_that_it_is_read_again() {
    let text = "{:process 0 :type :invoke :f :cas :key \"a b\" :value [nil \"x\\\"\"]}
        {:process 1 :type :invoke :f :read :key 7 :value nil}
        {:process 0 :type :ok :f :cas :key \"a b\" :value [nil \"x\\\"\"]}
        {:process 1 :type :fail :f :read :key 7 :value nil}";
    let Ok(Recording::Named(history)) = format::read(text, None, ReadOptions::default()) else {
        panic!("EDN")
    };
    let mut written = Vec::new();
    edn::write(&history, &mut written).expect("memory is large enough");
    let written = String::from_utf8(written).expect("EDN is text");
    let Ok(Recording::Named(again)) = format::read(&written, None, ReadOptions::default()) else {
        panic!("EDN")
    };
    assert_eq!(again, history, "{written}");
}

#[test]
fn histories_of_etcd_are_written_so_that_they_are_read_again() {
    let shape = Shape {
        operations: 60,
        processes: 4,
        keys: 3,
        unknown: 15,
        values: 0,
        everything: true,
        plain: false,
    };
    for seed in 0..50 {
        let mut random = Random::new(seed);
        let mut recorded = correct_history(&mut random, shape);
        let stream = correct_watch(&mut random, &recorded, shape);
        recorded.history.watches.push(stream);
        let mut written = Vec::new();
        lines::write_etcd(&recorded.history, &mut written).expect("memory is large enough");
        let written = String::from_utf8(written).expect("JSON is text");
        let read = format::read(&written, None, ReadOptions::default());
        assert_eq!(read, Ok(Recording::Etcd(Box::new(recorded.history.into()))), "seed {seed}");
    }
}

/// Whatever can be read can be judged, by every model, without a panic.
fn read_and_judge(text: &str, format: Option<Format>) {
    for lenient in [false, true] {
        let options = ReadOptions { lenient, ..ReadOptions::default() };
        let Ok(recording) = format::read(text, format, options) else { continue };
        for name in ModelName::names() {
            let mut settings = Settings { model: name.parse().ok(), ..Settings::default() };
            settings.limits.configurations = 2_000;
            settings.etcd.steps_max = 2_000;
            let _ = judge(&recording, &settings);
        }
    }
}

const FORMATS: [Format; 5] = [Format::Edn, Format::Json, Format::Log, Format::Lines, Format::Etcd];

proptest! {
    #[test]
    fn no_reader_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let text = String::from_utf8_lossy(&bytes);
        read_and_judge(&text, None);
        for format in FORMATS {
            read_and_judge(&text, Some(format));
        }
    }

    #[test]
    fn no_reader_panics_on_what_nearly_is_a_history(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..60)
    ) {
        let text = pieces.concat();
        read_and_judge(&text, None);
        for format in FORMATS {
            read_and_judge(&text, Some(format));
        }
    }

    #[test]
    fn no_reader_panics_on_a_damaged_history_of_etcd(
        seed in 0..1000u64, place in any::<prop::sample::Index>(), byte in any::<u8>(),
        number in prop_oneof![any::<i64>(), Just(i64::MAX), Just(i64::MIN), -3..9i64]
    ) {
        let shape = Shape { operations: 12, processes: 3, keys: 2, unknown: 20, values: 0, everything: true, plain: false };
        let mut random = Random::new(seed);
        let mut recorded = correct_history(&mut random, shape);
        let stream = correct_watch(&mut random, &recorded, shape);
        recorded.history.watches.push(stream);
        let mut written = Vec::new();
        lines::write_etcd(&recorded.history, &mut written).expect("memory is large enough");
        let place = place.index(written.len());
        // A digit becomes an extreme number, anything else some byte.
        if written[place].is_ascii_digit() {
            written.splice(place..=place, number.to_string().into_bytes());
        } else {
            written[place] = byte;
        }
        read_and_judge(&String::from_utf8_lossy(&written), Some(Format::Etcd));
    }
}

const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "#{",
    "#_",
    "#tag ",
    "\"",
    "\\",
    "\\u00e9",
    ":process ",
    ":type ",
    ":f ",
    ":value ",
    ":invoke ",
    ":ok ",
    ":info ",
    ":fail ",
    "read ",
    ":write ",
    ":cas ",
    "0 ",
    "1 ",
    "-9223372036854775808 ",
    "nil ",
    "\n",
    ",",
    ";",
    "{:process 0 :type :invoke :f :read :value nil}\n",
    "{:process 0 :type :ok :f :read :value 3}\n",
    "{:process 1 :type :invoke :f :cas :value [1 2]}\n",
    "{:process 1 :type :fail :f :cas :value [1 2]}\n",
    "{\"process\":0,",
    "\"type\":",
    "\"ok\"",
    "\"call\":1,",
    "\"f\":\"read\"}",
    "\"value\":",
    "INFO  jepsen.util - ",
    "INFO  jepsen.util - 1 :invoke :txn [[:r 1 nil] [:w 2 3]]\n",
    "INFO  jepsen.util - 1 :ok :txn [[:r 1 2] [:w 2 3]]\n",
];

#[test]
fn sessions_are_read_from_every_text_that_has_them() {
    let expected = "w 0 1\nw 1 1\n-----\nr 0 1\n=====\nw 0 2\nr 1 nil\n";
    let plume = "w(0,1,0,0)\nw(1,1,0,0)\nr(0,1,0,1)\nw(0,2,1,2)\nr(1,nil,1,2)\n";
    let dbcop = r#"[[{"events":[{"Write":{"variable":0,"version":1}},{"Write":{"variable":1,"version":1}}],"committed":true},
        {"events":[{"Read":{"variable":0,"version":1}}],"committed":true}],
        [{"events":[{"Write":{"variable":0,"version":2}},{"Read":{"variable":1,"version":null}}],"committed":true}]]"#;
    for text in [expected, plume, dbcop] {
        let recording = format::read(text, None, ReadOptions::default()).expect("sessions");
        let mut written = Vec::new();
        format::write(&recording, Format::Sessions, &mut written).expect("reads and writes");
        assert_eq!(String::from_utf8_lossy(&written), expected, "{text}");
    }
}

#[test]
fn errors_in_sessions_and_cases_name_the_place() {
    for (text, error) in [
        ("w 0 1\nw 0\n", "2:1: expected w key value, r key value, ----- or =====, found \"w 0\""),
        ("w(0,1,0)\n", "1:1: expected w(key,value,session,transaction) or r(…), found \"w(0,1,0)\""),
        ("w 0 1\nx 0 2\n", "2:1: expected r or w, found \"x 0 2\""),
        (
            "{\"kind\": \"other\",\n \"history\": []}",
            "1:1: expected \"kind\" to be list-append or rw-register, found \"other\"",
        ),
        (
            "{\"kind\": \"list-append\",\n \"history\": 5}",
            "2:13: invalid type: integer `5`, expected a sequence",
        ),
        (
            "{\"ClientId\": 0, \"Call\": 1,\n \"Input\": {\"Type\": \"odd\"}}",
            "2:24: unknown variant `odd`, expected one of `range`, `txn`, `leaseGrant`, `leaseRevoke`, `defragment`, `compact`",
        ),
    ] {
        let found = format::read(text, None, ReadOptions::default()).map(|_| ()).expect_err(text);
        assert_eq!(found.to_string(), error, "{text}");
    }
}

#[test]
fn what_is_written_is_read_again() {
    let text = "{:process 0 :type :invoke :f :cas :key \"x\" :value [1 2]}
        {:process 1 :type :invoke :f :read :key \"x\" :value nil}
        {:process 0 :type :fail :f :cas :key \"x\" :value [1 2]}
        {:process 1 :type :ok :f :read :key \"x\" :value 7}";
    let recording = format::read(text, None, ReadOptions::default()).expect("EDN");
    for to in [Format::Edn, Format::Json, Format::Lines] {
        let mut written = Vec::new();
        format::write(&recording, to, &mut written).expect("operations by name");
        let written = String::from_utf8(written).expect("text");
        let again = format::read(&written, None, ReadOptions::default()).expect("written by ourselves");
        assert_eq!(again, recording, "{written}");
    }
}
