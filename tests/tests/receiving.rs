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
