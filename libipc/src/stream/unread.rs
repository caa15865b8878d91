//! How many bytes the program could read at once, on whichever transport they are.

use libc::c_int;

use crate::endpoint::{Id, sides, tcp_fd};
use crate::fds::{self, Kind};
use crate::offsets;
use crate::switch::{Transport, drive};
use crate::sys;
use crate::transport::Carrier;

/// The answer to FIONREAD.
pub(crate) fn unread(id: Id, fd: c_int) -> usize {
    drive::pump(id);
    match fds::kind(fd) {
        Kind::Final => sys::unread(fd),
        _ => carrier(id, fd).unread() + what_follows(id),
    }
}

/// The same as TCP_INQ reports it (tcp(7)): the end of the stream counts as one more byte.
pub(crate) fn inquired(id: Id, fd: c_int) -> c_int {
    let last = match fds::kind(fd) {
        Kind::Final => sys::poll_now(fd, libc::POLLRDHUP),
        _ => carrier(id, fd).poll(libc::POLLRDHUP),
    };
    // After a reset there is nothing to read, and no end of the stream either.
    let ended = last != 0 && !offsets::is_closed(tcp_fd(id, fd));
    unread(id, fd) as c_int + c_int::from(ended)
}

/// The transport that has the next bytes.
pub(crate) fn carrier(id: Id, fd: c_int) -> Carrier {
    let moved = id.endpoint().sides() & sides::RX_UNIX != 0 && id.local().unix.is_open();
    Carrier::of(id, fd, if moved { Transport::Unix } else { Transport::Tcp })
}

/// How many bytes the peer has written to the new transport, while the next bytes are on TCP.
pub(crate) fn what_follows(id: Id) -> usize {
    match id.endpoint().sides() & (sides::RX_UNIX | sides::CONTROL) {
        0 => id.local().unix.unread(),
        _ => 0,
    }
}
