//! Signals that arrive during a call.

use tests::{Case, sweep};

#[test]
fn calls_that_restart() {
    Case::new("signal-restart").check();
}

#[test]
fn calls_that_are_interrupted() {
    Case::new("signal-no-restart").check();
}

#[test]
fn one_signal_restarts_another_interrupts() {
    Case::new("two-signals").check();
}

#[test]
fn a_handler_that_writes_to_the_same_socket() {
    Case::new("handler-writes").may_stay(&["re-entered"]).check();
}

#[test]
fn a_storm_of_signals() {
    Case::new("storm").check();
    Case::new("storm-restart").check();
}

#[test]
fn the_masks_of_ppoll_pselect_epoll_pwait() {
    Case::new("masks").check();
}

#[test]
fn a_thread_cancelled_in_recv() {
    Case::new("cancelled").check();
}

#[test]
fn sigio_goes_to_the_owner() {
    Case::new("sigio").may_stay(&["signal-driven"]).check();
}

#[test]
fn signal_driven_input_that_is_asked_for_before_the_move() {
    sweep::check(&Case::new("signal-driven").may_stay(&["signal-driven"]), 0);
}

#[test]
fn signal_driven_input_that_is_asked_for_after_the_move() {
    sweep::check(&Case::new("signal-driven").args(&["late"]).may_stay(&["signal-driven"]), 60);
}
