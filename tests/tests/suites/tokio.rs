//! tokio's tests of TCP, from the sources that cargo fetches.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tests::daemon::PrivateDir;
use tests::{Mode, Program, run};

use super::compare::{Results, compare, tail, whole};

const VERSION: &str = "1.54.1";
/// The test programs of tokio that use TCP.
const PROGRAMS: [&str; 16] = [
    "tcp_accept",
    "tcp_accept_ready",
    "tcp_connect",
    "tcp_echo",
    "tcp_into_split",
    "tcp_into_std",
    "tcp_peek",
    "tcp_shutdown",
    "tcp_socket",
    "tcp_split",
    "tcp_stream",
    "io_copy_bidirectional",
    "io_driver",
    "net_panic",
    "net_quickack",
    "rt_common",
];

fn cargo(dir: &Path, args: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let out = Command::new(cargo)
        .args(args)
        .current_dir(dir)
        .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("tokio"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo");
    assert!(out.status.success(), "cargo {args:?} in {}: {}", dir.display(), out.status);
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Copies a tree, because cargo's own copy must not be written to.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("cargo's sources").flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a copy");
        }
    }
}

/// The directory into which cargo has unpacked tokio, for a package in `dir` that depends on it.
fn fetched(dir: &Path) -> PathBuf {
    fs::create_dir_all(dir.join("src")).expect("a directory");
    fs::write(dir.join("src/lib.rs"), "").expect("a file");
    let manifest = format!("[package]\nname = \"wants\"\n[dependencies]\ntokio = \"={VERSION}\"\n[workspace]\n");
    fs::write(dir.join("Cargo.toml"), manifest).expect("a file");
    let metadata: Value = serde_json::from_str(&cargo(dir, &["metadata", "--format-version", "1"])).expect("JSON");
    let packages = metadata.get("packages").and_then(Value::as_array).expect("packages");
    let tokio = packages.iter().find(|p| p.get("name").is_some_and(|n| n == "tokio")).expect("tokio");
    let manifest = tokio.get("manifest_path").and_then(Value::as_str).expect("its manifest");
    Path::new(manifest).parent().expect("a directory").into()
}

/// Builds the test programs in `dir`: name and path of each.
fn build(dir: &Path) -> Vec<(String, PathBuf)> {
    let sources = dir.join("tokio");
    copy(&fetched(&dir.join("wants")), &sources);
    // The libraries that tokio's tests use depend on tokio, too, and must get the same one, whatever its lock file
    // says.
    let _ = fs::remove_file(sources.join("Cargo.lock"));
    let manifest = sources.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).expect("a manifest");
    fs::write(&manifest, text + "\n[patch.crates-io]\ntokio = { path = \".\" }\n").expect("a file");
    let mut args = vec!["test", "--no-run", "--features", "full", "--message-format", "json"];
    args.extend(PROGRAMS.iter().flat_map(|name| ["--test", name]));
    let programs: Vec<_> = cargo(&sources, &args)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| {
            let name = message.get("target")?.get("name")?.as_str()?.to_owned();
            Some((name, message.get("executable")?.as_str()?.into()))
        })
        .collect();
    assert_eq!(programs.len(), PROGRAMS.len(), "{programs:?}");
    programs
}

/// Runs them, and reads the lines `test NAME ... ok`.
fn run_all(programs: &[(String, PathBuf)], mode: Mode) -> Results {
    let mut results = Results::new();
    for (name, path) in programs {
        let program = Program::new(path, &["--test-threads", "1"]).limit(Duration::from_secs(300));
        let outcome = run(&program, mode, |_| Ok(()));
        if outcome.status.is_none() {
            panic!("came to no end: {}\n{}", program.by_hand(mode), tail(&outcome));
        }
        for line in &outcome.lines {
            if let Some((test, result)) = line.strip_prefix("test ").and_then(|l| l.rsplit_once(" ... ")) {
                results.insert(format!("{name}::{test}"), result.into());
            }
        }
    }
    results
}

#[test]
fn tokio_whole() {
    if !whole("tokio's tests of TCP") {
        return;
    }
    let dir = PrivateDir::new();
    let programs = build(dir.path());
    let finals = compare(&format!("tokio {VERSION}"), |mode| run_all(&programs, mode));
    assert!(finals > 0, "no stream moved");
}
