//! What a receiving call returns, in every state of a stream.

use tests::{Case, sweep};

#[test]
fn peeking_for_all_bytes() {
    sweep::check(&Case::new("peek-waitall"), 20);
}
