//! Members are killed with `kill -9` under load, and what the clients saw is judged.
//!
//! Three processes are killed and started again: one after the other, a majority, and all.

use std::fs;

use quorate_jepsen::Verdict;
use quorate_tests::{Cluster, program};

#[cfg(feature = "etcd-client")]
use crate::load::Theirs;
use crate::load::{Client, Load, Ours};

/// Members that are killed at once, and started again.
struct Fault {
    victims: &'static [usize],
    /// Their data is removed as well: a fault that no cluster survives if it strikes a majority.
    forget: bool,
}

const fn kill(victims: &'static [usize]) -> Fault {
    Fault { victims, forget: false }
}

const FAULTS: [Fault; 6] =
    [kill(&[0]), kill(&[1]), kill(&[2]), kill(&[0, 1]), kill(&[0, 1, 2]), kill(&[1, 2])];

#[test]
fn nothing_acknowledged_is_lost_and_no_read_is_stale() {
    let verdict = verdict_under::<Ours>(&FAULTS, 1);
    assert!(verdict.is_valid(), "{} judged by its history: {verdict}", program().path.display());
}

#[cfg(feature = "etcd-client")]
#[test]
fn the_crate_etcd_client_sees_the_same() {
    let verdict = verdict_under::<Theirs>(&FAULTS, 2);
    assert!(verdict.is_valid(), "{} judged by its history: {verdict}", program().path.display());
}

/// The oracle is awake: a cluster that loses its data is found out.
#[test]
fn a_cluster_that_forgets_is_found_out() {
    let verdict = verdict_under::<Ours>(&[Fault { victims: &[0, 1, 2], forget: true }], 3);
    assert!(verdict.is_invalid(), "acknowledged writes are gone, and the verdict is: {verdict}");
}

/// Runs clients while the faults happen, one after the other, and judges what they saw.
fn verdict_under<C: Client>(faults: &[Fault], seed: u64) -> Verdict {
    let mut cluster = Cluster::start(3, &[]);
    let endpoints = cluster.endpoints();
    let load = Load::<C>::start(&endpoints, seed);
    for fault in faults {
        load.await_progress();
        for victim in fault.victims {
            cluster.member(*victim).kill();
            if fault.forget {
                fs::remove_dir_all(cluster.member(*victim).data_dir()).expect("our own files can be removed");
            }
        }
        if fault.victims.len() == 1 {
            load.await_progress(); // two of three go on
        }
        cluster.start_all();
    }
    load.await_progress();
    load.judge(&endpoints)
}
