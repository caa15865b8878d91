//! Streams that are between the two transports when a call is made, or a program started, that knows only one socket.

use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use tests::case::{Layout, assert_same};
use tests::run::{Mode, Outcome};
use tests::{Case, Daemon, PATIENCE};

/// How far the two ends have come.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Near has promised, far has not taken up its grant.
    Promised,
    /// Far promised first and sleeps, near has left TCP.
    Left,
    /// Near promised first and sleeps, far has left TCP.
    Answered,
}

impl State {
    const ALL: [State; 3] = [State::Promised, State::Left, State::Answered];

    fn name(self) -> &'static str {
        match self {
            State::Promised => "promised",
            State::Left => "left",
            State::Answered => "answered",
        }
    }

    /// Whether the end of this role has reached this state.
    fn is_reached(self, role: &str, daemon: &Daemon) -> bool {
        let leaves = matches!((self, role), (State::Left, "connected") | (State::Answered, "accepted"));
        let ls = daemon.ls();
        let ends = ls.as_array().into_iter().flatten().filter_map(|row| row.get("ends")?.as_array()).flatten();
        ends.filter(|end| end.get("role").and_then(Value::as_str) == Some(role)).any(|end| {
            let left = end.get("sent_switched_at").is_some_and(Value::is_u64);
            end.get("state").and_then(Value::as_str) == Some("dual") && left == leaves
        })
    }
}

/// How long the answer to a nudge waits at most, at first and later: the victim makes 200 nudges, and ipcd may have to
/// wait for a processor.
const WHILE: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];

/// The nudges whose end has reached its state, and how often an end had not yet.
#[derive(Default)]
struct Steps {
    done: Vec<String>,
    waited: u32,
}

/// Answers a mark of the victim; a nudge is answered only when the end has reached its state, or after a while.
fn answer(state: State, daemon: Option<&Daemon>, mark: &str, steps: &mut Steps) -> Result<(), String> {
    let Some(daemon) = daemon else { return Ok(()) };
    let Some(what) = mark.strip_prefix("event ") else { return Ok(()) };
    let role = match what.split(' ').next() {
        Some("nudged-near") => "connected",
        Some("nudged-far") => "accepted",
        Some(name) if name == state.name() => {
            let nudged = if state == State::Promised { 1 } else { 2 };
            return match steps.done.len() == nudged {
                true => Ok(()),
                false => Err(format!("the stream never was between the transports: {}", daemon.ls())),
            };
        }
        _ => return Ok(()),
    };
    if steps.done.iter().any(|d| d == role) {
        return Ok(());
    }
    match state.is_reached(role, daemon) {
        true => steps.done.push(role.to_owned()),
        false => {
            steps.waited += 1;
            sleep(WHILE[usize::from(steps.waited > 100)]);
        }
    }
    Ok(())
}

/// Checks the case in every state, natively and under the shim.
fn check(name: &'static str) {
    check_each(name, |_| {});
}

/// The same, with a further check of each run under the shim.
fn check_each(name: &'static str, more: impl Fn(&Outcome)) {
    for state in State::ALL {
        let case = Case::new(name).args(&[state.name()]);
        let native = case.run(Layout::Warm, Mode::Native);
        let daemon = Daemon::eager();
        let (mode, mut steps) = (Mode::Shim(&daemon), Steps::default());
        let expected = format!("event {}", state.name());
        let here = case.run_with(Layout::Warm, mode, |mark| match tests::case::held_ports(mark) {
            Some(ports) => daemon.wait_final(&ports, &[], PATIENCE),
            None => answer(state, mode.daemon(), mark, &mut steps),
        });
        assert!(here.marks.contains(&expected), "the victim did not say {expected}: {:?}", here.marks);
        assert_same(&native, &here, &case.program(Layout::Warm, mode), mode);
        more(&here);
    }
}

#[test]
fn both_ends_go_on() {
    check("between-goes-on");
}

#[test]
fn splice_from_a_pipe() {
    check("between-splice");
}

#[test]
fn sendfile_that_does_not_block() {
    // More bytes than the new transport takes; how many TCP takes depends on how large the system lets buffers grow.
    check_each("between-sendfile", |here| assert_eq!(here.mark("full", "full"), Some(1.0)));
}

#[test]
fn a_child_that_may_do_nothing_but_read_and_write() {
    check("between-confined");
}

#[test]
fn a_child_that_is_another_program() {
    check("between-executed");
}

#[test]
fn the_number_becomes_standard_input() {
    check("between-standard");
}

#[test]
fn the_peer_ends_without_closing() {
    check("between-ended");
}
