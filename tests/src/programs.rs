//! Where the programs are: ours, built when it is first needed, and those of others, on `PATH`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The server under test.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// It is ours, by its name: it may be held to more than etcd is.
    pub is_quorate: bool,
}

/// The server under test: what `QUORATE_TEST_SERVER` names, or the workspace's `quorate`, in the profile and the target
/// directory of the tests themselves.
///
/// Cargo tells a test only the programs of its own package, so that this asks cargo to build the server. When tests run
/// cargo holds no lock, and mostly there is nothing left to do.
///
/// # Panics
/// When the build fails.
pub fn program() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| match env::var_os("QUORATE_TEST_SERVER") {
        Some(path) => {
            Program { path: on_path(&path.to_string_lossy()).unwrap_or(path.into()), is_quorate: false }
        }
        None => Program { path: workspace_program("quorate", "quorate"), is_quorate: true },
    })
}

/// A program of the workspace, built in the profile and the target directory of the tests themselves.
///
/// # Panics
/// When the build fails.
#[must_use]
pub fn workspace_program(package: &str, name: &str) -> PathBuf {
    // …/target/<profile>/deps/it-0123456789abcdef
    let test = env::current_exe().expect("a running program has a path");
    let profile_directory = test.ancestors().nth(2).expect("tests are in <target>/<profile>/deps");
    let target_directory =
        profile_directory.parent().expect("a profile's directory is in the target directory");
    let profile = match profile_directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--package", package, "--bin", name, "--profile", profile])
        .arg("--target-dir")
        .arg(target_directory)
        .current_dir(workspace())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "building {name} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    profile_directory.join(name)
}

/// The top of the workspace.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace")
}

/// A program of others. A test that uses one is ignored where it is missing: see `build.rs`.
///
/// # Panics
/// When it is missing all the same, with what to install.
#[must_use]
pub fn peer(name: &str) -> PathBuf {
    on_path(name).unwrap_or_else(|| {
        let package = if name == "etcd" { "etcd-server" } else { "etcd-client" };
        panic!("{name} is not on PATH; install it, for example with: apt-get install {package}")
    })
}

fn on_path(name: &str) -> Option<PathBuf> {
    let directories = env::var_os("PATH")?;
    env::split_paths(&directories).map(|directory| directory.join(name)).find(|path| path.is_file())
}
