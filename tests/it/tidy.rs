//! Tidy: rules of CONTRIBUTING.md and ARCHITECTURE.md that a program can check, over the sources of the workspace.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A package: its folder, the packages of ours that it may use, and the others.
struct Layer {
    folder: &'static str,
    ours: &'static [&'static str],
    /// `None`: at the edge, where the reviewers judge.
    others: Option<&'static [&'static str]>,
}

/// ARCHITECTURE.md, "Who may import whom". Development dependencies are free: tests may use what they like.
const LAYERS: &[Layer] = &[
    Layer { folder: "engine/raft", ours: &[], others: Some(&["rand", "rand_chacha", "serde", "thiserror"]) },
    Layer { folder: "engine/store", ours: &[], others: Some(&["serde", "thiserror"]) },
    Layer { folder: "engine/replica", ours: &["raft", "store"], others: Some(&["serde", "thiserror"]) },
    Layer {
        folder: "engine/node",
        ours: &["raft", "store", "replica"],
        others: Some(&["bincode", "crc32c", "serde", "thiserror", "tokio", "tracing"]),
    },
    Layer { folder: "engine/proto", ours: &[], others: Some(&["prost", "tonic", "tonic-prost"]) },
    Layer {
        folder: "engine/api",
        ours: &["raft", "store", "replica", "node", "proto"],
        others: Some(&["bytes", "prost", "thiserror", "tokio", "tracing"]),
    },
    Layer { folder: "engine/client", ours: &["proto"], others: None },
    Layer { folder: "engine", ours: &["raft", "store", "replica", "node", "proto", "api"], others: None },
    Layer {
        folder: "sim",
        ours: &["raft", "store", "replica", "node", "proto", "api", "client", "jepsen", "jepsen-wire"],
        others: None,
    },
    Layer {
        folder: "jepsen",
        ours: &[],
        others: Some(&["clap", "ctrlc", "flate2", "indicatif", "serde", "serde_json", "thiserror"]),
    },
    Layer { folder: "jepsen/wire", ours: &["proto", "jepsen"], others: Some(&[]) },
    Layer { folder: "jepsen/run", ours: &["client", "jepsen", "jepsen-wire"], others: None },
    Layer { folder: "tests", ours: &["client", "jepsen"], others: None },
    Layer {
        folder: "fuzz",
        ours: &["raft", "store", "replica", "node", "proto", "api", "jepsen"],
        others: None,
    },
];

/// Crates without the standard library.
const NO_STD: [&str; 3] = ["engine/raft", "engine/store", "engine/replica"];

/// Lines of a file, without its tests.
const LINES_MAX: usize = 800;

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace")
}

/// Files below a folder of the workspace with this ending, by their path in the workspace.
fn files(folder: &str, ending: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![workspace().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a readable folder").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() {
                // Build products, and folders that belong to tools.
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if name.ends_with(ending) {
                let text =
                    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                found.insert(in_workspace(&path), text);
            }
        }
    }
    found
}

fn in_workspace(path: &Path) -> String {
    path.strip_prefix(workspace()).expect("found below it").display().to_string()
}

/// The Rust sources of a package, without the packages in folders below it, and without modules that are tests.
fn sources(folder: &str) -> BTreeMap<String, String> {
    let mut sources = files(&format!("{folder}/src"), ".rs");
    let mut tests = Vec::new();
    for (path, text) in &sources {
        let folder = Path::new(path).parent().expect("a file is in a folder");
        for module in text.split("#[cfg(test)]\nmod ").skip(1).filter_map(|rest| rest.split_once(";\n")) {
            tests.push(folder.join(module.0.to_owned() + ".rs").display().to_string());
        }
    }
    sources.retain(|path, _| !tests.contains(path));
    sources
}

/// What comes before the unit tests, which stand at the end.
fn without_tests(text: &str) -> &str {
    text.split_once("#[cfg(test)]\nmod tests {").map_or(text, |(code, _)| code)
}

/// The lines of code in it, numbered from one, with comments cut off. A `//` in a string cuts as well, which can hide
/// something from these rules and never blames anybody.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let code = |line| str::split(line, "//").next().unwrap_or_default();
    text.lines().enumerate().map(move |(at, line)| (at + 1, code(line)))
}

fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// The names under `[dependencies]` (and its kin for targets) of a manifest.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut in_dependencies = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            in_dependencies = section.trim_end_matches(']').split('.').next_back() == Some("dependencies");
        } else if let (true, Some((name, _))) = (in_dependencies, line.split_once('=')) {
            names.push(name.trim().trim_end_matches(".workspace").to_owned());
        }
    }
    names
}

fn manifest(folder: &str) -> String {
    fs::read_to_string(workspace().join(folder).join("Cargo.toml")).expect("every package has a manifest")
}

#[test]
fn every_package_is_a_layer() {
    let workspace = manifest(".");
    let members =
        workspace.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).expect("a list").0;
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    let layers: Vec<&str> = LAYERS.iter().map(|layer| layer.folder).collect();
    for member in &members {
        assert!(
            layers.contains(member),
            "{member} is missing in LAYERS; ARCHITECTURE.md says who may import whom"
        );
    }
    assert_eq!(members.len(), layers.len());
}

#[test]
fn arrows_go_one_way() {
    let mut complaints = Vec::new();
    for layer in LAYERS {
        for name in dependencies(&manifest(layer.folder)) {
            let allowed = match name.strip_prefix("quorate") {
                Some("") => false, // nobody imports the server
                Some(ours) => layer.ours.contains(&&ours[1..]),
                None => layer.others.is_none_or(|others| others.contains(&name.as_str())),
            };
            if !allowed {
                complaints.push(format!("{} may not depend on {name}", layer.folder));
            }
        }
        for (path, text) in sources(layer.folder) {
            for (at, line) in code_lines(without_tests(&text)) {
                for import in imports(line) {
                    let own = layer.folder.rsplit('/').next() == Some(import);
                    if !own && !layer.ours.contains(&import) {
                        complaints
                            .push(format!("{path}:{at}: {} may not use quorate_{import}", layer.folder));
                    }
                }
            }
        }
    }
    assert_none(&complaints);
}

/// The crates of ours that a line names, `quorate_raft` as `raft`.
fn imports(line: &str) -> impl Iterator<Item = &str> {
    let names = LAYERS.iter().filter_map(|layer| layer.folder.rsplit('/').next());
    names.filter(move |name| {
        line.split(&format!("quorate_{name}"))
            .skip(1)
            .any(|rest| rest.starts_with("::") || rest.starts_with(" as"))
    })
}

#[test]
fn the_core_has_no_standard_library() {
    let mut complaints = Vec::new();
    for folder in NO_STD {
        let root =
            fs::read_to_string(workspace().join(folder).join("src/lib.rs")).expect("a crate has a root");
        for attribute in ["#![no_std]", "#![forbid(unsafe_code)]"] {
            if !root.contains(attribute) {
                complaints.push(format!("{folder}/src/lib.rs lacks {attribute}"));
            }
        }
        for (path, text) in sources(folder) {
            // A loophole: a crate without the standard library may still ask for it.
            let banned = ["extern crate std", "std::", "f32", "f64", "HashMap", "HashSet", ".unwrap()"];
            complain(&path, without_tests(&text), &banned, &mut complaints);
        }
    }
    assert_none(&complaints);
}

/// Complains about words in code. A word must not be part of a longer name.
fn complain(path: &str, text: &str, banned: &[&str], complaints: &mut Vec<String>) {
    for (at, line) in code_lines(text) {
        for word in banned {
            let mut rest = line;
            while let Some(found) = rest.find(word) {
                let before = rest[..found].chars().next_back();
                let after = rest[found + word.len()..].chars().next();
                let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
                let starts_inside = word.starts_with(char::is_alphabetic) && part(before);
                let ends_inside = word.ends_with(char::is_alphanumeric) && part(after);
                if !starts_inside && !ends_inside {
                    complaints.push(format!("{path}:{at}: {word} has no place here"));
                }
                rest = &rest[found + word.len()..];
            }
        }
    }
}

