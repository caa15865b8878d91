//! Compares two runs of one suite.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use serde_json::Value;
use tests::daemon::Options;
use tests::run::Outcome;
use tests::skipped;
use tests::{Daemon, Mode, Program, run};

/// The result of each test: "ok" if it passed.
pub(crate) type Results = BTreeMap<String, String>;

/// Debian's own Python: its packages have the tests.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// How often a suite with a difference is run again.
const AGAIN: usize = 3;

/// Whether suites are run whole; if not, prints a message.
pub(crate) fn whole(suite: &str) -> bool {
    if !is_long() {
        skipped(&format!("the whole of {suite} takes minutes: by hand, with IPC_LONG=1"));
    }
    is_long()
}

fn is_long() -> bool {
    std::env::var_os("IPC_LONG").is_some()
}

/// Prints a line that is shown whatever the test's result is.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "\n{text}");
}

/// A daemon with which short streams move, too.
fn daemon() -> Daemon {
    Daemon::start(Options { prefix: Some(1), ..Options::default() })
}

fn passed(results: &Results, name: &str) -> bool {
    results.get(name).is_some_and(|r| r == "ok")
}

fn count(results: &Results) -> usize {
    results.values().filter(|r| *r == "ok").count()
}

/// The tests that passed in `native` and not in `here`.
fn worse(native: &Results, here: &Results) -> Vec<String> {
    native.keys().filter(|name| passed(native, name) && !passed(here, name)).cloned().collect()
}

fn natively(suite: &str, run: impl Fn(Mode) -> Results) -> Results {
    let native = run(Mode::Native);
    assert!(count(&native) > 0, "{suite}: nothing of {} passed natively", native.len());
    native
}

/// Runs a suite natively and under the shim. Panics if a test passes natively only. Returns how many streams moved.
pub(crate) fn compare(suite: &str, run: impl Fn(Mode) -> Results) -> usize {
    let native = natively(suite, &run);
    let daemon = daemon();
    let here = run(Mode::Shim(&daemon));
    let stats = daemon.stats();
    let pairs = stats.get("pairs").and_then(Value::as_u64).unwrap_or_default();
    let finals = daemon.finals();
    say(&format!(
        "{suite}: {} tests passed natively, {} under the shim; {finals} of {pairs} pairs final",
        count(&native),
        count(&here)
    ));
    judge(suite, &native, &here, &run, || run(Mode::Shim(&self::daemon())));
    finals
}

/// The same with the shim preloaded and no ipcd that answers.
pub(crate) fn compare_without_ipcd(suite: &str, run: impl Fn(Mode) -> Results) {
    let native = natively(suite, &run);
    let here = run(Mode::ShimNoDaemon);
    say(&format!("{suite}: {} tests passed natively, {} under the shim without ipcd", count(&native), count(&here)));
    judge(suite, &native, &here, &run, || run(Mode::ShimNoDaemon));
}

/// Panics if a test passes natively only.
///
/// Suites have tests that fail now and then by themselves. So a test that differs is run again, and does not count if
/// it fails natively, too. In the default run it must fail under the shim a second time; with IPC_LONG one failure is
/// enough.
fn judge(suite: &str, native: &Results, here: &Results, run: impl Fn(Mode) -> Results, again: impl Fn() -> Results) {
    let mut suspects = worse(native, here);
    let mut confirmed = BTreeSet::new();
    if is_long() {
        confirmed.extend(suspects.iter().cloned());
    }
    for _ in 0..AGAIN {
        if suspects.is_empty() {
            break;
        }
        say(&format!("{suite}: passed natively, not under the shim, is run again: {suspects:?}"));
        let native = run(Mode::Native);
        suspects.retain(|name| passed(&native, name));
        let here = again();
        confirmed.extend(suspects.iter().filter(|name| !passed(&here, name)).cloned());
    }
    confirmed.retain(|name| suspects.contains(name));
    let unclear: Vec<_> = worse(native, here).into_iter().filter(|name| !confirmed.contains(name)).collect();
    if !unclear.is_empty() {
        say(&format!("{suite}: UNCLEAR, failed natively as well or did not fail again: {unclear:?}"));
    }
    assert!(confirmed.is_empty(), "{suite}: these pass natively and fail under the shim: {confirmed:?}");
}

/// The end of what a program printed, for a message.
pub(crate) fn tail(outcome: &Outcome) -> String {
    let lines: Vec<_> = outcome.lines.iter().map(String::as_str).chain(outcome.stderr.lines()).collect();
    let skip = lines.len().saturating_sub(60);
    format!("{:?}\n{}\n{}", outcome.status, lines.get(skip..).unwrap_or_default().join("\n"), outcome.hang)
}

/// Lines of a name, a space and a result.
pub(crate) fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Results {
    lines.into_iter().filter_map(|line| line.rsplit_once(' ')).map(|(name, r)| (name.into(), r.into())).collect()
}

/// Runs a Python module that runs its own unit tests, with these arguments.
pub(crate) fn unit_tests(module: &str, args: &[&str], mode: Mode) -> Results {
    let script = format!("{}/tests/suites/unit.py", env!("CARGO_MANIFEST_DIR"));
    let args: Vec<&str> = [&script, module].into_iter().chain(args.iter().copied()).collect();
    let program = Program::new(PYTHON, &args).limit(Duration::from_secs(300));
    let outcome = run(&program, mode, |_| Ok(()));
    if outcome.status.is_none() {
        panic!("came to no end: {}\n{}", program.by_hand(mode), tail(&outcome));
    }
    read(outcome.marks.iter().map(String::as_str))
}
