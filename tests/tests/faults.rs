//! The daemon is killed or stopped, or one end has no shim: streams go on, and no call waits for the daemon.

use std::sync::{Mutex, MutexGuard};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tests::case::{Layout, assert_same, held_ports};
use tests::daemon::Options;
use tests::run::Outcome;
use tests::{Case, Daemon, Mode, PATIENCE};

/// How much longer than natively a call may sleep, in milliseconds. Waiting for a processor does not count as sleep.
const GENEROUS_MS: f64 = 50.0;

/// Makes the cases that measure sleep run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn assert_no_stall(native: &Outcome, shim: &Outcome) {
    for call in ["send", "recv"] {
        let (before, after) = (native.mark("longest", call), shim.mark("longest", call));
        let (Some(before), Some(after)) = (before, after) else { panic!("no times: {:?}", shim.marks) };
        println!("longest sleep in {call}: {before} us natively, {after} us under the shim");
        assert!(after / 1000.0 < before / 1000.0 + GENEROUS_MS, "a {call} slept {after} us, natively {before} us");
    }
}

/// Runs the case "harm", doing `harm` and `heal` to the daemon at its events, in every layout.
fn with_harm(harm: impl Fn(&mut Daemon), heal: impl Fn(&mut Daemon)) {
    let _alone = alone();
    let case = Case::new("harm");
    for layout in tests::case::ALL {
        let native = case.run(layout, Mode::Native);
        let mut daemon = Daemon::eager();
        let socket = daemon.socket();
        let mode = Mode::ShimAt(&socket);
        let shim = case.run_with(layout, mode, |mark| {
            match mark {
                "event harm" => harm(&mut daemon),
                "event heal" => heal(&mut daemon),
                "hold" => drop(daemon.finals_reach(1)),
                _ => {}
            }
            Ok(())
        });
        assert_same(&native, &shim, &case.program(layout, mode), mode);
        assert_no_stall(&native, &shim);
        assert!(daemon.finals() > 0, "after the daemon was well again, no stream moved: {}", daemon.ls());
    }
}

#[test]
fn a_daemon_that_is_killed_and_started_again_stalls_no_call() {
    with_harm(Daemon::kill9, Daemon::restart);
}

#[test]
fn a_daemon_that_is_stopped_stalls_no_call() {
    with_harm(|d| d.signal(libc::SIGSTOP), |d| d.signal(libc::SIGCONT));
}

#[test]
fn a_number_that_is_closed_while_the_daemon_is_stopped_has_no_events() {
    let case = Case::new("closed-early");
    for layout in tests::case::ALL {
        let native = case.run(layout, Mode::Native);
        let daemon = Daemon::eager();
        let mode = Mode::Shim(&daemon);
        let shim = case.run_with(layout, mode, |mark| {
            match mark {
                "event harm" => daemon.signal(libc::SIGSTOP),
                "event heal" => daemon.signal(libc::SIGCONT),
                _ => {}
            }
            Ok(())
        });
        assert_same(&native, &shim, &case.program(layout, mode), mode);
    }
}

#[test]
fn final_streams_outlive_the_daemon_and_new_ones_pair_with_its_successor() {
    let case = Case::new("restarted");
    for layout in [Layout::Warm, Layout::OneProcess] {
        let native = case.run(layout, Mode::Native);
        let mut daemon = Daemon::eager();
        let socket = daemon.socket();
        let mode = Mode::ShimAt(&socket);
        let shim = case.run_with(layout, mode, |mark| {
            match mark {
                "event harm" => daemon.kill9(),
                "event heal" => daemon.restart(),
                _ => {}
            }
            held_ports(mark).map_or(Ok(()), |ports| daemon.wait_final(&ports, &[], PATIENCE))
        });
        assert_same(&native, &shim, &case.program(layout, mode), mode);
    }
}

/// Waits until the daemon has died; the streams go on meanwhile.
fn died(daemon: &Daemon, point: &str) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap_or_default();
        match state.contains(") Z") {
            true => return Ok(()),
            false if start.elapsed() > PATIENCE => return Err(format!("ipcd should have died {point}: {state}")),
            false => sleep(Duration::from_millis(5)),
        }
    }
}

#[test]
fn a_daemon_that_dies_at_any_step_of_a_grant_loses_nothing() {
    let _alone = alone();
    let case = Case::new("steady");
    for point in ["after-prefix", "between-grants", "after-grants"] {
        for layout in tests::case::ALL {
            let native = case.run(layout, Mode::Native);
            let env = vec![("IPCD_TEST_CRASH".to_owned(), point.to_owned())];
            let daemon = Daemon::start(Options { prefix: Some(8), env, ..Options::default() });
            let socket = daemon.socket();
            let mode = Mode::ShimAt(&socket);
            let shim = case.run_with(layout, mode, |_| died(&daemon, point));
            assert_same(&native, &shim, &case.program(layout, mode), mode);
            assert_no_stall(&native, &shim);
        }
    }
}

/// Cases that together use most calls.
const REPRESENTATIVE: [&str; 12] = [
    "steady",
    "two-threads-each",
    "big-calls",
    "fionread",
    "epoll-edge",
    "epoll-fifty",
    "readiness",
    "reset",
    "names",
    "accept-fork",
    "number-reused",
    "storm",
];

#[test]
fn without_a_daemon_everything_is_as_it_was() {
    for name in REPRESENTATIVE {
        Case::new(name).check_in(Mode::ShimNoDaemon);
    }
}

#[test]
fn only_the_near_end_has_the_shim() {
    for name in REPRESENTATIVE {
        let daemon = Daemon::eager();
        Case::new(name).check_in(Mode::OnlyNear(&daemon));
        assert_eq!(daemon.finals(), 0);
    }
}

#[test]
fn only_the_far_end_has_the_shim() {
    for name in REPRESENTATIVE {
        let daemon = Daemon::eager();
        Case::new(name).check_in(Mode::OnlyFar(&daemon));
        assert_eq!(daemon.finals(), 0);
    }
}
