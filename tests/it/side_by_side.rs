//! The same etcdctl commands against Quorate and against etcd, with the same output.
//!
//! Each test is a list of commands. What both servers print must be equal, except for what is theirs to choose: ids,
//! terms, times. Where the commands' own effect shows (revisions, versions, counts, errors), nothing is forgiven.

use std::collections::BTreeMap;

use quorate_tests::{Cluster, Etcdctl, Output, Program, peer};

/// Fields whose numbers are the server's to choose.
const CHOSEN_BY_THE_SERVER: [&str; 7] = [
    "\"cluster_id\":",
    "\"member_id\":",
    "\"raft_term\":",
    "\"ID\":",
    "\"ClusterID\" : ",
    "\"MemberID\" : ",
    "\"RaftTerm\" : ",
];

/// A command, and what it reads.
struct Step {
    arguments: Vec<String>,
    input: &'static str,
}

/// Splits at spaces; a word may be quoted with ', and '' is an empty word.
fn step(line: &str) -> Step {
    with_input(line, "")
}

fn with_input(line: &str, input: &'static str) -> Step {
    let mut arguments = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            arguments.push(part.to_owned());
        } else {
            arguments.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    Step { arguments, input }
}

/// Runs the steps against a new member of each, and compares.
fn compare(steps: &[Step]) {
    let etcd = peer("etcd");
    let ours = Cluster::start(1, &[]);
    let theirs = Cluster::start_program(&Program { path: etcd, is_quorate: false }, 1, &[]);
    let (our_client, their_client) = (Etcdctl::new(&ours.endpoints()), Etcdctl::new(&theirs.endpoints()));
    let (mut our_ids, mut their_ids) = (Ids::default(), Ids::default());
    for step in steps {
        let arguments: Vec<&str> = step.arguments.iter().map(String::as_str).collect();
        let our_arguments = our_ids.fill_in(&arguments);
        let their_arguments = their_ids.fill_in(&arguments);
        let run = |client: &Etcdctl, arguments: &[String]| {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            client.run_with_input(&arguments, step.input)
        };
        let our_output = our_ids.normalized(&run(&our_client, &our_arguments));
        let their_output = their_ids.normalized(&run(&their_client, &their_arguments));
        assert_eq!(our_output, their_output, "(ours, etcd's) for etcdctl {}", step.arguments.join(" "));
    }
}

/// Leases get ids from the server. Commands name them `$1`, `$2`, … in the order of their grants.
#[derive(Default)]
struct Ids {
    leases: Vec<String>,
}

impl Ids {
    fn fill_in(&self, arguments: &[&str]) -> Vec<String> {
        let lookup = |argument: &&str| {
            let (flag, value) =
                argument.split_once('=').map_or(("", *argument), |(flag, value)| (flag, value));
            let number = value.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
            match number {
                Some(number) if flag.is_empty() => self.leases[number - 1].clone(),
                Some(number) => format!("{flag}={}", self.leases[number - 1]),
                None => (*argument).to_owned(),
            }
        };
        arguments.iter().map(lookup).collect()
    }

    fn normalized(&mut self, output: &Output) -> Output {
        if let Some(granted) =
            output.stdout.strip_prefix("lease ").filter(|rest| rest.contains(" granted with TTL"))
        {
            let id = granted.split(' ').next().expect("split yields something");
            if !self.leases.iter().any(|known| known == id) {
                self.leases.push(id.to_owned());
            }
        }
        Output {
            code: output.code,
            stdout: self.text(&output.stdout),
            stderr: self.text(&log_removed(&output.stderr)),
        }
    }

    fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (at, id) in self.leases.iter().enumerate() {
            text = text.replace(id, &format!("${}", at + 1));
            if let Ok(number) = i64::from_str_radix(id, 16) {
                text = text.replace(&number.to_string(), &format!("${}", at + 1));
            }
        }
        for field in CHOSEN_BY_THE_SERVER {
            text = number_removed(&text, field);
        }
        text
    }
}

/// etcdctl logs retries as lines of JSON on standard error, with times and addresses in them.
fn log_removed(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with('{')).flat_map(|line| [line, "\n"]).collect()
}

