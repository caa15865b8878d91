//! Connecting → Tracking: a connection exists, and its bytes are counted from the first one on.

use core::sync::atomic::Ordering::*;

use libc::{c_int, sockaddr_storage};
use matcher::reason::Reason;
use matcher::wire::Role;

use super::state::Phase;
use super::stay::stay;
use crate::endpoint::{Birth, Id};
use crate::ipcd::report;
use crate::{names, offsets, sys};

/// Starts to track the connection of a connect call, made now or some time ago, if it exists.
pub(crate) fn completed(id: Id, fd: c_int) {
    if id.endpoint().phase() == Phase::Connecting && offsets::is_connected(fd) {
        connected(id, fd, sys::name(fd, true).ok());
    }
}

/// The same, where the caller knows that the socket is connected, and to which peer.
pub(crate) fn connected(id: Id, fd: c_int, peer: Option<sockaddr_storage>) {
    let began = id.endpoint().connect_began.load(Relaxed);
    open(id, fd, peer, Role::Connected, began);
}

/// Starts to track a connection. If the peer's address is not a loopback address, the peer may be in another network
/// namespace, and ipcd is told at once: endpoints pair across namespaces only if ipcd knows of them before their first
/// byte (docs/pairing.md). On the loopback it is early enough to tell ipcd after the first N bytes, and a connection that
/// ends before that costs nothing.
///
/// `at` is when the connect call began, or accept returned.
pub(crate) fn open(id: Id, fd: c_int, peer: Option<sockaddr_storage>, role: Role, at: u64) {
    let cookie = sys::getsockopt::<u64>(fd, libc::SOL_SOCKET, libc::SO_COOKIE);
    let (Ok(cookie), Some(peer)) = (cookie, peer) else {
        stay(id, Reason::Kernel);
        return;
    };
    if id.endpoint().open(Birth { cookie, role, at }) && !names::is_loopback(&peer) {
        report::opened(id, fd);
    }
}
