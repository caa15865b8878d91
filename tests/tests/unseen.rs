//! Waits that no hook sees: no thread sleeps for ever.

use tests::case::{BESIDE_A_RING, Layout};
use tests::{Case, sweep};

#[test]
fn waits_by_inline_system_calls() {
    let case = Case::new("unseen-waits").may_stay(&["unseen-wait"]);
    sweep::check(&case.only(&[Layout::Warm, Layout::OneProcess]), 0);
}

#[test]
fn polls_by_inline_system_calls() {
    // In one process with the far end, which waits in its reads, the shim could not tell the polls from those waits.
    sweep::check(&Case::new("unseen-polls").may_stay(&["unseen-wait"]).only(&[Layout::Warm]), 0);
}

/// The shim takes over registrations made past the hooks, because the program waits through the hooks.
fn registered(how: &'static str) {
    let case = Case::new("unseen-registrations").args(&[how]);
    sweep::check(&case.only(&[Layout::Warm, Layout::OneProcess]), 30);
}

#[test]
fn registrations_by_inline_system_calls() {
    registered("inline");
}

#[test]
fn registrations_by_syscall() {
    registered("syscall");
}

#[test]
fn registrations_by_io_uring() {
    let case = Case::new("unseen-registrations").args(&["ring"]).may_stay(BESIDE_A_RING);
    sweep::check(&case.only(&[Layout::Warm, Layout::OneProcess]), 0);
}
