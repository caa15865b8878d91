//! Reading from a descriptor that is the new socket: the program's own call, and what its result means.

use libc::{c_int, msghdr};

use super::arrivals::Arrivals;
use super::block::deadline;
use super::native::native;
use super::reset::{end_of_stream, is_news, read_reset, take_error};
use crate::cursor::Cursor;
use crate::endpoint::{Id, numbers, tcp_fd};
use crate::fds::Kind;
use crate::host::confine;
use crate::host::guard::{Errno, as_libc};
use crate::symbols::real;
use crate::sys;

/// Bytes that are thrown away at a time: they lie on the program's stack, which may be small.
const VOID: usize = 512;
const ECONNRESET: sys::Ret = -(libc::ECONNRESET as sys::Ret);

/// What a reading call that gave 0 bytes means, on a descriptor that may be the new socket. 1: it is to be made anew, by way
/// of [`receive`](super::receive::receive).
#[cold]
pub fn nothing_read(fd: c_int) -> isize {
    if confine::is_confined() {
        return 0;
    }
    match numbers::lookup(fd) {
        Some((id, Kind::Final)) if numbers::still_final(fd, *id) => as_libc(end_of_stream(*id)),
        _ => 0,
    }
}

/// A real reading call failed. A reset that the new socket told is told by TCP, too, unless it is taken from there.
#[cold]
pub fn failed(fd: c_int) -> isize {
    // SAFETY: libc's errno of this thread, just set.
    if unsafe { *libc::__errno_location() } == libc::ECONNRESET && !confine::is_confined() {
        let errno = Errno::keep();
        if let Some((id, Kind::Final)) = numbers::lookup(fd) {
            let r = read_reset(*id);
            drop(errno);
            return as_libc(r);
        }
    }
    -1
}

/// The error that waits to be told before anything is read, where a call looks for it first (recvmmsg).
pub fn pending_error(fd: c_int) -> Option<c_int> {
    let (id, kind) = numbers::lookup(fd)?;
    let tcp = tcp_fd(*id, fd);
    let error = take_error(tcp);
    // Both are taken: a reset is told once.
    let own = if kind == Kind::Final && tcp != fd { take_error(fd) } else { 0 };
    match error {
        0 if own == libc::ECONNRESET && !is_news(*id) => None,
        0 => Some(own).filter(|own| *own != 0),
        error => Some(error),
    }
}

/// A reading call on a descriptor that is the new socket.
pub fn receive_final(id: Id, fd: c_int, msg: &mut msghdr, flags: c_int) -> sys::Ret {
    if flags & libc::MSG_ERRQUEUE != 0 {
        return native(tcp_fd(id, fd), msg, flags);
    }
    // SAFETY: the program's header.
    let len = unsafe { Cursor::of(msg) }.len();
    *msg = without_control(msg);
    let r = match (flags & libc::MSG_TRUNC != 0, flags & libc::MSG_PEEK != 0) {
        (false, true) if flags & libc::MSG_WAITALL != 0 => peek_all(id, fd, len, flags, |flags| native(fd, msg, flags)),
        (false, _) => native(fd, msg, flags),
        (true, true) => {
            msg.msg_flags = 0;
            peek_all(id, fd, len, flags, |flags| count(fd, len, flags))
        }
        (true, false) => {
            msg.msg_flags = 0;
            discard(fd, len, flags)
        }
    };
    msg.msg_flags &= !libc::MSG_CTRUNC;
    match r {
        0 if len > 0 => match end_of_stream(id) {
            1 => native(tcp_fd(id, fd), msg, flags | libc::MSG_DONTWAIT).max(0),
            r => r,
        },
        ECONNRESET => read_reset(id),
        r => r,
    }
}

/// No control message of a stranger reaches the program: TCP has none of the kinds that a Unix-domain socket carries.
pub fn without_control(msg: &msghdr) -> msghdr {
    msghdr { msg_control: core::ptr::null_mut(), msg_controllen: 0, ..*msg }
}

/// Looks at bytes with `peek(flags)`, and with MSG_WAITALL once more until there are `len`, as TCP does. What cuts that short
/// is the end of the stream, an error, a signal and the socket's timeout; then what is there is the result.
fn peek_all(id: Id, fd: c_int, len: usize, flags: c_int, mut peek: impl FnMut(c_int) -> sys::Ret) -> sys::Ret {
    let waits = flags & (libc::MSG_WAITALL | libc::MSG_DONTWAIT) == libc::MSG_WAITALL && !sys::is_nonblocking(fd);
    let mut r = peek(flags);
    if !waits {
        return r;
    }
    let until = deadline(fd, libc::SO_RCVTIMEO);
    let arrivals = Arrivals::on(&[fd]);
    while r > 0 && (r as usize) < len && !ends_after(fd, r as usize) && arrivals.wait(id, until).is_ok() {
        r = peek(flags | libc::MSG_DONTWAIT);
    }
    r
}

/// Whether the end of the stream, or an error, comes after so many unread bytes.
fn ends_after(fd: c_int, n: usize) -> bool {
    sys::poll_now(fd, libc::POLLRDHUP) != 0
        && sys::ioctl_int(fd, libc::FIONREAD as u32).is_ok_and(|all| all as usize <= n)
}

/// MSG_PEEK with MSG_TRUNC tells how many bytes are there, up to `len`, and copies none.
pub fn count(fd: c_int, len: usize, flags: c_int) -> sys::Ret {
    let mut first = 0u8;
    let flags = flags & !(libc::MSG_TRUNC | libc::MSG_WAITALL);
    // SAFETY: a buffer of our own.
    match unsafe { real::recv()(fd, (&raw mut first).cast(), len.min(1), flags) } {
        // SAFETY: libc's errno of this thread, just set.
        -1 => -(unsafe { *libc::__errno_location() } as sys::Ret),
        0 => 0,
        _ => sys::ioctl_int(fd, libc::FIONREAD as u32).map_or(1, |n| (n as usize).min(len) as sys::Ret),
    }
}

/// MSG_TRUNC throws bytes away on TCP, and does nothing of the kind on a Unix-domain stream: they are read into the void.
pub fn discard(fd: c_int, len: usize, flags: c_int) -> sys::Ret {
    let _errno = Errno::keep();
    let mut void = [0u8; VOID];
    let mut total = 0;
    // A call for no bytes waits as well.
    loop {
        let piece = (len - total).min(VOID);
        let waits = total == 0 || flags & libc::MSG_WAITALL != 0;
        let flags = flags & !libc::MSG_TRUNC | if waits { 0 } else { libc::MSG_DONTWAIT };
        // SAFETY: a buffer of our own.
        match unsafe { real::recv()(fd, void.as_mut_ptr().cast(), piece, flags) } {
            r if r > 0 => {
                total += r as usize;
                if total == len {
                    return total as sys::Ret;
                }
            }
            // SAFETY: libc's errno of this thread, just set.
            r if r < 0 && total == 0 => return -(unsafe { *libc::__errno_location() } as sys::Ret),
            _ => return total as sys::Ret,
        }
    }
}
