//! CPython's own tests of modules that use sockets: `python3 -m test`.

use std::path::Path;
use std::time::Duration;

use tests::daemon::PrivateDir;
use tests::skipped;
use tests::{Mode, Program, case, run};

use super::compare::{PYTHON, Results, compare, compare_without_ipcd, read, tail, unit_tests, whole};
use super::pauses::{Pauses, before};

const MODULES: [&str; 17] = [
    "test_socket",
    "test_asyncio",
    "test_ssl",
    "test_selectors",
    "test_socketserver",
    "test_httplib",
    "test_httpservers",
    "test_ftplib",
    "test_smtplib",
    "test_poplib",
    "test_imaplib",
    "test_telnetlib",
    "test_xmlrpc",
    "test_asyncore",
    "test_subprocess",
    "test_multiprocessing_fork",
    "test_urllib2_localnet",
];

/// Whether the tests are installed; if not, prints a message.
fn is_there() -> bool {
    let dir = Path::new("/usr/lib");
    let there = std::fs::read_dir(dir).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let python = entry.file_name().to_string_lossy().starts_with("python3.");
            python && entry.path().join("test/test_socket.py").is_file()
        })
    });
    if !there {
        skipped("CPython's tests are not installed: Debian's libpython3.11-testsuite has them");
    }
    there
}

/// `python3 -m test` with these arguments. AF_VSOCK is left out: where the kernel has the family and no peer answers,
/// its test waits for ever, also natively. A library may be preloaded before the shim.
fn regrtest(args: &[&str], mode: Mode, library: Option<&Path>) -> Results {
    let dir = PrivateDir::new();
    let file = dir.path().join("results.xml").display().to_string();
    let common = ["-m", "test", "-v", "--timeout", "900", "-i", "*VSOCK*", "--junit-xml", &file];
    let all: Vec<&str> = common.iter().chain(args).copied().collect();
    let program = before(library, Program::new(PYTHON, &all).limit(Duration::from_secs(1200)), mode);
    let outcome = run(&program, mode, |_| Ok(()));
    if !Path::new(&file).is_file() {
        panic!("came to no result: {}\n{}", program.by_hand(mode), tail(&outcome));
    }
    let script = format!("{}/tests/suites/results.py", env!("CARGO_MANIFEST_DIR"));
    let program = Program::new(PYTHON, &[&script, &file]);
    let outcome = run(&program, Mode::Native, |_| Ok(()));
    case::assert_passed(&outcome, &program, Mode::Native);
    read(outcome.lines.iter().map(String::as_str))
}

#[test]
fn cpython_protocols() {
    if !is_there() {
        return;
    }
    // test_socketserver asks for this resource, although it talks to this host only.
    let args = ["-u", "network", "test_ftplib", "test_smtplib", "test_socketserver", "test_asyncore", "test_telnetlib"];
    let more = ["test_httpservers", "test_urllib2_localnet"];
    let args: Vec<&str> = args.into_iter().chain(more).collect();
    let finals = compare("CPython, protocols", |mode| regrtest(&args, mode, None));
    assert!(finals >= 10, "only {finals} streams moved");
}

#[test]
fn cpython_sockets() {
    if !is_there() {
        return;
    }
    let only = ["*TCP*", "*Sendfile*", "*test_sendfile*", "*test_streams*", "*test_sock_lowlevel*"];
    let mut args = vec!["test_socket", "test_asyncio"];
    args.extend(only.into_iter().flat_map(|pattern| ["-m", pattern]));
    let finals = compare("CPython, sockets", |mode| regrtest(&args, mode, None));
    assert!(finals >= 10, "only {finals} streams moved");
}

#[test]
fn cpython_sockets_that_have_moved() {
    if !is_there() {
        return;
    }
    let mut classes = vec!["BasicTCPTest", "BufferIOTest", "RecvmsgTCPTest", "RecvmsgIntoTCPTest", "SendmsgTCPTest"];
    classes.extend(["FileObjectClassTestCase", "UnbufferedFileObjectClassTestCase"]);
    let finals = compare("CPython, test_socket on used connections", |mode| unit_tests("warm", &classes, mode));
    assert!(finals >= 20, "only {finals} streams moved");
}

#[test]
fn cpython_whole() {
    if !whole("CPython's tests of sockets") || !is_there() {
        return;
    }
    let mut finals = 0;
    for module in MODULES {
        finals += compare(module, |mode| regrtest(&["-u", "network", module], mode, None));
    }
    assert!(finals >= 200, "only {finals} streams moved");
}

/// The shim is loaded, and no ipcd answers.
#[test]
fn cpython_whole_without_ipcd() {
    if !whole("CPython's tests of sockets, without ipcd,") || !is_there() {
        return;
    }
    for module in MODULES {
        compare_without_ipcd(module, |mode| regrtest(&["-u", "network", module], mode, None));
    }
}

/// With a pause before each of the first calls on a socket: many more streams move.
#[test]
fn cpython_whole_with_pauses() {
    if !whole("CPython's tests of sockets, with pauses,") || !is_there() {
        return;
    }
    let pauses = Pauses::new();
    let mut finals = 0;
    for module in MODULES {
        let args = ["-u", "network", module];
        finals += compare(&format!("{module}, with pauses"), |mode| regrtest(&args, mode, Some(&pauses.path())));
    }
    assert!(finals >= 300, "only {finals} streams moved");
}
