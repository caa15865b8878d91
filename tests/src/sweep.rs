//! Cases that sweep: their calls meet a stream before ipcd knows it, while it waits, between the transports and after
//! the move.

use std::time::Duration;

use crate::case::{Case, Layout, assert_same, held_ports};
use crate::daemon::Options;
use crate::{Daemon, Mode};

/// How often a case is run until enough of its streams have moved.
const RUNS: usize = 5;

/// The terms on which streams move: the earliest, and those of an ipcd without options.
pub fn terms() -> [Options; 2] {
    [Options::earliest(), Options::usual()]
}

/// Answers a mark: waits until held streams are final, or stay for a reason that the case allows; stops ipcd and lets
/// it go on.
pub fn answer(case: &Case, daemon: &Daemon, mark: &str) -> Result<(), String> {
    match (held_ports(mark), mark) {
        (Some(ports), _) => daemon.wait_final(&ports, &case.allowed, Duration::from_secs(10))?,
        (_, "event stop") => daemon.stop(),
        (_, "event go on") => daemon.signal(libc::SIGCONT),
        _ => {}
    }
    Ok(())
}

/// Runs natively, then on all terms, in every layout of the case. At least `least` streams must have moved each time.
/// In the cold layout, which does not wait for streams to move, one is enough.
pub fn check(case: &Case, least: usize) {
    check_with(case, least, |daemon, mark| answer(case, daemon, mark));
}

/// The same, with another answer to the marks.
pub fn check_with(case: &Case, least: usize, mut answer: impl FnMut(&Daemon, &str) -> Result<(), String>) {
    for layout in &case.layouts {
        let native = case.run(*layout, Mode::Native);
        for options in terms() {
            let daemon = Daemon::start(options);
            let mode = Mode::Shim(&daemon);
            let least = if *layout == Layout::Cold { least.min(1) } else { least };
            // How many streams get that far before they are closed depends on the machine: a busy one needs more runs.
            let mut finals = 0;
            for _ in 0..RUNS {
                let here = case.run_with(*layout, mode, |mark| answer(&daemon, mark));
                assert_same(&native, &here, &case.program(*layout, mode), mode);
                finals = daemon.finals_reach(least);
                if finals >= least {
                    break;
                }
            }
            println!("{layout:?}: {finals} streams are final");
            assert!(
                finals >= least,
                "{finals} of {least} streams are final: {}",
                case.program(*layout, mode).by_hand(mode)
            );
        }
    }
}