#[test]
fn the_node_names_no_runtime_and_keeps_its_order() {
    let banned = [
        "std::fs",
        "std::net",
        "std::thread",
        "std::time",
        "tokio::fs",
        "tokio::net",
        "tokio::spawn",
        "tokio::task",
        "tokio::time",
        "tokio::runtime",
        "tokio::select",
        "select!",
        "HashMap",
        "HashSet",
        "cfg(madsim)",
    ];
    let mut complaints = Vec::new();
    for (path, text) in sources("engine/node") {
        complain(&path, without_tests(&text), &banned, &mut complaints);
    }
    for (path, text) in sources("engine/api") {
        complain(
            &path,
            without_tests(&text),
            &["tonic", "hyper", "tokio::spawn", "std::time::Instant"],
            &mut complaints,
        );
    }
    assert_none(&complaints);
}

#[test]
fn no_product_code_knows_of_the_simulator() {
    let mut complaints = Vec::new();
    for layer in LAYERS.iter().filter(|layer| layer.folder.starts_with("engine")) {
        for (path, text) in sources(layer.folder) {
            complain(&path, &text, &["madsim", "quorate_sim"], &mut complaints);
        }
    }
    for (path, text) in sources("sim") {
        if !path.starts_with("sim/src/whole/") {
            complain(&path, &text, &["madsim::"], &mut complaints);
        }
    }
    assert_none(&complaints);
}

/// All Rust files of the workspace.
fn all_sources() -> BTreeMap<String, String> {
    ["engine", "sim", "jepsen", "tests", "fuzz"].into_iter().flat_map(|folder| files(folder, ".rs")).collect()
}

#[test]
fn files_have_a_length_that_can_be_read() {
    let mut complaints = Vec::new();
    for (path, text) in all_sources() {
        let lines = without_tests(&text).lines().count();
        if lines > LINES_MAX {
            complaints.push(format!("{path} has {lines} lines without its tests; split it by subject"));
        }
    }
    assert_none(&complaints);
}

#[test]
fn nothing_is_left_for_later() {
    // Written in parts, or this file would blame itself.
    let markers = ["FIX", "TO", "XX"].map(|start| {
        start.to_owned()
            + if start == "FIX" {
                "ME"
            } else if start == "TO" {
                "DO"
            } else {
                "X"
            }
    });
    let macros = ["todo", "unimplemented"].map(|name| name.to_owned() + "!(");
    let ignored = "#[ig".to_owned() + "nore";
    let mut complaints = Vec::new();
    for (path, text) in all_sources() {
        for (at, line) in text.lines().enumerate() {
            let words = || line.split(|c: char| !c.is_alphanumeric());
            if words().any(|word| markers.iter().any(|marker| marker == word))
                || macros.iter().any(|name| line.contains(name))
                || line.contains(&ignored)
            {
                complaints.push(format!("{path}:{}: something is left for later: {}", at + 1, line.trim()));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn no_path_of_a_developers_machine() {
    let mut complaints = Vec::new();
    let texts =
        [".rs", ".toml", ".md", ".proto", ".sh", ".yml"].into_iter().flat_map(|ending| files(".", ending));
    let suspects = ["/home/", "/root/", "/Users/", "/work/"];
    for (path, text) in texts {
        for (at, line) in text.lines().enumerate() {
            let is_rule = path == "tests/it/tidy.rs" && line.contains("let suspects");
            if !is_rule && suspects.iter().any(|suspect| line.contains(suspect)) {
                complaints.push(format!("{path}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut complaints = Vec::new();
    for (path, text) in files(".", ".md") {
        let folder = workspace().join(&path).parent().map(Path::to_path_buf).unwrap_or_default();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            let elsewhere = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !elsewhere && !folder.join(target).exists() {
                complaints.push(format!("{path}: {target} does not exist"));
            }
        }
        for name in mentioned_files(&text) {
            // From the top of the workspace, or from where the document is.
            if !workspace().join(&name).exists() && !folder.join(&name).exists() {
                complaints.push(format!("{path}: {} does not exist", name.display()));
            }
        }
    }
    assert_none(&complaints);
}

/// Paths of sources that a document mentions in backticks, such as `engine/raft/src/lib.rs`.
fn mentioned_files(text: &str) -> impl Iterator<Item = PathBuf> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_source = |name: &&str| {
        let below_ours = LAYERS.iter().any(|layer| name.starts_with(&format!("{}/", layer.folder)));
        let plain = name.chars().all(|c| c.is_alphanumeric() || "/_-.".contains(c));
        below_ours && plain && Path::new(name).extension().is_some_and(|ending| ending == "rs")
    };
    quoted.filter(is_source).map(PathBuf::from)
}
