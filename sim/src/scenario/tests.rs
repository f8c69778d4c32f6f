use super::*;
use crate::core;
use crate::report::Summary;

const EVERYTHING: &str = "\
# Every kind of line.
source nobody
expect violation durable votes
depths core whole
budget off
seed 9
members 5
storm 20s
pre-vote off
link-delay 1.5ms
clients 3

at 1.000000007s for 300ms crash n1
at 1.2s partition n1,n2 | n3,n4,n5
at 1.2s for 2s cut n1>n2,n3>n4 impairs n1
at 2s for 1s isolate leader in clients
at 2s clog n1>n2
at 2s lossy loss 7 duplication 8 reordering 9 delay 1ms jitter 2ms
at 2s disconnect n2
at 2s drop n2>*,*>n3,n1>n4 vote
at 2s late n1>n2 append 300ms
at 2s transfer n3
at 2s transfer
at 2s add-member learner
at 2s promote-learner
at 2s demote n2
at 2s remove n6
at 2s for 1s lost-disk n5
at 2s power-loss
at 2s pause n3 with-clock
at 2s slow-cpu n3 5ms
at 2s clock-rate n3 0.5
at 2s clock-jump n3 3s
at 2s slow-disk n3 100
at 2s for 1s bit-rot n4
when n2 leads after 5ms crash leader
when any commits 5 heal crash
after 1s heal all
after 1s require any leads
after 1s require not all has \"a b\" = v1 padded 20 within 5 timeouts
after 1s require n6 belongs within 1.5s
after 1s never n7 votes
after 1s never any reaches-term 9 for 2s
when all follows require n1 snapshots 7
when watcher 3 sees 5 require operator idle
when not n3 runs require n1 keeps-lease 77
when n2 has k/00 client 0 n2: get k/00 -> value v1 padded 20
after 0s client 0 n2: get k/00 -> not nothing
after 0s client 0 n2: get all -> count 3
after 0s client 0 n2: txn then { put a b } else { } -> then
after 0s client 0 n2: time-to-live 77 -> gone
when client 0 idle client 0 n2: put r/00 v1 padded 20 lease 7 prev -> ok
at 3s client 1 leader: get k/00 .. k/02 stale revision 4 limit 2 sort mod descend keys-only
at 3s client 2 any: delete all prev
at 3s client 2 n5: 1000 times delete all -> ok
at 3s client 2 n5: txn if value r/00 = v1 and mod \"a b\" != 0 then { put a b ; get a } else { }
at 3s client 2 n5: txn then { txn if lease x > 0 then { } else { get x .. end } } else { get all }
at 3s client 2 n5: compact 5
at 3s client 2 n5: grant 77 3
at 3s client 2 n5: keep-alive 77
at 3s client 2 n5: time-to-live 77
at 3s client 2 n5: revoke 77
at 1s watcher 3 n2: watch r/00 .. r/99 from 4 prev slowly
after 0s watcher 3 n3: resume
after 0s watcher 3 progress
after 0s watcher 3 stop
";

#[test]
fn what_is_written_reads_the_same_again() {
    let scenario = parse(EVERYTHING).expect("every line is right");
    let written = scenario.to_string();
    assert_eq!(parse(&written).expect("what was written can be read").to_string(), written);
    let mut again = parse(&written).expect("as before");
    for (one, other) in scenario.steps.iter().zip(&mut again.steps) {
        other.line = one.line;
    }
    assert_eq!(again, scenario);
}

#[test]
fn mistakes_are_said_with_their_line_and_column() {
    let said = |text: &str| parse(text).expect_err(text).to_string();
    for (text, wanted) in [
        ("members many", "line 1, column 9: expected a number, found \"many\""),
        ("\n  colour red", "line 2, column 3: there is no option \"colour\""),
        ("at 1s crash n9", "line 1, column 13: expected a member (n1 to n7), found \"n9\""),
        ("at 1s crash n5", "line 1, column 1: there is no member n5 in a cluster of 3 (nor does"),
        ("at soon crash n1", "line 1, column 4: expected a duration"),
        ("at 1s explode n1", "line 1, column 7: expected a fault (one of cut,"),
        ("at 1s crash n1 n2", "line 1, column 16: the line should end here"),
        ("at 11s crash n1", "line 1, column 1: the storm is over after 10s"),
        ("at 1s client 0 n1 put a b", "line 1, column 16: expected a member and a colon"),
        ("at 1s client 0 n1: put a", "line 1, column 25: expected a value"),
        ("at 1s client 0 n1: 0 times put a b", "line 1, column 20: a client asks 1 to"),
        ("at 1s client 0 n1: put \"a", "line 1, column 24: the quotation marks do not end"),
        ("at 1s crash n1\nmembers 3", "line 2, column 1: a line of the schedule begins with"),
        ("at 1s isolate n1", "line 1, column 17: expected what is cut"),
        ("at 1s partition n1 | n1,n2", "line 1, column 22: n1 is on both sides"),
        ("at 1s drop n1>n2 letters", "line 1, column 18: expected a kind of messages (one of any, vote,"),
        ("at 1s require n1 wins", "line 1, column 18: expected leads, follows,"),
        ("at 1s require nobody leads", "line 1, column 15: expected whom it is about"),
        ("at 1s require any leads within soon", "line 1, column 32: expected a duration"),
        ("at 1s client 0 n1: get a -> fine", "line 1, column 29: expected [not] ok, error,"),
        ("at 1s watcher 0 stop", "line 1, column 1: watcher 0 watches nothing before this line"),
        ("at 1s watcher 0 n1 watch a", "line 1, column 17: expected a member and a colon"),
        ("at 1s transfer n4", "line 1, column 1: there is no member n4"),
        ("depths deep", "line 1, column 8: expected core, whole or both"),
        ("members 9", "line 1, column 9: a cluster has 1 to 7 members"),
        ("pre-vote maybe", "line 1, column 10: expected \"on\" or \"off\""),
    ] {
        let mistake = said(text);
        assert!(mistake.starts_with(wanted), "{text:?}: {mistake}");
    }
}

#[test]
fn a_seed_written_as_a_scenario_is_the_same_run() {
    for seed in 0..4 {
        let mut options = Options::draw(seed);
        options.storm = Duration::from_secs(6);
        let drawn = core::execute(
            &core::Plan::Drawn(&options),
            core::Watch { scenario: true, ..core::Watch::default() },
        );
        assert!(drawn.violation.is_none(), "seed {seed}: {:?}", drawn.violation);
        let scenario = parse(&drawn.scenario.expect("it was asked for").to_string())
            .expect("what was written can be read");
        let scripted = core::execute(&core::Plan::Scripted(&scenario), core::Watch::default());
        assert_eq!(scripted.violation, None, "seed {seed}");
        // The lines of a script are events, and the nemesis's deeds are others.
        let events = drawn.summary.events;
        assert_eq!(Summary { events, ..scripted.summary }, drawn.summary, "seed {seed}");
    }
}
