//! The new transport: a connected pair of Unix-domain stream sockets, one for each side.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::kernel;

/// Makes the pair: for the side that connected, and for the side that accepted.
pub fn transport(buffer: u32) -> nix::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (connected, accepted) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
    for end in [&connected, &accepted] {
        // A TCP peer cannot pass descriptors, so this one must not either. Kernels before 6.16 do not know the
        // option; there the shim drops what comes.
        let _ = kernel::set_int_option(end.as_fd(), libc::SOL_SOCKET, kernel::SO_PASSRIGHTS, 0);
        if buffer > 0 {
            set_send_buffer(end.as_fd(), buffer);
        }
    }
    Ok((connected, accepted))
}

/// Unix-domain sockets only have send buffers. The forced size needs CAP_NET_ADMIN, the other is cut at
/// `net.core.wmem_max`.
pub fn set_send_buffer(socket: BorrowedFd<'_>, bytes: u32) {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    if kernel::set_int_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes).is_err() {
        let _ = kernel::set_int_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes);
    }
}
