//! `etcdctl check perf`: etcd's own judgement of a server's speed. It takes a minute for each size of cluster, and so
//! has a feature of its own: `cargo test --release -p quorate-tests --features check-perf --test check_perf`.

use quorate_tests::{Cluster, Etcdctl};

/// Runs the check with the small load, 50 clients and 150 writes a second.
fn check(members: usize) {
    let cluster = Cluster::start(members, &[]);
    let etcdctl = Etcdctl::new(&cluster.endpoints());
    // The check itself runs for a minute and then cleans up.
    let output = etcdctl.run(&["check", "perf", "--load=s", "--command-timeout=120s"]);
    // A progress bar comes first, each state of it behind a carriage return.
    let said = output.stdout.rsplit('\r').next().unwrap_or_default().to_owned() + &output.stderr;
    assert_eq!(output.code, Some(0), "{said}");
    assert_eq!(said.matches("PASS").count(), 4, "{said}");
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn one_member() {
    check(1);
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn three_members() {
    check(3);
}
