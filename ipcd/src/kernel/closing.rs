//! Closing descriptors that others have made: it may take as long as they like (SO_LINGER, a FUSE file).

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{getsockopt, sockopt};

use crate::kernel;

/// Whether closing the descriptor cannot wait: a TCP socket that does not linger, which is all that honest clients pass.
pub fn closes_at_once(fd: impl AsFd) -> bool {
    let is_tcp =
        kernel::int_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_PROTOCOL).is_ok_and(|p| p == libc::IPPROTO_TCP);
    is_tcp && getsockopt(&fd, sockopt::Linger).is_ok_and(|linger| linger.l_onoff == 0)
}

/// Closes a descriptor, elsewhere if that may take its time.
pub fn dispose(fd: OwnedFd) {
    if !closes_at_once(&fd) {
        bury(vec![fd], || {});
    }
}

/// Closes descriptors where nobody waits for it.
pub fn bury(fds: Vec<OwnedFd>, after: impl FnOnce() + Send + 'static) {
    if !fds.is_empty() {
        tokio::task::spawn_blocking(move || {
            drop(fds);
            after();
        });
    }
}
