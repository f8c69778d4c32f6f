//! The real etcdctl, unmodified: what cannot simply be compared with etcd's output line by line.

use std::time::Duration;

use quorate_tests::{Cluster, Deadline, Etcdctl};

const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster and etcdctl for it.
fn cluster_of(members: usize) -> (Cluster, Etcdctl) {
    let cluster = Cluster::start(members, &[]);
    let etcdctl = Etcdctl::new(&cluster.endpoints());
    (cluster, etcdctl)
}

fn lines(text: &[&str]) -> Vec<String> {
    text.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn watch_follows_a_prefix() {
    let (_cluster, etcdctl) = cluster_of(1);
    let watch = etcdctl.spawn(&["watch", "k", "--prefix", "--prev-kv", "--rev=2"]);
    assert_eq!(etcdctl.ok(&["put", "k1", "a"]), "OK\n");
    assert_eq!(etcdctl.ok(&["put", "other", "x"]), "OK\n");
    assert_eq!(etcdctl.ok(&["put", "k1", "b"]), "OK\n");
    assert_eq!(etcdctl.ok(&["del", "k1"]), "1\n");
    let expected = lines(&["PUT", "k1", "a", "PUT", "k1", "a", "k1", "b", "DELETE", "k1", "b", "k1", ""]);
    assert_eq!(watch.await_stdout_lines(expected.len(), Deadline::after(PATIENCE)), Ok(expected));
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn watch_begins_in_the_past() {
    let (_cluster, etcdctl) = cluster_of(1);
    for value in ["1", "2", "3"] {
        assert_eq!(etcdctl.ok(&["put", "k", value]), "OK\n");
    }
    let watch = etcdctl.spawn(&["watch", "k", "--rev=3"]);
    let expected = lines(&["PUT", "k", "2", "PUT", "k", "3"]);
    assert_eq!(watch.await_stdout_lines(6, Deadline::after(PATIENCE)), Ok(expected));
    assert_eq!(etcdctl.ok(&["compaction", "4"]), "compacted revision 4\n");
    let refused = etcdctl.run(&["watch", "k", "--rev=2"]);
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("required revision has been compacted"), "{}", refused.stderr);
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn a_lease_that_is_kept_alive_outlives_its_time_and_another_does_not() {
    let (_cluster, etcdctl) = cluster_of(1);
    let grant = |ttl: &str| {
        let granted = etcdctl.ok(&["lease", "grant", ttl]);
        granted.split(' ').nth(1).expect("lease <id> granted").to_owned()
    };
    // On a slow machine a lease may end before there is time to use it.
    let (kept, keeper) = Deadline::after(PATIENCE).retry("a lease is kept alive", || {
        let lease = grant("6");
        let keeper = etcdctl.spawn(&["lease", "keep-alive", &lease]);
        let output = etcdctl.run(&["put", "kept", "1", "--lease", &lease]);
        if output.code == Some(0) { Ok((lease, keeper)) } else { Err(output.stderr) }
    });
    Deadline::after(PATIENCE).retry("a lease is used before it ends", || {
        let output = etcdctl.run(&["put", "lost", "1", "--lease", &grant("3")]);
        if output.code == Some(0) { Ok(()) } else { Err(output.stderr) }
    });
    let watch = etcdctl.spawn(&["watch", "lost", "--rev=1"]);
    // The lease expires by itself, and its key goes with an event.
    let expected = lines(&["PUT", "lost", "1", "DELETE", "lost", ""]);
    assert_eq!(watch.await_stdout_lines(6, Deadline::after(PATIENCE)), Ok(expected));
    let line = format!("lease {kept} keepalived with TTL(6)");
    // Three renewals come a second or more apart.
    assert_eq!(
        keeper.await_stdout_lines(3, Deadline::after(PATIENCE)).map(|lines| lines[..3].to_vec()),
        Ok(vec![line; 3])
    );
    assert_eq!(etcdctl.ok(&["get", "kept"]), "kept\n1\n");
    assert_eq!(etcdctl.ok(&["get", "lost"]), "");
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn locks_are_held_by_one_after_the_other() {
    let (_cluster, etcdctl) = cluster_of(1);
    let first = etcdctl.spawn(&["lock", "mutex", "--ttl=6"]);
    let held = first.await_stdout_lines(1, Deadline::after(PATIENCE)).expect("the lock is free");
    assert!(held[0].starts_with("mutex/"), "{held:?}");
    let second = etcdctl.spawn(&["lock", "mutex", "--ttl=6"]);
    // The second waits in line: its key exists, behind the first's.
    Deadline::after(PATIENCE).retry("the second contender queues up", || {
        let waiting = etcdctl.ok(&["get", "mutex/", "--prefix", "--keys-only"]);
        if waiting.split_whitespace().count() == 2 { Ok(()) } else { Err(waiting) }
    });
    // A holder that dies loses the lock when its lease expires.
    drop(first.kill());
    let then = second.await_stdout_lines(1, Deadline::after(PATIENCE)).expect("the lock became free");
    assert_ne!(then, held);
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn a_lock_guards_a_command() {
    let (_cluster, etcdctl) = cluster_of(1);
    let output = etcdctl.run(&["lock", "mutex", "--", "sh", "-c", "echo holding $ETCD_LOCK_KEY; exit 7"]);
    assert!(output.stdout.starts_with("holding mutex/"), "{output:?}");
    assert_ne!(output.code, Some(0), "the command's failure is etcdctl's");
    assert_eq!(etcdctl.ok(&["get", "mutex", "--prefix"]), "", "the lock was given back");
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn elections_have_one_leader_that_observers_see() {
    let (_cluster, etcdctl) = cluster_of(1);
    let leader = etcdctl.spawn(&["elect", "office", "alice"]);
    let elected = leader.await_stdout_lines(2, Deadline::after(PATIENCE)).expect("nobody else stands");
    assert_eq!(elected[1], "alice");
    let observer = etcdctl.spawn(&["elect", "--listen", "office"]);
    let observed = observer.await_stdout_lines(2, Deadline::after(PATIENCE)).expect("there is a leader");
    assert_eq!(observed, elected);
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn members_are_listed_and_healthy() {
    for members in [1, 3] {
        let (cluster, etcdctl) = cluster_of(members);
        let list = etcdctl.ok(&["member", "list"]);
        assert_eq!(list.lines().count(), members);
        for line in list.lines() {
            let fields: Vec<&str> = line.split(", ").collect();
            assert_eq!(fields.len(), 6, "{line}");
            assert!(u64::from_str_radix(fields[0], 16).is_ok_and(|id| id != 0), "{line}");
            assert_eq!((fields[1], fields[5]), ("started", "false"), "{line}");
            assert!(fields[2].starts_with('m') && fields[3].starts_with("http://127.0.0.1:"), "{line}");
            assert!(cluster.endpoints().contains(&fields[4].replace("http://", "")), "{line}");
        }
        let health = etcdctl.run(&["endpoint", "health"]);
        assert_eq!(health.code, Some(0), "{health:?}");
        let said = health.stdout.clone() + &health.stderr;
        assert_eq!(said.matches("is healthy: successfully committed proposal").count(), members, "{said}");
        statuses_agree(&etcdctl, &list, members);
    }
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn members_have_the_same_checksum_of_what_they_hold() {
    let (cluster, etcdctl) = cluster_of(3);
    for number in 0..20 {
        assert_eq!(etcdctl.ok(&["put", &format!("key{}", number % 7), &number.to_string()]), "OK\n");
    }
    // Whoever has answered a read has applied what was written before.
    for endpoint in cluster.endpoints() {
        assert_eq!(Etcdctl::new(&[endpoint]).ok(&["get", "key5"]), "key5\n19\n");
    }
    let hashes = |revision: &str| {
        let said = etcdctl.ok(&["endpoint", "hashkv", "--rev", revision]);
        let hashes: Vec<String> =
            said.lines().filter_map(|line| line.split(", ").nth(1).map(str::to_owned)).collect();
        assert!(hashes.len() == 3 && hashes.iter().all(|hash| *hash == hashes[0]), "at {revision}: {said}");
        hashes[0].clone()
    };
    assert_eq!(hashes("0"), hashes("21"), "the present revision");
    assert_ne!(hashes("20"), hashes("21"));
    let before = hashes("20");
    let _ = etcdctl.ok(&["compact", "15"]);
    for endpoint in cluster.endpoints() {
        assert_eq!(Etcdctl::new(&[endpoint]).ok(&["get", "key5"]), "key5\n19\n");
    }
    assert_ne!(hashes("20"), before, "what is forgotten does not count");
    for (revision, why) in [("14", "compacted"), ("99", "future revision")] {
        let refused = etcdctl.run(&["endpoint", "hashkv", "--rev", revision]);
        assert!(refused.code != Some(0) && refused.stderr.contains(why), "{refused:?}");
    }
}

/// Every member reports its own id, and all the same leader.
fn statuses_agree(etcdctl: &Etcdctl, list: &str, members: usize) {
    // On a slow machine leadership may move between one member's answer and the next one's.
    let status = Deadline::after(PATIENCE).retry("one member leads", || {
        let status = etcdctl.ok(&["endpoint", "status"]);
        let leads = |line: &&str| line.split(", ").nth(4) == Some("true");
        if status.lines().filter(leads).count() == 1 { Ok(status) } else { Err(status) }
    });
    let rows: Vec<Vec<&str>> = status.lines().map(|line| line.split(", ").collect()).collect();
    assert_eq!(rows.len(), members, "{status}");
    for row in &rows {
        assert!(list.contains(row[1]), "{} is a member: {status}", row[1]);
        assert!(row[2].starts_with("3."), "a version that clients know: {status}");
        assert_eq!(row[5], "false", "no learners: {status}");
        assert!(row[6].parse::<u64>().is_ok_and(|term| term > 0), "{status}");
        let number = |at: usize| row[at].parse::<u64>().expect("an index");
        assert!(number(8) <= number(7), "applied is at most committed: {status}");
        assert_eq!(row.get(9).copied().unwrap_or_default().trim(), "", "no errors: {status}");
    }
    Deadline::after(PATIENCE).retry("all name one leader", || {
        let json = etcdctl.ok(&["endpoint", "status", "-w", "json"]);
        let json: serde_json::Value = serde_json::from_str(&json).expect("etcdctl prints JSON");
        let leaders: Vec<_> =
            json.as_array().expect("a list").iter().map(|one| one["Status"]["leader"].clone()).collect();
        let agree = leaders.iter().all(|leader| *leader == leaders[0] && leader.as_u64() != Some(0));
        if agree { Ok(()) } else { Err(format!("{leaders:?}")) }
    });
}
