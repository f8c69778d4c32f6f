//! What cannot be done to members: the same requests to Quorate and to etcd, with the same codes and texts.

use std::time::Duration;

use quorate_client::{Client, Error, Options};
use quorate_tests::{Cluster, Deadline, Program, peer, program};

const PATIENCE: Duration = Duration::from_secs(60);
const NOBODY: u64 = 0x7b;

/// How a request ended, in words that can be compared.
fn said<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => "done".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

/// The answer that is not that the cluster is unhealthy.
async fn when_healthy<T, F: Future<Output = Result<T, Error>>>(request: impl Fn() -> F) -> Result<T, Error> {
    let deadline = Deadline::after(PATIENCE);
    loop {
        match request().await {
            Err(error)
                if error.to_string().contains("unhealthy cluster") && deadline.remaining().is_some() =>
            {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            result => return result,
        }
    }
}

/// What a cluster of three says to requests that make no sense, or cannot be carried out now.
async fn refusals(cluster: &mut Cluster) -> Vec<(&'static str, String)> {
    let client =
        Client::new(cluster.endpoints(), Options::default()).expect("our own endpoints are well formed");
    let members = client.member_list(true).await.expect("a cluster that serves").members;
    let urls = |text: &str| vec![text.to_owned()];
    let (first, second) = (&members[0], &members[1]);
    let mut all = vec![
        ("no URL", said(client.member_add(vec![], false).await)),
        ("no scheme", said(client.member_add(urls("127.0.0.1:1"), true).await)),
        ("a strange scheme", said(client.member_add(urls("ftp://127.0.0.1:1"), false).await)),
        ("no port", said(client.member_add(urls("http://127.0.0.1"), false).await)),
        ("a path", said(client.member_add(urls("http://127.0.0.1:1/path"), false).await)),
        ("remove nobody", said(client.member_remove(NOBODY).await)),
        ("remove zero", said(client.member_remove(0).await)),
        ("update nobody", said(client.member_update(NOBODY, urls("http://127.0.0.1:1")).await)),
        ("promote nobody", said(client.member_promote(NOBODY).await)),
        ("promote a voter", said(client.member_promote(first.id).await)),
        ("another's URLs", said(client.member_update(first.id, second.peer_ur_ls.clone()).await)),
    ];
    // Additions are refused as long as members have not known each other for some seconds.
    let known = when_healthy(|| client.member_add(first.peer_ur_ls.clone(), false)).await;
    all.push(("a member's URLs", said(known)));
    let learner = when_healthy(|| client.member_add(urls("http://127.0.0.1:1"), true)).await;
    let learner = learner.expect("room for a learner").member.expect("the new one").id;
    all.push(("a second learner", said(client.member_add(urls("http://127.0.0.1:2"), true).await)));
    all.push(("promote a learner that does not run", said(client.member_promote(learner).await)));
    all.push(("a learner's URLs", said(client.member_update(first.id, urls("http://127.0.0.1:1")).await)));
    all.extend(hand_overs(&client, learner).await);
    all.push(("remove the learner", said(client.member_remove(learner).await)));
    all.push(("remove it again", said(client.member_remove(learner).await)));
    all.sort();
    all
}

#[test]
#[cfg_attr(no_etcd, ignore = "etcd is not on PATH: apt-get install etcd-server")]
fn requests_that_cannot_be_carried_out_get_etcds_answers() {
    let etcd = Program { path: peer("etcd"), is_quorate: false };
    let runtime = runtime();
    let [ours, theirs] = [program(), &etcd].map(|program| {
        let mut cluster = Cluster::start_program(program, 3, &[]);
        runtime.block_on(refusals(&mut cluster))
    });
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs, "(ours, etcd's)");
    }
}

/// What each member says to hand-overs that cannot be. Asked again if somebody else leads meanwhile, as happens on a
/// slow machine.
async fn hand_overs(client: &Client, learner: u64) -> Vec<(&'static str, String)> {
    let deadline = Deadline::after(PATIENCE);
    loop {
        let (mut all, mut terms) = (Vec::new(), Vec::new());
        for (_, member) in client.each() {
            let status = member.status().await.expect("all members run");
            if status.header.is_some_and(|header| header.member_id == status.leader) {
                all.push(("lead, nobody", said(member.move_leader(NOBODY).await)));
                all.push(("lead, learner", said(member.move_leader(learner).await)));
                all.push(("lead, leader", said(member.move_leader(status.leader).await)));
            } else {
                all.push(("you do not lead", said(member.move_leader(status.leader).await)));
            }
            let after = member.status().await.expect("all members run");
            terms.extend([(status.leader, status.raft_term), (after.leader, after.raft_term)]);
        }
        if terms.iter().all(|term| *term == terms[0]) || deadline.remaining().is_none() {
            return all;
        }
    }
}

/// With one of three members down, a fourth would leave nobody to spare.
async fn changes_without_one(endpoints: &[String], killed: u64) {
    let client = Client::new(endpoints, Options::default()).expect("our own endpoints are well formed");
    let members = client.member_list(true).await.expect("a majority is there").members;
    let other = members.iter().find(|member| member.id != killed).expect("three members").id;
    let add = said(client.member_add(vec!["http://127.0.0.1:1".to_owned()], false).await);
    assert!(add.contains("etcdserver: unhealthy cluster"), "{add}");
    let remove = said(client.member_remove(other).await);
    assert!(remove.contains("etcdserver: unhealthy cluster"), "{remove}");
    // Whoever is down may always go.
    assert_eq!(said(when_healthy(|| client.member_remove(killed)).await), "done");
}

#[test]
#[cfg_attr(no_etcd, ignore = "etcd is not on PATH: apt-get install etcd-server")]
fn members_are_not_changed_when_others_are_down() {
    let etcd = Program { path: peer("etcd"), is_quorate: false };
    let runtime = runtime();
    for program in [program(), &etcd] {
        let mut cluster = Cluster::start_program(program, 3, &[]);
        let mut endpoints = cluster.endpoints();
        // The leader: when there is another, everybody has noticed.
        let (at, killed) = runtime.block_on(leader(&endpoints, 0));
        cluster.member(at).kill();
        endpoints.remove(at);
        runtime.block_on(async {
            leader(&endpoints, killed).await;
            changes_without_one(&endpoints, killed).await;
        });
    }
}

/// Which endpoint is a leader other than this one, and its id.
async fn leader(endpoints: &[String], other_than: u64) -> (usize, u64) {
    let client = Client::new(endpoints, Options::default()).expect("our own endpoints are well formed");
    let deadline = Deadline::after(PATIENCE);
    loop {
        for (at, (_, member)) in client.each().enumerate() {
            let status = member.status().await.expect("the member runs");
            let id = status.header.expect("responses have headers").member_id;
            if status.leader == id && id != other_than {
                return (at, id);
            }
        }
        assert!(deadline.remaining().is_some(), "no leader is elected");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}
