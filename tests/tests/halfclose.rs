//! The ends of streams, in every order.

use tests::Case;
use tests::case::Layout;

#[test]
fn near_shuts_first() {
    Case::new("near-shuts-first").check();
}

#[test]
fn far_shuts_first() {
    Case::new("far-shuts-first").check();
}

#[test]
fn both_shut_at_once() {
    Case::new("both-shut").check();
}

#[test]
fn shutdown_of_reading() {
    Case::new("shut-reading").only(&[Layout::Warm, Layout::OneProcess]).check();
    // Before the move a half-close of the reading half keeps the stream on TCP.
    Case::new("shut-reading").only(&[Layout::Cold]).may_stay(&["shut"]).check();
}

#[test]
fn a_close_with_unread_bytes_is_a_reset() {
    Case::new("close-unread").check();
}

#[test]
fn linger_zero_is_a_reset() {
    Case::new("reset").check();
}

#[test]
fn the_peer_is_killed() {
    Case::new("killed").only(&[Layout::Warm, Layout::Cold]).check();
}

#[test]
fn the_peer_exits() {
    Case::new("exits").only(&[Layout::Warm, Layout::Cold]).check();
}

#[test]
fn writes_after_the_peer_closed() {
    Case::new("write-after-close").check();
}

#[test]
fn a_close_right_after_a_send_loses_nothing() {
    Case::new("close-at-once").check();
}
