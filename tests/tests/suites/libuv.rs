//! libuv's own tests, each by its name.

use std::path::Path;

use tests::{Mode, Program, case, run};

use super::compare::{Results, compare, compare_without_ipcd, say, tail, whole};
use super::pauses::{Pauses, before};
use super::sources::{Built, Sources};

const SOURCES: Sources = Sources { package: "libuv1", target: "uv_run_tests", options: &[], needs: &[] };

/// Left out: they wait for addresses on the Internet.
const NOT: [&str; 2] = ["tcp_close_while_connecting", "tcp_connect_timeout"];

/// A run of the test program. Most tests have five seconds, which a machine with other work may exceed.
fn program(built: &Built, arg: &str) -> Program {
    Program::new(built.build.join("uv_run_tests"), &[arg])
        .directory(&built.tree)
        .env("UV_RUN_AS_ROOT", "1")
        .env("UV_TEST_TIMEOUT_MULTIPLIER", "6")
}

/// The names of the tests. In the list some are followed by their helpers.
fn names(built: &Built) -> Vec<String> {
    let program = program(built, "--list");
    let outcome = run(&program, Mode::Native, |_| Ok(()));
    case::assert_passed(&outcome, &program, Mode::Native);
    let names = outcome.lines.iter().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| !NOT.contains(name)).map(str::to_owned).collect()
}

/// Runs these tests, and reads `ok 1 - NAME`, with `# SKIP` after it if nothing was tested.
fn run_all(built: &Built, names: &[String], mode: Mode, library: Option<&Path>) -> Results {
    let mut results = Results::new();
    for name in names {
        let program = before(library, program(built, name), mode);
        let outcome = run(&program, mode, |_| Ok(()));
        if outcome.status.is_none() {
            panic!("came to no end: {}\n{}", program.by_hand(mode), tail(&outcome));
        }
        let passed = outcome.lines.iter().any(|line| *line == format!("ok 1 - {name}"));
        let skipped = outcome.lines.iter().any(|line| line.contains("# SKIP"));
        if !passed && !skipped {
            say(&format!("failed: {}\n{}", program.by_hand(mode), tail(&outcome)));
        }
        results.insert(name.clone(), if passed { "ok" } else { "not ok" }.into());
    }
    results
}

#[test]
fn libuv_whole() {
    if !whole("libuv's tests") {
        return;
    }
    let Some(built) = SOURCES.built() else { return };
    let names = names(&built);
    let finals = compare(&built.name, |mode| run_all(&built, &names, mode, None));
    assert!(finals >= 3, "only {finals} streams moved");
    compare_without_ipcd(&built.name, |mode| run_all(&built, &names, mode, None));
    let pauses = Pauses::new();
    let name = format!("{}, with pauses", built.name);
    let finals = compare(&name, |mode| run_all(&built, &names, mode, Some(&pauses.path())));
    assert!(finals >= 3, "only {finals} streams moved");
}
