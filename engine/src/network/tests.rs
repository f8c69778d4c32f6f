//! Two members over loopback, their connections, and who is turned away.

use quorate_node::testing::{founder, identity};
use quorate_node::{Genesis, InboxReceiver, QuestionReceiver, inbox, questions};
use quorate_replica::RequestId;
use quorate_store::LeaseId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

struct Member {
    network: TcpNetwork,
    inbox: InboxReceiver,
    questions: Option<QuestionReceiver>,
    /// Ends the member's tasks when it is dropped.
    _tasks: JoinSet<()>,
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    (listener, address)
}

/// A member that has not begun.
fn nobody(listener: TcpListener) -> Member {
    let (sender, receiver) = inbox();
    let (asking, questions) = questions();
    let (network, tasks) = TcpNetwork::new(vec![listener], sender, asking);
    let mut running = JoinSet::new();
    running.spawn(tasks.run());
    Member { network, inbox: receiver, questions: Some(questions), _tasks: running }
}

fn member(cluster: u64, id: NodeId, listener: TcpListener, peer: (NodeId, &str)) -> Member {
    let listener_address = listener.local_addr().expect("bound").to_string();
    let member = nobody(listener);
    let own = format!("http://{}", listener_address);
    member.network.begin(&identity(cluster, id.0, &[1, 2]), vec![own]);
    member.network.set_peers(vec![(peer.0, vec![format!("http://{}", peer.1)])], BTreeSet::new());
    member
}

fn message(sequence: u64) -> Message {
    Message::KeepAlive { id: RequestId { boot: 1, sequence }, lease: LeaseId(7) }
}

