//! Waits for several streams at once: no event is left out, and none is reported for a closed number.

use tests::case::Layout;
use tests::{Case, sweep};

const LAYOUTS: [Layout; 2] = [Layout::Warm, Layout::OneProcess];

#[test]
fn epoll_tells_first_of_what_was_there_first() {
    sweep::check(&Case::new("order-epoll").only(&LAYOUTS), 100);
}

#[test]
fn poll_and_select_leave_nothing_out() {
    sweep::check(&Case::new("order-poll").only(&LAYOUTS), 100);
}

#[test]
fn epoll_tells_nothing_of_what_is_closed() {
    sweep::check(&Case::new("closed"), 40);
}
