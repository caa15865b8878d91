//! Connecting → Tracking: a connection is there, and is counted from its first byte on.

use core::sync::atomic::Ordering::*;

use libc::{c_int, sockaddr_storage};
use matcher::reason::Reason;
use matcher::wire::Role;

use super::state::Phase;
use super::stay::stay;
use crate::endpoint::{Birth, Id};
use crate::ipcd::report;
use crate::{names, offsets, sys};

/// Records a connection that connect has made, now or some time ago.
pub fn completed(id: Id, fd: c_int) {
    if id.endpoint().phase() == Phase::Connecting && offsets::is_connected(fd) {
        connected(id, fd, sys::name(fd, true).ok());
    }
}

/// The same where the peer is known.
pub fn connected(id: Id, fd: c_int, peer: Option<sockaddr_storage>) {
    let began = id.endpoint().connect_began.load(Relaxed);
    open(id, fd, peer, Role::Connected, began);
}

/// Starts to track a connection. ipcd is told at once where other namespaces have to be reckoned with: what pairs across
/// them must have been known before its first byte (docs/pairing.md). On the loopback its first N bytes are early enough,
/// and a connection that is over before costs nothing.
///
/// `at` is when the connect call began, or accept returned.
pub fn open(id: Id, fd: c_int, peer: Option<sockaddr_storage>, role: Role, at: u64) {
    let cookie = sys::getsockopt::<u64>(fd, libc::SOL_SOCKET, libc::SO_COOKIE);
    let (Ok(cookie), Some(peer)) = (cookie, peer) else {
        stay(id, Reason::Kernel);
        return;
    };
    if id.endpoint().open(Birth { cookie, role, at }) && !names::is_loopback(&peer) {
        report::opened(id, fd);
    }
}
