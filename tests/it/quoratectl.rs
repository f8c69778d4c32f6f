//! quoratectl prints what etcdctl prints, for the commands that it has.

use std::process::Command;
use std::time::Duration;

use quorate_tests::{Cluster, Deadline, Etcdctl, Output, Process, program, workspace_program};

const PATIENCE: Duration = Duration::from_secs(60);

fn command(endpoints: &[String], arguments: &[&str]) -> Command {
    let mut command = Command::new(workspace_program("quorate-client", "quoratectl"));
    command.arg("--endpoints").arg(endpoints.join(",")).args(arguments);
    command
}

fn quoratectl(endpoints: &[String], arguments: &[&str]) -> Output {
    let exit = Process::start(&mut command(endpoints, arguments), "").wait(Deadline::after(PATIENCE));
    Output { code: exit.code, stdout: exit.stdout, stderr: exit.stderr }
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn reads_print_the_same_on_one_cluster() {
    let cluster = Cluster::start(1, &[]);
    let endpoints = cluster.endpoints();
    let etcdctl = Etcdctl::new(&endpoints);
    for (key, value) in [("a", "1"), ("a", "2"), ("ab", ""), ("b", "two\nlines"), ("c", "3")] {
        assert_eq!(etcdctl.ok(&["put", key, value]), "OK\n");
    }
    for arguments in [
        &["get", "a"][..],
        &["get", "a", "c"],
        &["get", "a", "--prefix"],
        &["get", "", "--prefix"],
        &["get", "", "--from-key"],
        &["get", "b", "--from-key", "--limit=1"],
        &["get", "a", "--rev=2"],
        &["get", "a", "--rev=99"],
        &["get", "", "--prefix", "--keys-only"],
        &["get", "", "--prefix", "--print-value-only"],
        &["get", "a", "--consistency=s"],
        &["get", "nothing"],
        &["member", "list"],
        &["member", "list", "-w", "table"],
        &["member", "list", "-w", "json"],
        &["endpoint", "status"],
        &["endpoint", "status", "-w", "table"],
        &["endpoint", "status", "--cluster"],
        &["move-leader", "7b"],
        &["member", "promote", "7b"],
        &["member", "remove", "7b"],
        &["member", "update", "7b", "--peer-urls=http://127.0.0.1:1"],
        &["lease", "list"],
        &["lease", "timetolive", "7b"],
        &["lease", "revoke", "7b"],
        &["lease", "grant", "99999999999"],
        &["compaction", "99"],
    ] {
        let (ours, theirs) = (quoratectl(&endpoints, arguments), etcdctl.run(arguments));
        assert_eq!(
            (ours.code, &ours.stdout),
            (theirs.code, &theirs.stdout),
            "{arguments:?}: {}",
            ours.stderr
        );
        // etcdctl logs retries as JSON before its own words.
        let words = theirs.stderr.lines().filter(|line| !line.starts_with('{')).collect::<Vec<_>>();
        assert_eq!(ours.stderr.lines().collect::<Vec<_>>(), words, "{arguments:?}");
    }
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn writes_print_the_same_on_two_clusters() {
    let clusters = [Cluster::start(1, &[]), Cluster::start(1, &[])];
    let [ours, theirs] = clusters.each_ref().map(Cluster::endpoints);
    let etcdctl = Etcdctl::new(&theirs);
    for arguments in [
        &["put", "a", "1"][..],
        &["put", "a", "2", "--prev-kv"],
        &["put", "a", "--ignore-value", "--prev-kv"],
        &["put", "b", "", "--prev-kv"],
        &["put", "missing", "--ignore-value"],
        &["put", "a", "3", "--lease=7b"],
        &["put", "c", "4"],
        &["del", "nothing"],
        &["del", "a", "--prev-kv"],
        &["del", "b", "c"],
        &["compaction", "3"],
        &["get", "", "--prefix"],
        &["del", "", "--prefix", "--prev-kv"],
        &["del", "x", "--from-key"],
    ] {
        let (ours, theirs) = (quoratectl(&ours, arguments), etcdctl.run(arguments));
        assert_eq!((ours.code, ours.stdout), (theirs.code, theirs.stdout), "{arguments:?}: {}", ours.stderr);
    }
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn watches_print_the_same() {
    let cluster = Cluster::start(1, &[]);
    let endpoints = cluster.endpoints();
    let etcdctl = Etcdctl::new(&endpoints);
    let arguments = ["watch", "k", "--prefix", "--rev=1", "--prev-kv"];
    let ours = Process::start(&mut command(&endpoints, &arguments), "");
    let theirs = etcdctl.spawn(&arguments);
    for (key, value) in [("k1", "a"), ("k1", "b"), ("other", "c"), ("k2", "")] {
        assert_eq!(etcdctl.ok(&["put", key, value]), "OK\n");
    }
    assert_eq!(quoratectl(&endpoints, &["del", "k1"]).stdout, "1\n");
    let deadline = Deadline::after(PATIENCE);
    let (ours, theirs) = (ours.await_stdout_lines(16, deadline), theirs.await_stdout_lines(16, deadline));
    assert!(ours.is_ok(), "{ours:?}");
    assert_eq!(ours, theirs);
}

/// What etcd cannot do: a voter becomes a learner and a voter again, without losing its data.
#[test]
fn a_voter_is_demoted_and_promoted_again() {
    let mut cluster = Cluster::start(3, &[]);
    if !program().is_quorate {
        return; // etcd does not demote
    }
    let endpoints = cluster.endpoints();
    let members = quoratectl(&endpoints, &["member", "list", "-w", "json"]).stdout;
    let members: serde_json::Value = serde_json::from_str(&members).expect("one JSON object");
    let id = members["members"][0]["ID"].as_u64().map(|id| format!("{id:x}")).expect("a number");
    let change = |what: &str, said: &str| {
        let expected = format!("Member {id:>16} {said} cluster ");
        Deadline::after(PATIENCE).retry(what, || match quoratectl(&endpoints, &["member", what, &id]) {
            output if output.stdout.starts_with(&expected) => Ok(()),
            output => Err(output.stderr),
        });
    };
    change("demote", "demoted in");
    let list = quoratectl(&endpoints, &["member", "list"]).stdout;
    assert!(list.lines().any(|line| line.starts_with(&id) && line.ends_with("true")), "{list}");
    assert_eq!(quoratectl(&endpoints, &["put", "key", "1"]).stdout, "OK\n", "a learner passes clients on");
    let refused = quoratectl(&endpoints, &["member", "demote", &id]);
    assert_eq!(
        (refused.code, &*refused.stderr),
        (Some(1), "Error: etcdserver: can only demote a voting member\n")
    );
    change("promote", "promoted in");
    for at in 0..3 {
        assert!(cluster.member(at).is_running());
    }
}

#[test]
fn failures_have_etcdctls_exit_codes() {
    let nobody = [format!("127.0.0.1:{}", quorate_tests::free_port())];
    assert_eq!(quoratectl(&nobody, &["get", "a"]).code, Some(2));
    assert_eq!(quoratectl(&nobody, &["bench", "put"]).code, Some(2));
    for wrong in [&["get"][..], &["bogus"], &["bench", "put", "--in-flight=0"], &["lease", "revoke", "xyz"]] {
        assert_eq!(quoratectl(&nobody, wrong).code, Some(128), "{wrong:?}");
    }
    assert_eq!(quoratectl(&["not an endpoint".to_owned()], &["get", "a"]).code, Some(128));
}

#[test]
fn bench_measures_every_workload() {
    let cluster = Cluster::start(1, &[]);
    let endpoints = cluster.endpoints();
    for workload in [
        &["put"][..],
        &["put", "--rate=2000"],
        &["put", "--sequential", "--value-size=100000", "--in-flight=4"],
        &["get"],
        &["get", "--consistency=s", "--connections=4", "--threads=2"],
        &["range", "--range-keys=50"],
        &["txn"],
        &["mixed"],
        &["watch", "--watchers=20", "--keys=2"],
        &["lease", "--lease-operation=grant"],
        &["lease", "--lease-operation=keep-alive"],
    ] {
        let fixed = ["--keys=100", "--total=200", "--json"];
        let fixed = if workload[0] == "watch" { &fixed[1..] } else { &fixed[..] };
        let arguments: Vec<&str> = ["bench"].iter().chain(workload).chain(fixed).copied().collect();
        let output = quoratectl(&endpoints, &arguments);
        assert_eq!(output.code, Some(0), "{workload:?}: {}", output.stderr);
        let report: serde_json::Value = serde_json::from_str(&output.stdout).expect("one JSON object");
        assert_eq!(report["operations"], 200, "{workload:?}: {report}");
        assert_eq!(report["errors"], serde_json::json!({}), "{workload:?}: {report}");
        assert_eq!(report["missing"], 0, "{workload:?}: {report}");
        if workload[0] == "watch" {
            assert_eq!(report["events"]["count"], 2000, "200 puts, each for 10 watchers: {report}");
            assert_eq!(report["events"]["lost"], 0, "{report}");
        }
    }
}