/// Waits until something holds of the traffic with the only peer.
async fn until(network: &TcpNetwork, holds: impl Fn(&Traffic) -> bool) {
    while !holds(&network.traffic()[0].1) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn messages_arrive_in_order_and_are_counted() {
    let ((listener_one, address_one), (listener_two, address_two)) = (listener().await, listener().await);
    let one = member(7, ONE, listener_one, (TWO, &address_two));
    let mut two = member(7, TWO, listener_two, (ONE, &address_one));
    for sequence in 1..=1000 {
        one.network.send(TWO, message(sequence));
    }
    for sequence in 1..=1000 {
        assert_eq!(two.inbox.next_message().await, Some((ONE, message(sequence))));
    }
    let (sent, received) = (one.network.traffic()[0].1, two.network.traffic()[0].1);
    assert!(sent.connected);
    assert_eq!(sent.sent_bytes, received.received_bytes);
    assert_eq!((sent.send_failures, received.receive_failures), (0, 0));
}

#[tokio::test]
async fn a_peer_that_comes_back_is_found_again_at_its_new_place() {
    let ((listener_one, address_one), (listener_two, address_two)) = (listener().await, listener().await);
    let one = member(7, ONE, listener_one, (TWO, &address_two));
    let two = member(7, TWO, listener_two, (ONE, &address_one));
    until(&one.network, |traffic| traffic.connected).await;
    drop(two);
    until(&one.network, |traffic| !traffic.connected).await;
    let (listener, moved) = listener().await;
    let mut two = member(7, TWO, listener, (ONE, &address_one));
    one.network.set_peers(vec![(TWO, vec![format!("http://{moved}")])], BTreeSet::new());
    until(&one.network, |traffic| traffic.connected).await;
    one.network.send(TWO, message(1));
    assert_eq!(two.inbox.next_message().await, Some((ONE, message(1))));
}

#[tokio::test]
async fn peers_come_and_go_and_those_that_stay_keep_their_connection() {
    let ((listener_one, address_one), (listener_two, address_two)) = (listener().await, listener().await);
    let one = member(7, ONE, listener_one, (TWO, &address_two));
    let mut two = member(7, TWO, listener_two, (ONE, &address_one));
    until(&one.network, |traffic| traffic.connected).await;
    one.network.send(TWO, message(1));
    let two_at = (TWO, vec![format!("http://{address_two}")]);
    let three_at = (NodeId(3), vec!["http://127.0.0.1:1".to_owned(), "nonsense".to_owned()]);
    one.network.set_peers(vec![two_at.clone(), three_at], BTreeSet::new());
    assert_eq!(one.network.traffic().len(), 2);
    one.network.set_peers(vec![two_at], [NodeId(3)].into());
    one.network.send(TWO, message(2));
    for sequence in 1..=2 {
        assert_eq!(two.inbox.next_message().await, Some((ONE, message(sequence))));
    }
    assert!(one.network.traffic()[0].1.connected, "it was never broken");
    assert_eq!(two.network.traffic()[0].1.receive_failures, 0);
}

#[tokio::test]
async fn a_member_that_was_removed_is_told_so() {
    let ((listener_one, address_one), (listener_two, address_two)) = (listener().await, listener().await);
    let one = member(7, ONE, listener_one, (TWO, &address_two));
    let mut two = member(7, TWO, listener_two, (ONE, &address_one));
    until(&two.network, |traffic| traffic.connected).await;
    one.network.set_peers(vec![], [TWO].into());
    assert_eq!(two.inbox.next_removal().await, Some(ONE));
}

/// A member that was away does not know of the one that leads by now; it hears it, and can answer.
#[tokio::test]
async fn a_member_that_is_not_known_yet_is_a_guest() {
    let ((listener_one, address_one), (listener_two, _)) = (listener().await, listener().await);
    let mut one = nobody(listener_one);
    one.network.begin(&identity(7, 1, &[1, 2]), vec![]);
    one.network.set_peers(vec![], BTreeSet::new());
    let mut two = member(7, TWO, listener_two, (ONE, &address_one));
    two.network.send(ONE, message(1));
    assert_eq!(one.inbox.next_message().await, Some((TWO, message(1))));
    one.network.send(TWO, message(2));
    assert_eq!(two.inbox.next_message().await, Some((ONE, message(2))));
    // When it is heard of, it is a peer like others; when it is removed, a guest no more.
    one.network.set_peers(vec![(TWO, vec![])], BTreeSet::new());
    assert!(one.network.traffic()[0].1.connected);
    one.network.set_peers(vec![], [TWO].into());
    assert_eq!(two.inbox.next_removal().await, Some(ONE));
}

#[tokio::test]
async fn a_member_of_another_cluster_or_another_name_is_turned_away() {
    let ((listener_one, address_one), (_, address_nobody)) = (listener().await, listener().await);
    let one = member(7, ONE, listener_one, (TWO, &address_nobody));
    one.network.set_peers(vec![(TWO, vec![])], [NodeId(4)].into());
    let greet = async |cluster, founders: &[u64], from, to| {
        let genesis = Genesis::new(founders.iter().map(|id| founder(*id, *id)).collect()).fingerprint();
        let (cluster, peer_urls) = (ClusterId(cluster), Vec::new());
        let hello = Hello { cluster, genesis, from: NodeId(from), to: NodeId(to), peer_urls };
        handshake::connect(&address_one, &hello).await.map(|_| ()).map_err(|error| error.to_string())
    };
    let refusal = async |cluster, founders: &[u64], from, to| {
        greet(cluster, founders, from, to).await.expect_err("refused")
    };
    assert_eq!(greet(7, &[1, 2], 2, 1).await, Ok(()));
    assert_eq!(
        refusal(8, &[1, 2], 2, 1).await,
        "it belongs to cluster 7, this is cluster 8: check the initial members and the token of both"
    );
    assert!(
        refusal(7, &[1, 3], 2, 1).await.starts_with("it belongs to another cluster that was started with")
    );
    assert_eq!(
        refusal(7, &[1, 2], 2, 3).await,
        "member 1 is not the one expected here: check the peer addresses"
    );
    assert_eq!(refusal(7, &[1, 2], 4, 1).await, "this member has been removed from the cluster");
}

#[tokio::test]
async fn questions_are_answered_before_a_member_knows_who_it_is_and_messages_are_not() {
    let ((listener_one, address_one), (listener_two, _)) = (listener().await, listener().await);
    let (mut one, two) = (nobody(listener_one), nobody(listener_two));
    let mut questions = one.questions.take().expect("not taken yet");
    let answering = tokio::spawn(async move {
        let asked = questions.next().await.expect("somebody asks");
        let Question::Join { owner, .. } = asked.question else { panic!("{asked:?}") };
        asked.answer.send(Answer::Refused(format!("not you, {owner}"))).expect("it waits");
    });
    let question = Question::Join { owner: 5, name: "new".into(), peer_urls: vec![] };
    let answer = two.network.ask(&format!("http://{address_one}"), question.clone()).await;
    assert_eq!(answer, Ok(Answer::Refused("not you, 5".into())));
    answering.await.expect("it does not panic");

    let genesis = Genesis::new(vec![founder(1, 1), founder(2, 2)]).fingerprint();
    let hello = Hello { cluster: ClusterId(7), genesis, from: TWO, to: ONE, peer_urls: Vec::new() };
    let error = handshake::connect(&address_one, &hello).await.expect_err("it cannot say who it is");
    assert_eq!(error.to_string(), "the other side has closed it");
    let NoAnswer(why) = two.network.ask("http://127.0.0.1:1", question).await.expect_err("nobody is there");
    assert!(why.ends_with(" at http://127.0.0.1:1"), "{why}");
}

#[tokio::test]
async fn bytes_that_are_no_message_end_the_connection() {
    let ((listener_one, address_one), (_, address_nobody)) = (listener().await, listener().await);
    let one = member(7, ONE, listener_one, (TWO, &address_nobody));
    let genesis = identity(7, 1, &[1, 2]).genesis.fingerprint();
    let hello = Hello { cluster: ClusterId(7), genesis, from: TWO, to: ONE, peer_urls: Vec::new() };
    let mut stream = handshake::connect(&address_one, &hello).await.expect("greeted");
    stream.write_all(b"GET / HTTP/1.1").await.expect("open");
    // It ends with a reset if we were fast enough to leave something unread.
    assert!(!matches!(stream.read(&mut [0; 1]).await, Ok(1)));
    until(&one.network, |traffic| traffic.receive_failures == 1).await;

    // So does a first frame that is too long.
    let mut stream = TcpStream::connect(&address_one).await.expect("it listens");
    let mut hello = quorate_node::codec::encode_hello(&hello);
    hello[8..12].copy_from_slice(&(1u32 << 20).to_le_bytes());
    stream.write_all(&hello).await.expect("open");
    assert!(!matches!(stream.read(&mut [0; 1]).await, Ok(1)));
}
