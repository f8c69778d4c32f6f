//! The flight recorder of real members: recordings on a signal and on request, replayed by `quorate-sim`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use quorate_client::proto::etcdserverpb as pb;
use quorate_client::{Client, Options};
use quorate_tests::{Cluster, Deadline, Exit, Process, workspace_program};
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(120);

/// Replays a recording.
fn replay(file: &Path, options: &[&str]) -> Exit {
    let mut command = Command::new(workspace_program("quorate-sim", "quorate-sim"));
    Process::start(command.arg("replay-node").arg(file).args(options), "").wait(Deadline::after(PATIENCE))
}

/// Puts, gets and deletes through all members, in turn. Whether they succeed does not matter here: on a slow machine
/// leaders may change.
fn load(endpoints: &[String], rounds: usize) {
    let runtime = tokio::runtime::Runtime::new().expect("the system has threads");
    let served = runtime.block_on(async {
        let mut served = 0;
        for round in 0..rounds {
            let endpoint = &endpoints[round % endpoints.len()];
            let client = Client::new([endpoint], Options::default()).expect("an endpoint");
            for number in 0..20 {
                let key = Bytes::from(format!("key {}", number % 7));
                let value = Bytes::from(vec![b'v'; 3_000]);
                let put = pb::PutRequest { key: key.clone(), value, ..Default::default() };
                served += u32::from(client.put(put).await.is_ok());
                let range = pb::RangeRequest { key: key.clone(), ..Default::default() };
                served += u32::from(client.range(range).await.is_ok());
                if number % 5 == 4 {
                    let delete = pb::DeleteRangeRequest { key, ..Default::default() };
                    served += u32::from(client.delete_range(delete).await.is_ok());
                }
            }
        }
        served
    });
    assert!(served > 0, "nothing was served");
}

/// What a member said of its latest recording: the file, and the state.
fn said(line: &str) -> (PathBuf, String) {
    let line: serde_json::Value = serde_json::from_str(line).expect("logs are JSON lines");
    let text = |name: &str| line[name].as_str().unwrap_or_else(|| panic!("{name} in {line}")).to_owned();
    (PathBuf::from(text("file")), text("state"))
}

#[test]
fn what_every_member_recorded_is_replayed_to_the_state_that_it_reports() {
    let mut cluster = Cluster::start(3, &["--flight-recorder", "1MiB"]);
    load(&cluster.endpoints(), 30);
    for at in 0..3 {
        let line = cluster.member(at).signal_and_await(Signal::USR1, "wrote a flight recording");
        let (file, state) = said(&line);
        let mode = file.metadata().expect("it has been written").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "only its owner may read what clients have stored");
        let exit = replay(&file, &["--quiet"]);
        assert_eq!(exit.code, Some(0), "{exit:?}");
        assert!(exit.stdout.contains(&format!(" state={state}\n")), "{state} in {exit:?}");
        assert!(exit.stdout.contains("because of: SIGUSR1"), "{exit:?}");
        assert!(
            exit.stdout.contains("every turn as it was recorded, and the same state at the end"),
            "{exit:?}"
        );
    }
}

#[test]
fn a_recording_is_stepped_through_and_a_damaged_one_is_refused() {
    let mut cluster = Cluster::start(1, &["--flight-recorder", "4MiB"]);
    load(&cluster.endpoints(), 1);
    let line = cluster.member(0).signal_and_await(Signal::USR1, "wrote a flight recording");
    let (file, _) = said(&line);

    let exit = replay(&file, &["--from", "2", "--to", "3"]);
    let turns: Vec<&str> = exit.stdout.lines().filter(|line| line.starts_with("turn ")).collect();
    assert_eq!(turns.len(), 2, "{exit:?}");
    let whole = replay(&file, &[]);
    for step in ["  <- time", "  <- request ", "  -> disk: write ", "  -> answer ", "  == n"] {
        assert!(whole.stdout.contains(step), "{step:?} in {whole:?}");
    }

    let bytes = fs::read(&file).expect("it has been written");
    let refused = |bytes: &[u8], words: &str| {
        fs::write(&file, bytes).expect("there is room");
        let exit = replay(&file, &[]);
        assert_eq!(exit.code, Some(2), "{exit:?}");
        assert!(exit.stderr.contains(words) && exit.stdout.is_empty(), "{words:?} in {exit:?}");
    };
    refused(&bytes[..bytes.len() - 1], "the recording is cut off at byte ");
    refused(&bytes[..bytes.len() / 2], "the recording is cut off at byte ");
    refused(b"{}", "this is not a recording");
    refused(b"", "this is not a recording");
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    refused(&damaged, "the recording is damaged at byte ");
    let missing = replay(Path::new("nowhere.recording"), &[]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    let nothing = replay(&file, &["--from", "3", "--to", "2"]);
    assert!(nothing.code == Some(2) && nothing.stderr.contains("no turn would be shown"), "{nothing:?}");
}

/// Runs `quoratectl`.
fn quoratectl(endpoints: &[String], arguments: &[&str]) -> Exit {
    let mut command = Command::new(workspace_program("quorate-client", "quoratectl"));
    command.arg("--endpoints").arg(endpoints.join(",")).args(arguments);
    Process::start(&mut command, "").wait(Deadline::after(PATIENCE))
}

#[test]
fn recordings_are_asked_for_from_afar_and_drawn() {
    let mut cluster = Cluster::start(3, &["--flight-recorder", "1MiB"]);
    load(&cluster.endpoints(), 3);
    let exit = quoratectl(&cluster.endpoints(), &["endpoint", "flight-recording", "-w", "json"]);
    assert_eq!(exit.code, Some(0), "{exit:?}");
    let said: serde_json::Value = serde_json::from_str(&exit.stdout).expect("it is JSON");
    let said = said.as_array().expect("one for each member");
    assert_eq!(said.len(), 3, "{exit:?}");
    for (at, written) in said.iter().enumerate() {
        let file = PathBuf::from(written["file"].as_str().expect("a name"));
        assert!(file.starts_with(cluster.member(at).data_dir()), "{written}");
        let page = file.with_extension("html");
        let exit = replay(&file, &["--report", page.to_str().expect("a name")]);
        assert_eq!(exit.code, Some(0), "{exit:?}");
        let state = written["state"].as_str().expect("a checksum");
        assert!(exit.stdout.contains(&format!(" state={state}\n")), "{written} and {exit:?}");
        assert!(exit.stdout.contains("because of: a request"), "{exit:?}");
        let page = fs::read_to_string(page).expect("it has been drawn");
        assert!(page.contains("<title>Flight recording of member "), "{at}");
    }
}

#[test]
fn members_without_a_recorder_and_other_servers_say_so_when_asked_for_a_recording() {
    let cluster = Cluster::start(1, &[]);
    let exit = quoratectl(&cluster.endpoints(), &["endpoint", "flight-recording"]);
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(exit.stderr.contains("start it with --flight-recorder 64MiB"), "{exit:?}");
    let exit = quoratectl(&["127.0.0.1:1".to_owned()], &["endpoint", "flight-recording"]);
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(exit.stderr.contains("127.0.0.1:1 has written no recording"), "{exit:?}");
}

#[test]
fn without_a_recorder_the_signal_does_no_harm() {
    let mut cluster = Cluster::start(1, &[]);
    let said = cluster.member(0).signal_and_await(Signal::USR1, "SIGUSR1");
    assert!(said.contains("start with --flight-recorder"), "{said}");
    load(&cluster.endpoints(), 1);
    assert!(!cluster.member(0).data_dir().join("recordings").exists());
}
