//! poll, select and epoll in every state of a stream.

use tests::Case;

#[test]
fn every_way_to_wait_in_every_state() {
    Case::new("readiness").check();
}

#[test]
fn one_call_for_many_streams() {
    Case::new("several").check();
}

#[test]
fn a_wait_that_begins_before_the_stream_moves() {
    Case::new("waiting-across").check();
}

#[test]
fn a_wait_that_the_end_of_the_stream_ends() {
    Case::new("waiting-for-the-end").check();
}

#[test]
fn epoll_level_triggered() {
    Case::new("epoll-level").check();
}

#[test]
fn epoll_edge_triggered() {
    Case::new("epoll-edge").check();
}

#[test]
fn epoll_one_shot() {
    Case::new("epoll-oneshot").check();
}

#[test]
fn epoll_half_close() {
    Case::new("epoll-half-close").check();
    Case::new("epoll-own-half-close").check();
}

#[test]
fn epoll_several_instances() {
    Case::new("epoll-several").check();
}

#[test]
fn epoll_nested() {
    Case::new("epoll-nested").check();
}

#[test]
fn epoll_errors_are_the_kernels() {
    Case::new("epoll-errors").check();
}

#[test]
fn epoll_two_threads_share_one_shot_events() {
    Case::new("epoll-threads").check();
}

#[test]
fn epoll_exclusive() {
    Case::new("epoll-exclusive").check();
}
