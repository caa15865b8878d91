//! Every byte arrives once and in order, whatever the calls, and every stream is final in the end.

use tests::case::{assert_passed, assert_same};
use tests::run::Outcome;
use tests::{Daemon, Mode, Program, artifacts, run};

/// Runs the stress natively and under the shim. The seed is in the command line that a failure prints.
fn exact(args: &[&str], streams: usize) {
    let all: Vec<&str> = ["exact"].iter().chain(args).copied().collect();
    let program = Program::new(artifacts::VICTIM, &all);
    let native = run(&program, Mode::Native, |_| Ok(()));
    assert_passed(&native, &program, Mode::Native);
    let daemon = Daemon::eager();
    all_final(&all, &program, &native, &daemon, streams);
}

/// Under the shim the streams talk on until they are final, however long that takes.
fn all_final(args: &[&str], natively: &Program, native: &Outcome, daemon: &Daemon, streams: usize) {
    let all: Vec<&str> = args.iter().chain(&["--until-final"]).copied().collect();
    let program = Program::new(artifacts::VICTIM, &all);
    let mode = Mode::Shim(daemon);
    let shim = run(&program, mode, |_| Ok(()));
    assert_passed(&shim, &program, mode);
    assert_same(native, &shim, natively, mode);
    let finals = daemon.finals_reach(streams);
    assert_eq!(finals, streams, "final streams of {}\n{}", program.by_hand(mode), daemon.not_final());
}

#[test]
fn a_thousand_streams_in_both_directions_arrive_exactly_and_end_final() {
    exact(&["--streams=1000", "--threads=4", "--seed=1"], 1000);
}

#[test]
fn streams_within_one_process() {
    exact(&["--streams=250", "--threads=4", "--seed=2", "--one-process"], 250);
}

#[test]
fn blocking_calls_only() {
    exact(&["--streams=200", "--threads=4", "--seed=3", "--mode=blocking"], 200);
}

#[test]
fn non_blocking_calls_only() {
    exact(&["--streams=200", "--threads=4", "--seed=4", "--mode=nonblocking"], 200);
}

#[test]
fn one_thread_and_eight() {
    exact(&["--streams=60", "--threads=1", "--seed=5"], 60);
    exact(&["--streams=240", "--threads=8", "--seed=6"], 240);
}

#[test]
fn streams_that_end_while_they_move() {
    for seed in ["--seed=7", "--seed=8", "--seed=9"] {
        let program = Program::new(artifacts::VICTIM, &["exact", "--streams=200", "--rounds=0", seed]);
        let native = run(&program, Mode::Native, |_| Ok(()));
        assert_passed(&native, &program, Mode::Native);
        let daemon = Daemon::eager();
        let shim = run(&program, Mode::Shim(&daemon), |_| Ok(()));
        assert_passed(&shim, &program, Mode::Shim(&daemon));
        assert_same(&native, &shim, &program, Mode::Shim(&daemon));
    }
}

#[test]
fn the_prefix_that_the_daemon_chooses_itself() {
    let args = ["exact", "--streams=200", "--seed=10"];
    let program = Program::new(artifacts::VICTIM, &args);
    let native = run(&program, Mode::Native, |_| Ok(()));
    assert_passed(&native, &program, Mode::Native);
    all_final(&args, &program, &native, &Daemon::start(Default::default()), 200);
}
