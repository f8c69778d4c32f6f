//! Three members, and etcdctl while the leader is killed with `kill -9`.

use std::time::Duration;

use quorate_tests::{Cluster, Deadline, Etcdctl};

const PATIENCE: Duration = Duration::from_secs(60);

/// Which member leads, by its own account, among those that run.
fn leader(cluster: &mut Cluster) -> usize {
    Deadline::after(PATIENCE).retry("a leader is elected", || {
        for at in 0..cluster.size() {
            if !cluster.member(at).is_running() {
                continue;
            }
            let endpoint = cluster.member(at).endpoint();
            let status = Etcdctl::new(&[endpoint]).run(&["endpoint", "status"]);
            if status.stdout.split(", ").nth(4) == Some("true") {
                return Ok(at);
            }
        }
        Err("no running member says that it leads")
    })
}

/// A put may meet the moment without a leader; then it is asked again, which does no harm to the same key and value.
fn put(etcdctl: &Etcdctl, key: &str, value: &str) {
    Deadline::after(PATIENCE).retry("a put succeeds", || {
        let output = etcdctl.run(&["put", key, value]);
        if output.code == Some(0) { Ok(()) } else { Err(output.stderr) }
    });
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn nothing_acknowledged_is_lost_when_leaders_are_killed() {
    let mut cluster = Cluster::start(3, &[]);
    let etcdctl = Etcdctl::new(&cluster.endpoints());
    put(&etcdctl, "before", "0");
    for round in 0..2 {
        let killed = leader(&mut cluster);
        cluster.member(killed).kill();
        put(&etcdctl, &format!("during{round}"), "1");
        assert_eq!(etcdctl.ok(&["get", "before"]), "before\n0\n");
        let unhealthy = etcdctl.run(&["endpoint", "health", "--command-timeout=2s"]);
        assert_eq!(unhealthy.code, Some(1), "one endpoint is down: {unhealthy:?}");
        cluster.member(killed).start();
        put(&etcdctl, &format!("after{round}"), "2");
        // The member that was away has caught up as soon as it answers for the whole cluster …
        let restarted = Etcdctl::new(&[cluster.member(killed).endpoint()]);
        assert_eq!(restarted.ok(&["get", &format!("after{round}")]), format!("after{round}\n2\n"));
        // … and then also speaks for itself alone.
        let own = restarted.ok(&["get", &format!("during{round}"), "--consistency=s"]);
        assert_eq!(own, format!("during{round}\n1\n"));
    }
    let keys = etcdctl.ok(&["get", "", "--prefix", "--keys-only"]);
    let keys: Vec<&str> = keys.split_whitespace().collect();
    assert_eq!(keys, ["after0", "after1", "before", "during0", "during1"]);
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn watches_and_leases_survive_the_leader() {
    let mut cluster = Cluster::start(3, &[]);
    let etcdctl = Etcdctl::new(&cluster.endpoints());
    let granted = etcdctl.ok(&["lease", "grant", "300"]);
    let lease = granted.split(' ').nth(1).expect("lease <id> granted").to_owned();
    let watch = etcdctl.spawn(&["watch", "key", "--rev=1"]);
    assert_eq!(etcdctl.ok(&["put", "key", "1", "--lease", &lease]), "OK\n");
    assert!(watch.await_stdout_lines(3, Deadline::after(PATIENCE)).is_ok());
    let killed = leader(&mut cluster);
    cluster.member(killed).kill();
    put(&etcdctl, "key", "2");
    let seen = watch.await_stdout_lines(6, Deadline::after(PATIENCE)).expect("the watch goes on");
    assert_eq!(seen[..5], ["PUT", "key", "1", "PUT", "key"].map(str::to_owned));
    let left = etcdctl.ok(&["lease", "timetolive", &lease]);
    assert!(left.contains("granted with TTL(300s)"), "{left}");
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn a_cluster_that_was_killed_as_a_whole_comes_back_with_its_data() {
    let mut cluster = Cluster::start(3, &[]);
    let etcdctl = Etcdctl::new(&cluster.endpoints());
    put(&etcdctl, "key", "value");
    for at in 0..3 {
        cluster.member(at).kill();
    }
    cluster.start_all();
    assert_eq!(etcdctl.ok(&["get", "key"]), "key\nvalue\n");
    // A member that is asked to stop says good-bye in an orderly way.
    let exit = cluster.member(0).terminate();
    assert!(matches!(exit.code, Some(0) | None), "{exit:?}");
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn without_a_majority_nothing_is_acknowledged() {
    let mut cluster = Cluster::start(3, &[]);
    let etcdctl = Etcdctl::new(&cluster.endpoints());
    put(&etcdctl, "key", "1");
    let survivor = Etcdctl::new(&[cluster.member(2).endpoint()]);
    assert_eq!(
        survivor.ok(&["get", "key"]),
        "key\n1\n",
        "it has it, too: two of three were enough to say so"
    );
    cluster.member(0).kill();
    cluster.member(1).kill();
    let refused = survivor.run(&["put", "key", "2", "--command-timeout=2s"]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    let refused = survivor.run(&["get", "key", "--command-timeout=2s"]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert_eq!(survivor.ok(&["get", "key", "--consistency=s"]), "key\n1\n", "it still knows what it knew");
}
