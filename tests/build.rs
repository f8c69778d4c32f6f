//! Looks for the programs of others that tests run, and for the right to make namespaces.
//!
//! A test that needs one has `#[cfg_attr(no_etcdctl, ignore = "…")]`: without the program cargo counts it as ignored,
//! never as passed. `QUORATE_REQUIRE_PEERS=1` lets it run, and fail with what to install.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=PATH");
    println!("cargo::rerun-if-env-changed=QUORATE_REQUIRE_PEERS");
    println!("cargo::rustc-check-cfg=cfg(no_namespaces)");
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "--net", "ip", "link", "set", "lo", "up"]);
    let namespaces = unshare.output().is_ok_and(|output| output.status.success());
    let required = env::var_os("QUORATE_REQUIRE_PEERS").is_some_and(|value| value == "1");
    if !namespaces && !required {
        println!("cargo::rustc-cfg=no_namespaces");
    }
    for name in ["etcd", "etcdctl"] {
        println!("cargo::rustc-check-cfg=cfg(no_{name})");
        let directories = env::var_os("PATH").unwrap_or_default();
        let found =
            env::split_paths(&directories).map(|directory| directory.join(name)).find(|path| path.is_file());
        match found {
            Some(path) => println!("cargo::rerun-if-changed={}", path.display()),
            None if required => {}
            None => {
                println!("cargo::rustc-cfg=no_{name}");
                // A file that is not there: cargo looks again every time, so that an installation is noticed.
                println!("cargo::rerun-if-changed={name}-is-not-on-path");
            }
        }
    }
}
