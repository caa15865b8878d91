//! Connections that are passed to another process.

use tests::case::Layout;
use tests::{Case, sweep};

const LAYOUTS: [Layout; 2] = [Layout::Warm, Layout::Cold];

#[test]
fn to_a_program_with_the_shim() {
    sweep::check(&Case::new("handover").only(&LAYOUTS), 3);
}

#[test]
fn to_a_program_without_the_shim() {
    sweep::check(&Case::new("handover").args(&["plain"]).only(&LAYOUTS), 3);
}
