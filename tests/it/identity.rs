//! Who a data directory is: the founders' meeting, lost disks, old copies, members that were removed, the last one
//! left, and a leader that is asked to stop.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use quorate_client::proto::etcdserverpb as pb;
use quorate_client::{Client, Options};
use quorate_tests::{Cluster, Deadline, Etcdctl, ListedMember, Stopwatch, program};

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the member list is as it should be, and returns it.
fn await_members(
    etcdctl: &Etcdctl,
    what: &str,
    wanted: impl Fn(&[ListedMember]) -> bool,
) -> Vec<ListedMember> {
    Deadline::after(PATIENCE).retry(what, || match etcdctl.members() {
        Ok(members) if wanted(&members) => Ok(members),
        Ok(members) => Err(format!("{members:?}")),
        Err(error) => Err(error),
    })
}

fn await_log(cluster: &mut Cluster, at: usize, text: &str) {
    Deadline::after(PATIENCE).retry("the log says it", || {
        let log = cluster.member(at).log();
        if log.contains(text) { Ok(()) } else { Err(format!("no \"{text}\" in:\n{log}")) }
    });
}

fn id_of(members: &[ListedMember], name: &str) -> Option<String> {
    members.iter().find(|member| member.name == name).map(|member| member.id.clone())
}

/// Three voters that have all started, the one of this name under another id than before.
fn all_vote(members: &[ListedMember], name: &str, old: &str) -> bool {
    let voters = members.iter().filter(|member| member.started && !member.is_learner).count();
    voters == 3 && members.len() == 3 && id_of(members, name).is_some_and(|id| id != old)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("there is room");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("there is room");
    }
}

