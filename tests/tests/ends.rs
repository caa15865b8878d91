//! The end of a stream: the peer sees it at once when the last holder has closed, not before, and ipcd has no part in
//! it.

use std::collections::BTreeMap;

use tests::case::Layout;
use tests::{Case, artifacts, streams, sweep};

#[test]
fn close_and_shutdown_while_ipcd_is_stopped() {
    sweep::check(&Case::new("ends-closed"), 5);
}

#[test]
fn processes_that_end_while_ipcd_is_stopped() {
    let case = Case::new("ends-exited").only(&[Layout::Warm, Layout::Cold]);
    let mut stopped: BTreeMap<String, usize> = BTreeMap::new();
    sweep::check_with(&case, 40, |daemon, mark| {
        let Some(port) = mark.strip_prefix("event stop if granted ") else { return sweep::answer(&case, daemon, mark) };
        let port = port.parse().map_err(|e| format!("{mark}: {e}"))?;
        // Before that, ipcd's queue holds the TCP socket, and the kernel ends no socket that a queue holds.
        let all = daemon.streams();
        if let Some(stream) =
            streams::at(&all, port).filter(|s| ["granted", "dual", "final"].contains(&s.state.as_str()))
        {
            *stopped.entry(stream.state.clone()).or_default() += 1;
            daemon.stop();
        }
        Ok(())
    });
    println!("ipcd was stopped with streams {stopped:?}");
    for state in ["granted", "final"] {
        assert!(stopped.contains_key(state), "ipcd was stopped with streams {stopped:?}");
    }
}

#[test]
fn a_program_without_the_shim_has_the_stream_for_a_while() {
    sweep::check(&Case::new("spawned").args(&[artifacts::STATIC_HOLD]), 20);
}
