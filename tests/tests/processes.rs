//! Descriptors that several processes hold, and uses of them that no hook sees.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};

use tests::case::Layout;
use tests::daemon::PrivateDir;
use tests::{Case, artifacts, needs, skipped};

/// Uses that no hook sees are noticed when the stream is to move, or when its first bytes are compared with the peer's,
/// whichever is first.
const UNSEEN: &[&str] = &["unseen-io", "hash-differs"];

/// A grant was on its way to the parent when it gave the endpoint to the child, and the parent makes no call that would
/// return the grant.
const UNDER_WAY: &[&str] = &["granted"];

#[test]
fn accept_in_the_parent_work_in_the_child() {
    Case::new("accept-fork").only(&[Layout::Warm, Layout::Cold]).check();
}

#[test]
fn the_parent_begins_a_child_goes_on() {
    Case::new("hand-over").only(&[Layout::Warm, Layout::Cold]).may_stay(UNDER_WAY).check();
}

#[test]
fn children_that_only_hold_the_descriptors() {
    Case::new("background-save").check();
}

#[test]
fn parent_and_child_in_turn() {
    Case::new("in-turn").check();
}

#[test]
fn children_by_every_other_way() {
    Case::new("other-children").check();
}

#[test]
fn the_stream_goes_on_after_exec() {
    Case::new("exec-self").only(&[Layout::Warm, Layout::Cold]).may_stay(&["executed"]).check();
}

#[test]
fn another_program_on_the_stream() {
    Case::new("exec-cat").may_stay(&["stdio", "executed"]).check();
}

#[test]
fn a_program_without_the_shim_on_the_stream() {
    Case::new("exec-cat-plain").may_stay(&["stdio", "executed"]).check();
}

#[test]
fn a_static_program_on_the_stream() {
    Case::new("exec-cat").args(&[artifacts::STATIC_CAT]).may_stay(&["stdio", "executed"]).check();
}

#[test]
fn a_setuid_program_on_the_stream() {
    if !needs::another_root_and_user() {
        return skipped("this takes the right to give files away and to become another user");
    }
    // The loader does not preload for a setuid program. Run by root, it loses privilege instead of gaining any.
    let place = PrivateDir::new();
    let cat = place.path().join("cat");
    fs::copy("/bin/cat", &cat).expect("a copy of cat");
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).expect("a place that others may look into");
    chown(&cat, Some(65534), Some(65534)).expect("chown");
    fs::set_permissions(&cat, Permissions::from_mode(0o6755)).expect("setuid");
    let path = cat.to_str().expect("a name of ASCII").to_owned().leak();
    Case::new("exec-cat").args(&[path]).may_stay(&["stdio", "executed"]).check();
}

#[test]
fn a_daemon_goes_on() {
    Case::new("daemon").only(&[Layout::Warm, Layout::Cold]).may_stay(UNDER_WAY).check();
}

#[test]
fn another_root_and_another_user_first() {
    if !needs::another_root_and_user() {
        return skipped("this takes the right to see another root and to become another user");
    }
    Case::new("less-privilege").check();
}

#[test]
fn threads_that_fork() {
    Case::new("threads-fork").check();
}

#[test]
fn threads_with_descriptors_of_their_own() {
    Case::new("unshared").may_stay(UNSEEN).check();
}

#[test]
fn a_descriptor_passed_in_a_message() {
    Case::new("passed").only(&[Layout::Warm, Layout::Cold]).check();
}

#[test]
fn several_children_accept() {
    Case::new("prefork").check();
}

#[test]
fn stdio_on_the_socket() {
    Case::new("stdio").may_stay(&["stdio"]).check();
}

#[test]
fn dprintf_on_the_socket() {
    Case::new("dprintf").may_stay(&["stdio"]).check();
}

#[test]
fn waits_by_raw_system_calls() {
    Case::new("raw-epoll").may_stay(&["unseen-wait"]).check();
}

#[test]
fn raw_system_calls_mixed_in() {
    Case::new("raw-calls").may_stay(UNSEEN).check();
}

#[test]
fn a_raw_system_call_first() {
    Case::new("raw-first").check();
}

#[test]
fn numbers_that_are_closed_unseen_and_come_back() {
    Case::new("number-reused").check();
}

#[test]
fn fortified_and_64_bit_names() {
    Case::new("other-names").check();
}
