//! How much a stream has to be used before it is moved (docs/patience.md).

use std::time::Instant;

use tests::case::{Layout, assert_passed, held_ports};
use tests::daemon::Options;
use tests::{Case, Daemon, Mode, PATIENCE};

/// The state and the reason that `ipcd ls` shows for the end of this role.
fn end(daemon: &Daemon, role: &str) -> Option<(String, Option<String>)> {
    let ls = daemon.ls();
    let mut ends = ls.as_array()?.iter().filter_map(|row| row["ends"].as_array()).flatten();
    let end = ends.find(|end| end["role"] == role)?;
    Some((end["state"].as_str()?.to_owned(), end["reason"].as_str().map(str::to_owned)))
}

/// The states and reasons of both ends of a stream of `count` writes of `size` bytes, once they are decided.
fn fate(options: &Options, size: &'static str, count: &'static str) -> [Option<(String, Option<String>)>; 2] {
    let daemon = Daemon::start(options.clone());
    let mode = Mode::Shim(&daemon);
    let case = Case::new("pieces").args(&[size, count]);
    let mut fate = [None, None];
    let outcome = case.run_with(Layout::Warm, mode, |mark| {
        if held_ports(mark).is_some() {
            let start = Instant::now();
            let decided = |end: &Option<(String, _)>| end.as_ref().is_some_and(|(s, _)| s == "final" || s == "stay");
            while !fate.iter().all(decided) && start.elapsed() < PATIENCE {
                fate = ["connected", "accepted"].map(|role| end(&daemon, role));
            }
        }
        Ok(())
    });
    assert_passed(&outcome, &case.program(Layout::Warm, mode), mode);
    fate
}

#[test]
fn small_writes_in_one_direction_stay_where_that_was_chosen() {
    let chosen = Options { prefix: Some(8), patience: 8, small_writes: 1024, ..Options::default() };
    let stay = |reason: &str| Some(("stay".to_owned(), Some(reason.to_owned())));
    // The peer is told at once; an end that is given up because no peer came (after 10 s) has another reason. If the
    // peer has answered small records before it was told, it has decided the same by itself.
    let [connected, accepted] = fate(&chosen, "64", "4000");
    assert_eq!(connected, stay("small-writes"));
    assert!([stay("peer-declined"), stay("small-writes")].contains(&accepted), "{accepted:?}");
    let moved = Some(("final".to_owned(), None));
    assert_eq!(fate(&chosen, "8192", "40"), [moved.clone(), moved.clone()]);
    assert_eq!(fate(&Options { small_writes: 0, ..chosen }, "64", "4000"), [moved.clone(), moved]);
}
