//! Namespaces of the run's own, for links that can be cut and file systems that can be filled.
//!
//! The program starts itself again inside a fresh network and a fresh table of mounts. Whatever it makes there, bridges,
//! members' namespaces, file systems, is seen by nobody else and goes with the last process in it, however that ends. Root
//! may do this; everybody else may where the system lets users make namespaces, because inside one's own everybody is
//! root. Needs the programs `unshare`, `ip` and `mount`.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Set in the program that runs inside.
const INSIDE: &str = "QUORATE_JEPSEN_INSIDE";

/// Makes sure that this program runs in namespaces of its own. Returns inside them, or not at all, or with the reason
/// why that cannot be.
pub fn enter() -> Result<(), String> {
    if std::env::var_os(INSIDE).is_some() {
        // `ip netns` keeps its list in /run, which is somebody else's.
        run("ip", &["link", "set", "lo", "up"])?;
        return run("mount", &["-t", "tmpfs", "tmpfs", "/run"]);
    }
    let mut flags = vec!["--mount", "--net"];
    if !rustix::process::geteuid().is_root() {
        flags.extend(["--user", "--map-root-user"]);
    }
    run("unshare", &[&flags[..], &["true"]].concat()).map_err(|error| {
        format!(
            "partitions and full disks need namespaces, and those cannot be made here ({error}): run this as root, or \
             let users make them (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, \
             kernel.apparmor_restrict_unprivileged_userns)"
        )
    })?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new("unshare");
    command.args(flags).arg("--").arg(program).args(std::env::args_os().skip(1)).env(INSIDE, "1");
    Err(command.exec().to_string())
}

/// Runs a program to its end; what it said if it failed.
pub fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {}: {}", arguments.join(" "), said.trim()))
}
