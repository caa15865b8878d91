//! Tornado's tests, which are part of its Debian package.

use std::path::Path;

use tests::skipped;

use super::compare::{compare, unit_tests, whole};

/// Whether Tornado is installed; if not, prints a message.
fn is_there() -> bool {
    let there = Path::new("/usr/lib/python3/dist-packages/tornado/test").is_dir();
    if !there {
        skipped("Tornado's tests are not installed: Debian's python3-tornado has them");
    }
    there
}

#[test]
fn tornado_streams() {
    if !is_there() {
        return;
    }
    let modules = ["tornado.test.iostream_test", "tornado.test.websocket_test", "tornado.test.tcpserver_test"];
    let finals = compare("Tornado, streams", |mode| unit_tests("tornado.test", &modules, mode));
    assert!(finals >= 10, "only {finals} streams moved");
}

#[test]
fn tornado_whole() {
    if !whole("Tornado's tests") || !is_there() {
        return;
    }
    let finals = compare("Tornado", |mode| unit_tests("tornado.test", &[], mode));
    assert!(finals >= 50, "only {finals} streams moved");
}