/// Replaces the number behind each occurrence of `field`.
fn number_removed(text: &str, field: &str) -> String {
    let mut parts = text.split(field);
    let mut result = parts.next().expect("split yields something").to_owned();
    for part in parts {
        result.push_str(field);
        result.push('_');
        result.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    result
}

#[test]
#[cfg_attr(any(no_etcd, no_etcdctl), ignore = "not on PATH: apt-get install etcd-server etcd-client")]
fn put_and_get_with_every_flag() {
    compare(&[
        step("put a 1"),
        step("put a 2 --prev-kv"),
        step("put b '' --prev-kv"),
        step("get b"),
        with_input("put from-stdin", "a value\nof two lines"),
        step("get from-stdin"),
        step("put c 3"),
        step("put a --ignore-value"),
        step("put missing --ignore-value"),
        step("put a 9 --ignore-value"),
        step("put a 5 --ignore-lease"),
        step("put missing 5 --ignore-lease"),
        step("put a 6 --lease=7b"),
        step("put d 4"),
        step("get a"),
        step("get a d"),
        step("get b a"),
        step("get a c --limit=1"),
        step("get '' --prefix"),
        step("get '' --from-key"),
        step("get b --from-key"),
        step("get nothing"),
        step("get ''"),
        step("get a --rev=2"),
        step("get a --rev=3 -w json"),
        step("get a --rev=99"),
        step("get a --rev=-1"),
        step("get '' --prefix --keys-only"),
        step("get '' --prefix --count-only -w fields"),
        step("get '' --prefix --count-only -w json"),
        step("get '' --prefix --limit=2 -w json"),
        step("get '' --prefix --print-value-only"),
        step("get '' --prefix --consistency=s"),
        step("get '' --prefix --consistency=l -w fields"),
        step("get '' --prefix --hex"),
    ]);
}

#[test]
#[cfg_attr(any(no_etcd, no_etcdctl), ignore = "not on PATH: apt-get install etcd-server etcd-client")]
fn get_sorts_as_it_is_told() {
    let mut steps = vec![step("put b 1"), step("put a 3"), step("put c 2"), step("put b 0"), step("put b 9")];
    for target in ["CREATE", "KEY", "MODIFY", "VALUE", "VERSION"] {
        for order in ["ASCEND", "DESCEND"] {
            // Ties are in no defined order, and a and c have the same version.
            let keys = if target == "VERSION" { "b c" } else { "'' --prefix" };
            steps.push(step(&format!("get {keys} --sort-by={target} --order={order} -w json")));
            steps.push(step(&format!("get {keys} --sort-by={target} --order={order} --limit=1 -w json")));
        }
    }
    steps.push(step("get a --sort-by=COLOUR"));
    compare(&steps);
}

#[test]
#[cfg_attr(any(no_etcd, no_etcdctl), ignore = "not on PATH: apt-get install etcd-server etcd-client")]
fn del_counts_and_returns_what_was_there() {
    compare(&[
        step("put a 1"),
        step("put a1 2"),
        step("put a2 3"),
        step("put b 4"),
        step("put c 5"),
        step("del nothing"),
        step("del a --prev-kv"),
        step("get a"),
        step("get a --rev=2"),
        step("del a --prefix --prev-kv -w json"),
        step("put a 6 -w json"),
        step("get a -w json"),
        step("del b --from-key"),
        step("del b c"),
        step("del ''"),
        step("del '' --prefix"),
        step("get '' --prefix -w json"),
    ]);
}

#[test]
#[cfg_attr(any(no_etcd, no_etcdctl), ignore = "not on PATH: apt-get install etcd-server etcd-client")]
fn txn_compares_and_does_one_branch() {
    compare(&[
        step("put a 1"),
        with_input("txn", "value(\"a\") = \"1\"\n\nput a 2\nget a\n\nput a 3\n\n"),
        with_input("txn", "value(\"a\") = \"1\"\n\nput a 4\n\nget a\ndel a\nget a\n\n"),
        with_input("txn", "version(\"a\") = \"0\"\n\nput a 5\nput b 6\n\n\n"),
        with_input(
            "txn",
            "mod(\"a\") > \"4\"\ncreate(\"b\") < \"9\"\nver(\"b\") > \"0\"\n\nget '' --prefix\n\n\n",
        ),
        with_input("txn", "value(\"missing\") != \"x\"\n\nput c 1\n\nput c 2\n\n"),
        with_input("txn -w json", "mod(\"missing\") = \"0\"\n\nput d 1\ndel a\nget b\n\n\n"),
        with_input("txn", "\nput e 1\nput e 2\n\n\n"),
        with_input("txn", "\nput e 1\ndel e\n\n\n"),
        with_input("txn", "\nget e\ndel e\ndel e\n\n\n"),
        with_input("txn", "\n\n\n"),
        with_input("txn", "\nget a --rev=99\n\n\n"),
        with_input("txn", "value(a) = 1\n\nput a 1\n\n\n"),
        with_input("txn", "colour(\"a\") = \"1\"\n\nput a 1\n\n\n"),
        step("get '' --prefix -w json"),
    ]);
}

#[test]
#[cfg_attr(any(no_etcd, no_etcdctl), ignore = "not on PATH: apt-get install etcd-server etcd-client")]
fn compaction_forgets_and_says_so() {
    compare(&[
        step("put a 1"),
        step("put a 2"),
        step("put b 1"),
        step("del b"),
        step("put a 3"),
        step("compaction 99"),
        step("compaction 4"),
        step("get a --rev=3"),
        step("get a --rev=4"),
        step("get '' --prefix --rev=4 -w json"),
        step("get '' --prefix --rev=5 -w json"),
        step("compaction 4"),
        step("compaction 3"),
        step("compaction 6 --physical"),
        step("get '' --prefix -w json"),
        step("compaction abc"),
    ]);
}

#[test]
#[cfg_attr(any(no_etcd, no_etcdctl), ignore = "not on PATH: apt-get install etcd-server etcd-client")]
fn leases_hold_keys() {
    compare(&[
        step("lease list"),
        step("lease grant 1000"),
        step("lease grant 2000 -w json"),
        step("lease grant 1000"),
        step("put a 1 --lease=$1"),
        step("put b 2 --lease=$1"),
        step("put c 3 --lease=$2"),
        step("get a -w fields"),
        step("lease keep-alive --once $1"),
        step("put b 5"),
        step("put a 4 --ignore-lease"),
        step("lease revoke $1"),
        step("lease revoke $1"),
        step("get '' --prefix"),
        step("lease keep-alive --once $1"),
        step("lease timetolive $1"),
        step("put a 1 --lease=$1"),
        step("lease timetolive 7b --keys"),
        step("lease revoke 7b"),
        step("lease grant 99999999999"),
        step("lease grant abc"),
        step("lease revoke $2"),
        step("get '' --prefix -w json"),
    ]);
}

#[test]
#[cfg_attr(any(no_etcd, no_etcdctl), ignore = "not on PATH: apt-get install etcd-server etcd-client")]
fn lease_lists_agree() {
    // The order of the list and of attached keys is not defined, remaining times move: compare sets.
    let etcd = peer("etcd");
    let programs = [quorate_tests::program().clone(), Program { path: etcd, is_quorate: false }];
    let mut seen = Vec::new();
    for program in programs {
        let cluster = Cluster::start_program(&program, 1, &[]);
        let client = Etcdctl::new(&cluster.endpoints());
        let id = |output: String| output.split(' ').nth(1).expect("lease <id> granted").to_owned();
        let ids = [id(client.ok(&["lease", "grant", "1000"])), id(client.ok(&["lease", "grant", "1000"]))];
        for key in ["x", "y"] {
            assert_eq!(client.ok(&["put", key, "1", "--lease", &ids[0]]), "OK\n");
        }
        let list = client.ok(&["lease", "list"]);
        assert!(ids.iter().all(|id| list.contains(id.as_str())), "{list}");
        let detail = client.ok(&["lease", "timetolive", &ids[0], "--keys"]);
        let keys = detail.split_once("attached keys(").expect("keys were asked for").1;
        let keys: BTreeMap<char, usize> = keys.chars().fold(BTreeMap::new(), |mut counts, key| {
            *counts.entry(key).or_default() += 1;
            counts
        });
        let remaining =
            detail.split_once("remaining(").and_then(|(_, rest)| rest.split_once("s)")).expect("a time").0;
        let remaining: u64 = remaining.parse().expect("seconds");
        assert!((900..=1000).contains(&remaining), "{detail}");
        seen.push((list.lines().next().map(str::to_owned), keys, detail.contains("TTL(1000s)")));
    }
    assert_eq!(seen[0], seen[1]);
}