#[test]
fn a_new_cluster_begins_when_all_have_met_and_says_for_whom_it_waits() {
    let mut cluster = Cluster::prepare(program(), 3, &[]);
    for at in 0..2 {
        cluster.member(at).spawn();
    }
    for at in 0..2 {
        await_log(&mut cluster, at, "waiting for the other members of the new cluster");
        await_log(&mut cluster, at, "m3: Connection refused");
    }
    // One that is killed while it waits is still the same, and one whose disk is lost before all are there does no harm.
    cluster.member(0).kill();
    cluster.member(1).kill();
    fs::remove_dir_all(cluster.member(1).data_dir()).expect("it has begun to write");
    cluster.start_all();
    assert!(cluster.member(0).log().contains("a founder, 3 founders"));
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn a_member_whose_disk_is_lost_comes_back_under_another_id_each_time() {
    let mut cluster = Cluster::start(3, &[]);
    let etcdctl = Etcdctl::new(&cluster.endpoints()[..2]);
    let mut old = id_of(&etcdctl.members().expect("they serve"), "m3").expect("it has started");
    for round in 0..2 {
        let key = format!("key{round}");
        assert_eq!(etcdctl.ok(&["put", &key, "value"]), "OK\n");
        cluster.member(2).kill();
        fs::remove_dir_all(cluster.member(2).data_dir()).expect("it was there");
        cluster.member(2).start();
        await_log(&mut cluster, 2, "the cluster has begun with another data directory of this member");
        let members =
            await_members(&etcdctl, "the member votes again", |members| all_vote(members, "m3", &old));
        old = id_of(&members, "m3").expect("it is there");
        // It has what the others have, from its own copy.
        let own = Etcdctl::new(&[cluster.member(2).endpoint()]);
        assert_eq!(own.ok(&["get", &key, "--consistency=s"]), format!("{key}\nvalue\n"));
    }
    // And it counts: with it, two of three go on without another one.
    cluster.member(0).kill();
    let rest = Etcdctl::new(&cluster.endpoints()[1..]);
    Deadline::after(PATIENCE).retry("two of three go on", || {
        let output = rest.run(&["put", "after", "all"]);
        if output.code == Some(0) { Ok(()) } else { Err(output.stderr) }
    });
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn an_old_copy_of_a_data_directory_is_put_aside_and_its_member_joins_anew() {
    let mut cluster = Cluster::start(3, &[]);
    let etcdctl = Etcdctl::new(&cluster.endpoints()[..2]);
    assert_eq!(etcdctl.ok(&["put", "key", "old"]), "OK\n");
    let old = id_of(&etcdctl.members().expect("they serve"), "m3").expect("it has started");
    let directory = cluster.member(2).data_dir().to_owned();
    let backup = directory.with_file_name("backup");
    cluster.member(2).terminate();
    copy(&directory, &backup);
    cluster.member(2).start();
    assert_eq!(etcdctl.ok(&["put", "key", "new"]), "OK\n");
    let own = Etcdctl::new(&[cluster.member(2).endpoint()]);
    assert_eq!(own.ok(&["get", "key"]), "key\nnew\n");

    cluster.member(2).kill();
    fs::remove_dir_all(&directory).expect("it was there");
    fs::rename(&backup, &directory).expect("same place");
    cluster.member(2).spawn();
    await_members(&etcdctl, "the member votes again", |members| all_vote(members, "m3", &old));
    await_log(&mut cluster, 2, "moved the files of the old copy aside");
    let kept = fs::read_dir(&directory).expect("readable").any(|entry| {
        let entry = entry.expect("readable");
        entry.file_name().to_string_lossy().starts_with(&format!("old-{old}-"))
            && entry.path().join("meta").is_file()
    });
    assert!(kept, "nothing is thrown away");
    assert_eq!(own.ok(&["get", "key", "--consistency=s"]), "key\nnew\n");
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn a_removed_member_ends_and_does_not_start_again() {
    let mut cluster = Cluster::start(3, &[]);
    let etcdctl = Etcdctl::new(&cluster.endpoints()[..2]);
    let id = id_of(&etcdctl.members().expect("they serve"), "m3").expect("it has started");
    let _ = etcdctl.ok(&["member", "remove", &id]);
    let exit = cluster.member(2).await_end();
    assert_eq!(exit.code, Some(3), "{}", exit.stderr);
    assert!(exit.stderr.contains("has been removed from the cluster for ever"), "{}", exit.stderr);
    let exit = cluster.member(2).start_and_fail();
    assert_eq!(exit.code, Some(3), "{}", exit.stderr);
    assert!(exit.stderr.contains("etcdctl member add"), "it says what to do: {}", exit.stderr);
    // An empty directory does not make it a member again.
    fs::remove_dir_all(cluster.member(2).data_dir()).expect("it was there");
    let exit = cluster.member(2).start_and_fail();
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert!(exit.stderr.contains("no member has these peer URLs: add it first"), "{}", exit.stderr);
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn a_member_that_is_removed_while_it_is_away_learns_it_when_it_returns() {
    let mut cluster = Cluster::start(3, &[]);
    let etcdctl = Etcdctl::new(&cluster.endpoints()[..2]);
    let id = id_of(&etcdctl.members().expect("they serve"), "m3").expect("it has started");
    cluster.member(2).kill();
    let _ = etcdctl.ok(&["member", "remove", &id]);
    let exit = cluster.member(2).start_and_fail();
    assert_eq!(exit.code, Some(3), "{}", exit.stderr);
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn a_copy_of_another_members_data_directory_is_refused() {
    let mut cluster = Cluster::start(3, &[]);
    (1..3).for_each(|at| drop(cluster.member(at).kill()));
    let (from, to) = (cluster.member(1).data_dir().to_owned(), cluster.member(2).data_dir().to_owned());
    fs::remove_dir_all(&to).expect("it was there");
    copy(&from, &to);
    let exit = cluster.member(2).start_and_fail();
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert!(exit.stderr.contains("never on a copy of another's"), "{}", exit.stderr);
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn the_last_of_three_goes_on_alone_when_it_is_told_to() {
    let mut cluster = Cluster::start(3, &[]);
    let all = Etcdctl::new(&cluster.endpoints());
    assert_eq!(all.ok(&["put", "key", "value"]), "OK\n");
    let survivor = Etcdctl::new(&[cluster.member(2).endpoint()]);
    assert_eq!(survivor.ok(&["get", "key"]), "key\nvalue\n");
    (0..3).for_each(|at| drop(cluster.member(at).kill()));
    cluster.member(2).options().flags.push("--force-new-cluster".to_owned());
    for round in 0..2 {
        // The second time the flag has nothing left to do.
        cluster.member(2).start();
        assert_eq!(survivor.ok(&["get", "key"]), "key\nvalue\n");
        assert_eq!(survivor.ok(&["put", &format!("round{round}"), "alone"]), "OK\n");
        let members = survivor.members().expect("it serves");
        assert_eq!(members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>(), ["m3"]);
        if round == 0 {
            cluster.member(2).kill();
        }
    }
    // Those who were given up are members no more.
    let exit = cluster.member(0).start_and_fail();
    assert_eq!(exit.code, Some(3), "{}", exit.stderr);
}

#[test]
fn losing_the_majority_and_having_it_back_is_said_once_each() {
    let mut cluster = Cluster::start(3, &[]);
    (0..2).for_each(|at| drop(cluster.member(at).kill()));
    await_log(&mut cluster, 2, "no contact with a majority of the voters");
    cluster.start_all();
    // Said when it had started, and again when the others were back.
    Deadline::after(PATIENCE).retry("the log says it", || {
        let log = cluster.member(2).log();
        let times = |text: &str| log.lines().filter(|line| line.contains(text)).count();
        match (times("\"in contact with a majority"), times("\"no contact with a majority")) {
            (2, 1) => Ok(()),
            other => Err(format!("{other:?} times in:\n{log}")),
        }
    });
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn a_leader_that_is_asked_to_stop_hands_over_and_writers_do_not_notice() {
    // So long an election timeout that waiting for one would be seen on a slow machine too.
    let election = Duration::from_secs(6);
    let mut cluster = Cluster::start(3, &["--election-timeout=6000", "--heartbeat-interval=100"]);
    let statuses = Etcdctl::new(&cluster.endpoints()).statuses();
    let leader = statuses.iter().position(|status| status.id == status.leader).expect("somebody leads");
    let others: Vec<String> =
        (0..3).filter(|at| *at != leader).map(|at| cluster.endpoints()[at].clone()).collect();
    let (done, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let writing = start_writer(others, Arc::clone(&done), Arc::clone(&count));
    let await_writes = |what: &str| {
        let goal = count.load(Ordering::Relaxed) + 10;
        Deadline::after(PATIENCE).retry(what, || match count.load(Ordering::Relaxed) {
            written if written >= goal => Ok(()),
            written => Err(format!("{written} writes, {goal} wanted")),
        });
    };
    await_writes("writes before");
    let exit = cluster.member(leader).terminate();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(exit.stderr.contains("handed leadership over"), "{}", exit.stderr);
    await_writes("writes go on");
    done.store(true, Ordering::Relaxed);
    let longest = writing.join().expect("no write fails");
    // Without a hand-over, nobody leads until followers have heard nothing for this long.
    assert!(longest < election.mul_f64(0.9), "a pause of {longest:?}");
}

/// Writes a key again and again, counts, and tells the longest pause between two writes.
#[expect(clippy::disallowed_methods, reason = "a client of real processes, beside the test")]
fn start_writer(
    endpoints: Vec<String>,
    done: Arc<AtomicBool>,
    count: Arc<AtomicU32>,
) -> thread::JoinHandle<Duration> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let patient = Options { request_timeout: PATIENCE, ..Options::default() };
            let client = Client::new(&endpoints, patient).expect("our own endpoints");
            let clock = Stopwatch::start();
            let (mut longest, mut last) = (0, clock.nanoseconds());
            while !done.load(Ordering::Relaxed) {
                let request =
                    pb::PutRequest { key: "key".into(), value: "value".into(), ..Default::default() };
                client.put(request).await.expect("a write is not refused while leadership is handed over");
                count.fetch_add(1, Ordering::Relaxed);
                longest = longest.max(clock.nanoseconds() - last);
                last = clock.nanoseconds();
            }
            Duration::from_nanos(longest)
        })
    })
}
