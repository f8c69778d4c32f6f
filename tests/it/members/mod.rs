//! Members come and go under load, by the commands of the real etcdctl, while processes are killed with `kill -9`.
//!
//! After every change all members must agree, and say of themselves what is true. Clients work on all the while, and
//! the checker judges what they saw.

mod refusals;
mod world;

use std::fs;

use quorate_tests::{Deadline, Etcdctl, program};

use world::{Kill, PATIENCE, World};

/// Every kind of change, one after the other.
fn change_everything(members: usize, seed: u64) {
    let mut world = World::start(members, seed);
    let learner = world.add(true, Kill::Nobody);
    assert!(world.listed(learner).is_learner);
    learners_answer_little(&world.etcdctl_of(learner));
    world.promote(learner, Kill::Nobody);
    world.move_leader(learner);

    move_to_another_port(&mut world, learner);

    let voter = world.add(false, Kill::Nobody);
    assert!(!world.listed(voter).is_learner);
    let follower = world.follower();
    let exit = world.remove(follower, Kill::Nobody);
    assert!(exit.stderr.contains("removed"), "{}", exit.stderr);
    if program().is_quorate {
        assert_ne!(exit.code, Some(0), "whoever restarts servers can tell"); // etcd's ends as if all were well
    }
    let leader = world.leader();
    world.remove(leader, Kill::Nobody);
    assert_ne!(world.leader(), leader);

    // It never comes back under that id.
    let exit = world.cluster.member(leader).start_and_fail();
    assert!(exit.stderr.contains("removed"), "{}", exit.stderr);
    world.statuses_are_true();
    world.judge();
}

/// What etcd's learners answer: how they are, and what they have.
fn learners_answer_little(learner: &Etcdctl) {
    let refusal = "rpc not supported for learner";
    for arguments in
        [&["put", "key", "1"][..], &["get", "key"], &["member", "list"], &["lease", "grant", "10"]]
    {
        // etcdctl tries again until the time is over; on a slow machine it may not even have begun by then.
        Deadline::after(PATIENCE).retry("the learner refuses", || {
            let refused = learner.run(&[&["--command-timeout=3s"], arguments].concat());
            assert_ne!(refused.code, Some(0), "{arguments:?}");
            if refused.stderr.contains(refusal) {
                Ok(())
            } else {
                Err(format!("{arguments:?}: {}", refused.stderr))
            }
        });
    }
    assert_eq!(learner.run(&["get", "key", "--consistency=s"]).code, Some(0));
    assert!(learner.ok(&["endpoint", "status"]).contains("true"), "it is a learner");
}

/// First the others are told where to look for the member, then it goes there.
fn move_to_another_port(world: &mut World, at: usize) {
    let id = world.listed(at).id;
    let port = quorate_tests::free_port();
    let url = format!("http://127.0.0.1:{port}");
    let updated = Deadline::after(PATIENCE).retry("the address is changed", || {
        let output = world.etcdctl().run(&["member", "update", &id, "--peer-urls", &url]);
        if output.code == Some(0) { Ok(output.stdout) } else { Err(output.stderr) }
    });
    assert!(updated.starts_with(&format!("Member {id:>16} updated in cluster ")), "{updated}");
    world.cluster.member(at).kill();
    world.cluster.member(at).options().peer_port = port;
    world.cluster.member(at).start();
    assert_eq!(world.listed(at).id, id, "it is the same member");
    world.statuses_are_true();
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn three_members_change_under_load() {
    change_everything(3, 11);
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn five_members_change_under_load() {
    change_everything(5, 12);
}

/// The leader dies at various moments of every change.
#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn leaders_are_killed_in_the_middle_of_changes() {
    let mut world = World::start(3, 13);
    for answers in [0, 30] {
        let added = world.add(true, Kill::Leader(answers));
        world.promote(added, Kill::Leader(answers + 10));
        let follower = world.follower();
        world.remove(follower, Kill::Leader(answers + 5));
    }
    world.judge();
}

/// Leaders die while they hand over, and so do those whom they want to lead; and while an address is changed.
#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn members_are_killed_in_the_middle_of_hand_overs_and_updates() {
    let mut world = World::start(3, 17);
    for answers in [0, 20] {
        let next = world.follower();
        world.disturb_hand_over(next, Kill::Leader(answers));
    }
    let next = world.follower();
    world.disturb_hand_over(next, Kill::Member(next, 0));

    let at = world.follower();
    let row = world.listed(at);
    let more = format!("http://127.0.0.1:{}", quorate_tests::free_port());
    let urls = format!("{},{more}", row.peer_urls);
    let arguments = ["member", "update", &row.id, "--peer-urls", &urls];
    let updated = |list: &[quorate_tests::ListedMember]| {
        list.iter().any(|other| other.id == row.id && other.peer_urls.contains(&more))
    };
    world.change(&arguments, Kill::Leader(5), updated);
    world.judge();
}

/// The member that is changed dies at various moments of the change.
#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn members_are_killed_in_the_middle_of_their_own_changes() {
    let mut world = World::start(5, 14);
    for answers in [0, 40] {
        let added = world.add(true, Kill::Nobody);
        world.promote(added, Kill::Member(added, answers));
        world.move_leader(added);
        world.cluster.member(added).kill();
        world.await_progress();
        world.cluster.member(added).start();
        world.statuses_are_true();
    }
    world.judge();
}

/// A member whose disk is lost is not that member any more: it comes back as another, and votes when it has caught up.
#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn members_that_lost_their_disks_come_back_as_others() {
    let mut world = World::start(3, 15);
    for at in [world.follower(), world.leader()] {
        let lost = world.listed(at).id;
        world.cluster.member(at).kill();
        fs::remove_dir_all(world.cluster.member(at).data_dir()).expect("our own files can be removed");
        world.await_progress();
        world.cluster.member(at).start();
        world.await_list(|list| list.iter().all(|row| row.id != lost && !row.is_learner) && list.len() == 3);
        world.statuses_are_true();
        assert_ne!(world.listed(at).id, lost);
    }
    world.judge();
}

/// An old copy of a data directory has forgotten what it promised: it must not vote.
#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn a_member_that_runs_on_an_old_copy_of_its_disk_comes_back_as_another() {
    let mut world = World::start(3, 16);
    let at = world.follower();
    let old = world.listed(at).id;
    let data_dir = world.cluster.member(at).data_dir().to_path_buf();
    let copy = data_dir.with_extension("copy");
    world.cluster.member(at).kill();
    copy_files(&data_dir, &copy);
    world.cluster.member(at).start();
    world.await_progress();
    world.cluster.member(at).kill();
    fs::remove_dir_all(&data_dir).expect("our own files can be removed");
    fs::rename(&copy, &data_dir).expect("the copy can be moved");
    world.cluster.member(at).start();
    world.await_list(|list| list.iter().all(|row| row.id != old && !row.is_learner) && list.len() == 3);
    world.judge();
}

fn copy_files(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir(to).expect("the copy can be made");
    for entry in fs::read_dir(from).expect("the directory can be read") {
        let path = entry.expect("the directory can be read").path();
        let name = path.file_name().expect("files have names");
        if path.is_dir() {
            copy_files(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).expect("files can be copied");
        }
    }
}
