//! Tornado's tests, which its Debian package brings along.

use std::path::Path;
use std::time::Duration;

use tests::containers::skipped;
use tests::{Mode, Program, run};

use super::compare::{Results, compare, read, tail, whole};

/// Whether it is installed; if not, says so.
fn is_there() -> bool {
    let there = Path::new("/usr/lib/python3/dist-packages/tornado/test").is_dir();
    if !there {
        skipped("Tornado's tests are not installed: Debian's python3-tornado has them");
    }
    there
}

fn unit_tests(modules: &[&str], mode: Mode) -> Results {
    let script = format!("{}/tests/suites/unit.py", env!("CARGO_MANIFEST_DIR"));
    let args: Vec<&str> = [script.as_str(), "tornado.test"].iter().chain(modules).copied().collect();
    let program = Program::new("/usr/bin/python3", &args).limit(Duration::from_secs(300));
    let outcome = run(&program, mode, |_| Ok(()));
    if outcome.status.is_none() {
        panic!("came to no end: {}\n{}", program.by_hand(mode), tail(&outcome));
    }
    read(outcome.marks.iter().map(String::as_str))
}

#[test]
fn tornado_streams() {
    if !is_there() {
        return;
    }
    let modules = ["tornado.test.iostream_test", "tornado.test.websocket_test", "tornado.test.tcpserver_test"];
    let finals = compare("Tornado, streams", |mode| unit_tests(&modules, mode));
    assert!(finals >= 10, "only {finals} streams moved");
}

#[test]
fn tornado_whole() {
    if !whole("Tornado's tests") || !is_there() {
        return;
    }
    let finals = compare("Tornado", |mode| unit_tests(&[], mode));
    assert!(finals >= 50, "only {finals} streams moved");
}
