//! Questions to the kernel about sockets, where nix has no function for them.

pub mod closing;
pub mod diag;
pub mod proof;
pub mod records;
pub mod verify;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::SockFlag;

/// `SO_NETNS_COOKIE` (Linux 5.14).
pub const SO_NETNS_COOKIE: i32 = 71;
/// `SO_PASSRIGHTS` (Linux 6.16).
pub const SO_PASSRIGHTS: i32 = 83;
/// `SIOCOUTQ` (tcp(7)): bytes written and not yet acknowledged.
const SIOCOUTQ: libc::c_ulong = 0x5411;

/// getsockopt into a buffer; gives the length of the answer.
pub fn option(fd: BorrowedFd<'_>, level: i32, name: i32, answer: &mut [u8]) -> io::Result<usize> {
    let mut len = answer.len() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `answer`, which outlives the call; the kernel writes at most `len` bytes.
    let result = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, answer.as_mut_ptr().cast(), &raw mut len) };
    if result == 0 { Ok(len as usize) } else { Err(io::Error::last_os_error()) }
}

/// getsockopt of an int.
pub fn int_option(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<i32> {
    let mut answer = [0; 4];
    option(fd, level, name, &mut answer)?;
    Ok(i32::from_ne_bytes(answer))
}

/// getsockopt of a 64-bit number.
pub fn u64_option(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<u64> {
    let mut answer = [0; 8];
    match option(fd, level, name, &mut answer)? {
        8 => Ok(u64::from_ne_bytes(answer)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// `SO_COOKIE`: the number that names a socket on this host.
pub fn cookie(fd: BorrowedFd<'_>) -> Option<u64> {
    u64_option(fd, libc::SOL_SOCKET, libc::SO_COOKIE).ok()
}

/// setsockopt of an int.
pub fn set_int_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), size_of::<i32>() as libc::socklen_t)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The bytes written and not yet acknowledged.
pub fn unacknowledged(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut len: libc::c_int = 0;
    // SAFETY: the request writes one int to the address that is passed, which is that of `len`.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), SIOCOUTQ, &raw mut len) };
    if result == 0 { Ok(u64::try_from(len).unwrap_or(0)) } else { Err(io::Error::last_os_error()) }
}

/// CLOCK_MONOTONIC in nanoseconds, the clock that every process of the host shares.
pub fn now() -> u64 {
    let since = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map(Duration::from);
    since.map_or(0, |since| since.as_nanos() as u64)
}

/// The next connection that waits at a listening socket.
pub fn accept(listener: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = nix::sys::socket::accept4(listener.as_raw_fd(), flags)?;
    // SAFETY: the kernel has made this descriptor for us; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}
