//! Command lines and data directories that make no sense, or harm: each gets a clear message and an exit code, and
//! nothing on the disk is touched.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use quorate_tests::{Cluster, Deadline, Etcdctl, Exit, Process, free_port, program};

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the server with these arguments until it ends by itself.
fn run(arguments: &[&str]) -> Exit {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    // Defaults of whatever is not under test must not collide with another server, or leave files behind.
    let mut command = Command::new(&program().path);
    command.current_dir(directory.path()).args(arguments);
    let exit = Process::start(&mut command, "").wait(Deadline::after(PATIENCE));
    let left: Vec<_> = fs::read_dir(directory.path()).expect("it is still there").collect();
    // etcd has made its data directory by then.
    assert!(
        left.is_empty() || !program().is_quorate,
        "a refused command line leaves something behind: {left:?}"
    );
    exit
}

/// The server refused, with this exit code and these words.
#[track_caller]
fn assert_refused(exit: &Exit, code: i32, words: &[&str]) {
    let said = format!("{}{}", exit.stdout, exit.stderr);
    assert_eq!(exit.code, Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in:\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn an_unknown_flag() {
    assert_refused(&run(&["--bogus"]), 2, &["flag provided but not defined: -bogus"]);
}

#[test]
fn a_flag_without_its_value() {
    assert_refused(&run(&["--name"]), 2, &["flag needs an argument: -name"]);
}

#[test]
fn malformed_urls_and_numbers() {
    for (flag, value) in [
        ("--listen-client-urls", "127.0.0.1:2379"),
        ("--listen-client-urls", "ftp://127.0.0.1:2379"),
        ("--listen-peer-urls", "http://127.0.0.1"),
        ("--initial-advertise-peer-urls", "http://127.0.0.1:2380/path"),
        ("--heartbeat-interval", "fast"),
        ("--snapshot-count", "-1"),
        ("--flight-recorder", "yes"),
        ("--flight-recorder", "1KiB"),
        ("--flight-recorder", "99999999999GiB"),
    ] {
        assert_refused(&run(&[flag, value]), 2, &["invalid value", value, &flag[2..]]);
    }
}

#[test]
fn a_member_that_is_not_in_the_initial_cluster() {
    let exit = run(&["--name", "me", "--initial-cluster", "you=http://127.0.0.1:2380"]);
    assert_refused(&exit, 1, &["couldn't find local name \"me\" in the initial cluster configuration"]);
}

#[test]
fn an_election_timeout_that_is_too_short() {
    let exit = run(&["--heartbeat-interval", "300", "--election-timeout", "1000"]);
    assert_refused(&exit, 1, &["--election-timeout[1000ms]", "--heartbeat-interval[300ms]"]);
}

#[test]
fn a_port_that_is_taken() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", free_port())).expect("it is free");
    let port = taken.local_addr().expect("it is bound").port();
    let mut cluster = Cluster::prepare(program(), 1, &[]);
    cluster.member(0).options().client_port = port;
    let exit = cluster.member(0).start_and_fail();
    assert_refused(&exit, 1, &["ddress already in use", &port.to_string()]);
}

/// A stopped single member with some acknowledged puts, and etcdctl for it.
fn member_with_data() -> Option<(Cluster, Etcdctl)> {
    if !program().is_quorate {
        return None; // what follows is about our files
    }
    let mut cluster = Cluster::start(1, &[]);
    let etcdctl = Etcdctl::new(&cluster.endpoints());
    for at in 0..8 {
        assert_eq!(
            etcdctl.ok(&["put", &format!("key{at}"), "a value of some length, to have some bytes"]),
            "OK\n"
        );
    }
    cluster.member(0).kill();
    Some((cluster, etcdctl))
}

/// All files below the directory with their contents.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("the directory can be read") {
            let path = entry.expect("the directory can be read").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let bytes = fs::read(&path).expect("the file can be read");
                files.insert(path, bytes);
            }
        }
    }
    files
}

/// The newest segment of the log: files of the frame kind `Segment`, by the byte diagram in engine/node/src/codec.rs.
fn newest_segment(directory: &Path) -> (PathBuf, Vec<u8>) {
    let is_segment = |bytes: &[u8]| bytes.starts_with(b"QUOR") && bytes.get(6..8) == Some(&[4, 0]);
    let mut segments = contents(directory).into_iter().filter(|(_, bytes)| is_segment(bytes));
    segments.next_back().expect("a member that has run has a log")
}

/// Where the log's last record ends: behind it there is nothing but zeros.
fn used_length(segment: &[u8]) -> usize {
    let last = segment.iter().rposition(|byte| *byte != 0).expect("a segment is not empty");
    (last + 1).next_multiple_of(8)
}

/// Starts the member, which must refuse, and must not have changed a byte, but for the file that counts its starts.
fn assert_start_refused(cluster: &mut Cluster, words: &[&str]) {
    let before = contents(cluster.member(0).data_dir());
    let exit = cluster.member(0).start_and_fail();
    assert_refused(&exit, 1, words);
    let after = contents(cluster.member(0).data_dir());
    let same = |(path, bytes): &(&PathBuf, &Vec<u8>)| after.get(*path) == Some(*bytes);
    let changed: Vec<_> = before.iter().filter(|file| !same(file)).map(|(path, _)| path).collect();
    assert!(changed.is_empty(), "a refused start changed {changed:?}");
    assert_eq!(before.len(), after.len(), "a refused start left files behind: {:?}", after.keys());
}

