//! What a receiving call returns, in every state of a stream.

use tests::{Case, sweep};

#[test]
fn peeking_for_all_bytes() {
    sweep::check(&Case::new("peek-waitall"), 20);
}

#[test]
fn throwing_away_and_counting() {
    sweep::check(&Case::new("trunc").may_stay(&["prefix-missed"]), 10);
}

#[test]
fn timeouts_of_recvmmsg() {
    sweep::check(&Case::new("recvmmsg"), 10);
}

#[test]
fn pointers_that_lead_nowhere() {
    sweep::check(&Case::new("bad-pointers"), 10);
}

#[test]
fn control_messages_that_an_option_asks_for() {
    // An option that is set before the move may keep a stream on TCP (docs/options.md); here one stream has such an
    // option.
    sweep::check(&Case::new("control-messages").may_stay(&["socket-option", "peer-declined"]), 8);
}
