//! libevent's regress, once for each backend.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tests::{Mode, Program, run};

use super::compare::{Results, compare, compare_without_ipcd, say, tail, whole};
use super::pauses::{Pauses, before};
use super::sources::{Built, Sources};

const SOURCES: Sources = Sources {
    package: "libevent",
    target: "regress",
    options: &["-DEVENT__LIBRARY_TYPE=STATIC", "-DEVENT__DISABLE_BENCHMARK=ON", "-DEVENT__DISABLE_SAMPLES=ON"],
    needs: &[("/usr/include/openssl/ssl.h", "libssl-dev")],
};

/// The backend's name, and the environment variables that choose it.
type Backend = (&'static str, &'static [&'static str]);

const BACKENDS: [Backend; 4] = [
    ("epoll", &[]),
    ("epoll, changes kept back", &["EVENT_EPOLL_USE_CHANGELIST"]),
    ("poll", &["EVENT_NOEPOLL"]),
    ("select", &["EVENT_NOEPOLL", "EVENT_NOPOLL"]),
];

/// Left out: these wait ten seconds each for connections that no host answers.
const NOT: [&str; 3] =
    [":http/cancel_inactive_server", ":http/cancel_by_host_inactive_server", ":http/cancel_by_host_n.."];

/// How often a test that was late is tried. Most tests allow 50 ms, which a machine with other work does not keep.
const TRIES: usize = 5;

/// Parts of assertions that fail only by time.
const TIME: [&str; 6] = ["timeval_msec_diff", "usec", "maxstep", "ev1_fired == 0", "count == 1)", "res.n == 3"];

/// The suite is built once, and many of its tests measure time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads `GROUP/TEST: OK`, and `late` if a test reported that too much time had passed. The test's own output, with
/// ends of lines, may stand between the two.
fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Results {
    let mut results = Results::new();
    let mut current = "";
    for line in lines {
        let name = line.split_once(": ").map(|(name, _)| name);
        if let Some(name) = name.filter(|name| name.contains('/') && !name.contains(' ')) {
            current = name;
            results.insert(name.into(), "failed".into());
        }
        if line.starts_with("  FAIL ") && TIME.iter().any(|time| line.contains(time)) {
            results.insert(current.into(), "late".into());
        }
        let last = line.rsplit(' ').next().unwrap_or_default();
        if !current.is_empty() && ["OK", "SKIPPED", "DISABLED"].contains(&last) {
            results.insert(current.into(), last.to_lowercase());
        }
    }
    results
}

/// Runs these tests, and again those that were late.
fn regress(built: &Built, backend: Backend, tests: &[&str], mode: Mode, library: Option<&Path>) -> Results {
    let mut results = once(built, backend, tests, mode, library);
    for _ in 1..TRIES {
        let late: Vec<_> = results.iter().filter(|(_, r)| *r == "late").map(|(name, _)| name.clone()).collect();
        if late.is_empty() {
            break;
        }
        let late: Vec<&str> = late.iter().map(String::as_str).collect();
        results.extend(once(built, backend, &late, mode, library));
    }
    results
}

fn once(built: &Built, backend: Backend, tests: &[&str], mode: Mode, library: Option<&Path>) -> Results {
    let args: Vec<&str> = tests.iter().chain(&NOT).copied().collect();
    let path = built.build.join("bin/regress");
    let mut program = before(library, Program::new(path, &args).limit(Duration::from_secs(600)), mode);
    for variable in backend.1 {
        program = program.env(variable, "1");
    }
    let outcome = run(&program, mode, |_| Ok(()));
    if outcome.status.is_none() {
        panic!("came to no end: {}\n{}", program.by_hand(mode), tail(&outcome));
    }
    let failed = outcome.lines.iter().filter(|line| line.starts_with("  FAIL ")).cloned().collect::<Vec<_>>();
    if !failed.is_empty() {
        say(&format!("failed: {}\n{}", program.by_hand(mode), failed.join("\n")));
    }
    read(outcome.lines.iter().map(String::as_str))
}

#[test]
fn libevent_whole() {
    let _turn = turn();
    if !whole("libevent's regress") {
        return;
    }
    let Some(built) = SOURCES.built() else { return };
    for backend in BACKENDS {
        let name = format!("{}, {}", built.name, backend.0);
        let finals = compare(&name, |mode| regress(&built, backend, &[], mode, None));
        assert!(finals >= 10, "only {finals} streams moved");
    }
    compare_without_ipcd(&built.name, |mode| regress(&built, BACKENDS[0], &[], mode, None));
}

/// With a pause before each of the first calls on a socket: many more streams move.
#[test]
fn libevent_whole_with_pauses() {
    let _turn = turn();
    if !whole("libevent's regress, with pauses,") {
        return;
    }
    let Some(built) = SOURCES.built() else { return };
    let pauses = Pauses::new();
    for backend in BACKENDS {
        let name = format!("{}, {}, with pauses", built.name, backend.0);
        let finals = compare(&name, |mode| regress(&built, backend, &[], mode, Some(&pauses.path())));
        assert!(finals >= 20, "only {finals} streams moved");
    }
}

#[test]
fn results_are_read() {
    let lines = "main/a: OK\nmain/b: [forking] said: \nOK\nhttp/c: [forking] \n  FAIL x.c:1: assert(OK)\n  [c FAILED]\nmain/d: DISABLED\n\
        main/e: \n  FAIL x.c:2: assert(labs(timeval_msec_diff(a, b)) <= 50): 56 vs 50\n  [e FAILED]";
    let results = read(lines.lines());
    let all: Vec<_> = results.iter().map(|(name, result)| (name.as_str(), result.as_str())).collect();
    assert_eq!(
        all,
        [("http/c", "failed"), ("main/a", "ok"), ("main/b", "ok"), ("main/d", "disabled"), ("main/e", "late")]
    );
}