fn assert_data_is_there(etcdctl: &Etcdctl) {
    let keys = etcdctl.ok(&["get", "key", "--prefix", "--keys-only"]);
    assert_eq!(keys.split_whitespace().count(), 8, "{keys}");
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn a_torn_tail_is_cut_off() {
    let Some((mut cluster, etcdctl)) = member_with_data() else { return };
    let (path, mut segment) = newest_segment(cluster.member(0).data_dir());
    let end = used_length(&segment);
    segment.resize(segment.len().max(end + 40), 0);
    segment[end..end + 40].fill(0x5a);
    fs::write(&path, segment).expect("the file can be written");
    cluster.member(0).start();
    assert_data_is_there(&etcdctl);
    assert_eq!(etcdctl.ok(&["put", "more", "1"]), "OK\n");
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn a_flipped_bit_in_the_middle_is_refused() {
    let Some((mut cluster, etcdctl)) = member_with_data() else { return };
    let (path, segment) = newest_segment(cluster.member(0).data_dir());
    let middle = used_length(&segment) / 2;
    let mut damaged = segment.clone();
    damaged[middle] ^= 0x10;
    fs::write(&path, &damaged).expect("the file can be written");
    let name = path.file_name().and_then(|name| name.to_str()).expect("our names are ASCII").to_owned();
    assert_start_refused(&mut cluster, &[&name, "is damaged at byte", "restore"]);
    fs::write(&path, &segment).expect("the file can be written");
    cluster.member(0).start();
    assert_data_is_there(&etcdctl);
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn a_log_of_a_newer_version_is_refused() {
    let Some((mut cluster, etcdctl)) = member_with_data() else { return };
    let (path, segment) = newest_segment(cluster.member(0).data_dir());
    let mut newer = segment.clone();
    newer[4..6].copy_from_slice(&99_u16.to_le_bytes());
    fs::write(&path, &newer).expect("the file can be written");
    assert_start_refused(&mut cluster, &["written by a newer version", "format 99"]);
    fs::write(&path, &segment).expect("the file can be written");
    cluster.member(0).start();
    assert_data_is_there(&etcdctl);
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn a_data_directory_of_another_member_is_refused() {
    let Some((mut cluster, _)) = member_with_data() else { return };
    let mut other = Cluster::prepare(program(), 1, &[]);
    other.member(0).options().data_dir = cluster.member(0).data_dir().to_path_buf();
    other.member(0).options().token = "another".to_owned();
    assert_start_refused(&mut other, &["belongs to"]);
    cluster.member(0).start();
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn a_data_directory_is_used_by_one_process_at_a_time() {
    if !program().is_quorate {
        return; // etcd waits for the lock
    }
    let mut first = Cluster::start(1, &[]);
    let mut second = Cluster::prepare(program(), 1, &[]);
    second.member(0).options().data_dir = first.member(0).data_dir().to_path_buf();
    let exit = second.member(0).start_and_fail();
    assert_refused(&exit, 1, &["is in use by another process"]);
    assert!(first.member(0).is_running());
    let etcdctl = Etcdctl::new(&first.endpoints());
    assert_eq!(etcdctl.ok(&["put", "still", "here"]), "OK\n");
}

#[test]
fn a_directory_that_cannot_be_made() {
    let mut cluster = Cluster::prepare(program(), 1, &[]);
    // Even the superuser cannot make a directory below a file.
    let file = cluster.member(0).data_dir().with_extension("file");
    fs::write(&file, "precious").expect("the file can be written");
    cluster.member(0).options().data_dir = file.join("data");
    let exit = cluster.member(0).start_and_fail();
    assert_refused(&exit, 1, &[&file.display().to_string()]);
    assert_eq!(fs::read(&file).expect("the file can be read"), b"precious");
}

#[test]
#[cfg_attr(no_etcdctl, ignore = "etcdctl is not on PATH: apt-get install etcd-client")]
fn a_full_disk_ends_the_start_and_harms_nothing() {
    let Some((mut cluster, etcdctl)) = member_with_data() else { return };
    let before = newest_segment(cluster.member(0).data_dir()).1;
    let used = used_length(&before);
    let arguments = cluster.member(0).options().arguments();
    // A limit on file sizes fails writes as a full disk does, and needs no disk of its own.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\""]);
    command.arg(&program().path).args(arguments);
    let exit = Process::start(&mut command, "").wait(Deadline::after(PATIENCE));
    assert_refused(&exit, 1, &["cannot ", "File too large"]);
    let after = newest_segment(cluster.member(0).data_dir()).1;
    assert_eq!(before[..used], after[..used], "what was in the log is still there");
    cluster.member(0).start();
    assert_data_is_there(&etcdctl);
}
