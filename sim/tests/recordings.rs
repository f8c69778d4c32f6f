//! Recordings of a replica's flight: a panic is replayed to the same panic, and every recording can be drawn.

use std::time::Duration;

use quorate_node::flight::{FlightRecorder, Recorder, Recording};
use quorate_raft::{HardState, Instant, NodeId, SnapshotMeta, WriteId};
use quorate_replica::{Founder, Input, Replica, Saved};
use quorate_sim::options::Options;
use quorate_sim::page::draw_recording;
use quorate_sim::recording::{Ending, Turn, replay};
use quorate_sim::report::catch_panic;

fn replica() -> Replica {
    let founder = Founder { id: NodeId(1), owner: 1, name: "n1".to_owned(), peer_urls: Vec::new() };
    let saved = Saved {
        genesis: vec![founder],
        boot: 1,
        hard_state: HardState::default(),
        snapshot: SnapshotMeta::default(),
        chunks: Vec::new(),
        entries: Vec::new(),
    };
    let config = Options::draw(0).replica_config(NodeId(1));
    Replica::recover(config, 7, Instant(0), saved).expect("there is no snapshot")
}

/// One turn with one input.
fn turn(replica: &mut Replica, recorder: &mut Recorder, at: Duration, input: Input) {
    let now = Instant(at.as_nanos() as u64);
    recorder.turn(now);
    recorder.input(&input);
    replica.handle(now, input);
    while let Some(output) = replica.poll_output() {
        recorder.output(&output);
    }
    recorder.end(replica);
}

/// What was recorded, by way of a file.
fn recording(reader: &FlightRecorder) -> Recording {
    let mut file = Vec::new();
    reader.take_in_panic().expect("it has begun").write("a test", 0, &mut file).expect("memory takes it");
    Recording::read(&file).expect("it is whole")
}

#[test]
fn a_panic_is_replayed_to_the_same_panic_and_drawn() {
    let reader = FlightRecorder::new(1 << 20, drop);
    let mut replica = replica();
    let mut recorder = reader.begin(&mut replica);
    turn(&mut replica, &mut recorder, Duration::from_secs(60), Input::Wake);
    let panic = catch_panic(|| {
        turn(&mut replica, &mut recorder, Duration::from_secs(61), Input::Persisted(WriteId(99)));
    });
    let said = panic.expect_err("no such write was made").detail;

    let (recording, mut turns) = (recording(&reader), Vec::<Turn>::new());
    let replayed = replay(&recording, |_| true, |turn| turns.push(turn.clone()));
    assert_eq!(replayed.ending, Ending::PanicAgain(said));
    assert_eq!((replayed.turns, replayed.finished), (2, 1));
    let page = draw_recording(&recording.header, &turns, &replayed);
    for part in ["Flight recording of member 1", "rule:\"panic\"", "turn 2 ← n1 disk: write 99 is durable"]
    {
        assert!(page.contains(part), "{part:?} in the page");
    }
}

#[test]
fn a_recording_of_an_election_shows_roles_terms_and_positions() {
    let reader = FlightRecorder::new(1 << 20, drop);
    let mut replica = replica();
    let mut recorder = reader.begin(&mut replica);
    for second in [60, 120] {
        turn(&mut replica, &mut recorder, Duration::from_secs(second), Input::Wake);
        turn(&mut replica, &mut recorder, Duration::from_secs(second), Input::Persisted(WriteId(1)));
    }
    let (recording, mut turns) = (recording(&reader), Vec::<Turn>::new());
    let replayed = replay(&recording, |turn| turn > 1, |turn| turns.push(turn.clone()));
    assert_eq!(replayed.ending, Ending::Arrived);
    assert_eq!(turns.first().map(|turn| turn.number), Some(2), "only what is wanted is shown");
    assert!(turns.iter().any(|turn| turn.changed.is_some()), "it has a new role");
    let page = draw_recording(&recording.header, &turns, &replayed);
    assert!(page.contains("replayed: every turn as it was recorded") && page.contains("n1 is member 1"));
    assert!(page.contains("turns 2 to 4 of 4"), "the page says what it shows");
}
