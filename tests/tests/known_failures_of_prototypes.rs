//! The errors of earlier systems of this kind: hangs, aborts, short counts, options that were lost.

use tests::case::Layout;
use tests::{Case, needs, skipped};

#[test]
fn a_reader_blocked_in_recv_while_a_writer_sends() {
    Case::new("reader-blocked").check();
}

#[test]
fn readers_blocked_at_both_ends() {
    Case::new("readers-blocked").check();
}

#[test]
fn a_reader_blocked_on_an_idle_stream() {
    Case::new("reader-idle").check();
}

#[test]
fn both_ends_stream_from_two_threads_each() {
    Case::new("two-threads-each").check();
}

#[test]
fn fifty_sockets_in_one_epoll_set_with_reused_numbers() {
    Case::new("epoll-fifty").check();
}

#[test]
fn blocking_calls_return_everything() {
    Case::new("big-calls").check();
}

#[test]
fn a_blocking_send_of_8_mib_as_the_first_call() {
    Case::new("big-send-first").check();
}

#[test]
fn recv_waitall() {
    Case::new("waitall").check();
}

#[test]
fn ioctl_fionbio_takes_effect() {
    Case::new("fionbio").check();
    Case::new("nonblocking-before").check();
}

#[test]
fn fionread_is_exact() {
    Case::new("fionread").check();
}

#[test]
fn socket_timeouts_are_kept() {
    Case::new("rcvtimeo").check();
    Case::new("rcvtimeo-before").check();
}

#[test]
fn sendfile_works() {
    Case::new("sendfile").check();
}

#[test]
fn splice_and_tee_work() {
    Case::new("splice").check();
}

#[test]
fn duplicates_of_every_kind() {
    Case::new("duplicates").check();
    Case::new("duplicates-before").check();
}

#[test]
fn a_second_connect_after_einprogress() {
    Case::new("connect-twice").check();
}

#[test]
fn connects_that_are_refused() {
    Case::new("connect-refused").check();
}

#[test]
fn a_socket_that_connects_again() {
    Case::new("reconnect").check();
}

#[test]
fn addresses_in_recvfrom_and_sendto() {
    Case::new("addresses").check();
}

#[test]
fn truncation_and_peeking() {
    Case::new("truncation").check();
}

#[test]
fn ipv6_and_mapped_addresses() {
    Case::new("families").check();
}

#[test]
fn descriptors_of_1024_and_above() {
    if !needs::descriptors(4096) {
        return skipped("this takes a hard limit of 4,096 descriptors");
    }
    Case::new("high-numbers").check();
}

#[test]
fn eleven_hundred_streams_at_once() {
    if !needs::descriptors(20_000) {
        return skipped("this takes a hard limit of 20,000 descriptors");
    }
    Case::new("many").only(&[Layout::Warm, Layout::Cold]).check();
}

#[test]
fn streams_one_after_the_other() {
    Case::new("churn").check();
}
