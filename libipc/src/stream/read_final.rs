//! Reading from a descriptor that is the new socket: the program's own call, and what its result means.

use libc::{c_int, msghdr};

use super::arrivals::Arrivals;
use super::buffers::Buffers;
use super::ending::{End, end_of_stream, is_news, read_reset};
use super::native::{self, kernel};
use super::wait::deadline;
use crate::endpoint::{Id, numbers, tcp_fd};
use crate::fds::Kind;
use crate::host::confine;
use crate::host::guard::{Errno, as_libc, errno};
use crate::symbols::real;
use crate::sys::{self, ECONNRESET};

/// How many bytes are thrown away at a time: their buffer lies on the program's stack, which may be small.
const VOID: usize = 512;

/// What a reading call that gave 0 bytes means, on a descriptor that may be the new socket.
#[cold]
pub(crate) fn nothing_read(fd: c_int) -> End {
    if confine::is_confined() {
        return End::OfStream;
    }
    match numbers::lookup(fd) {
        Some((id, Kind::Final)) if numbers::still_final(fd, *id) => end_of_stream(*id),
        _ => End::OfStream,
    }
}

/// Called when a real reading call has failed. If the new socket has reported a reset, TCP would report it once more: so it
/// is taken from TCP, too.
#[cold]
pub(crate) fn failed(fd: c_int) -> isize {
    if errno() == libc::ECONNRESET && !confine::is_confined() {
        let errno = Errno::keep();
        if let Some((id, Kind::Final)) = numbers::lookup(fd) {
            let r = read_reset(*id);
            drop(errno);
            return as_libc(r);
        }
    }
    -1
}

/// Takes the error that must be reported before any byte is read, for a call that looks for it first (recvmmsg).
pub(crate) fn pending_error(fd: c_int) -> Option<c_int> {
    let (id, kind) = numbers::lookup(fd)?;
    let tcp = tcp_fd(*id, fd);
    let error = sys::take_error(tcp);
    // The errors of both sockets are taken, because a reset is reported only once.
    let own = if kind == Kind::Final && tcp != fd { sys::take_error(fd) } else { 0 };
    match error {
        0 if own == libc::ECONNRESET && !is_news(*id) => None,
        0 => Some(own).filter(|own| *own != 0),
        error => Some(error),
    }
}

/// A reading call on a descriptor that is the new socket.
pub(crate) fn receive_final(id: Id, fd: c_int, msg: &mut msghdr, flags: c_int) -> sys::Ret {
    if flags & libc::MSG_ERRQUEUE != 0 {
        return native::receive(tcp_fd(id, fd), msg, flags);
    }
    // SAFETY: the program's header.
    let len = unsafe { Buffers::of(msg) }.len();
    *msg = without_control(msg);
    let (truncates, peeks) = (flags & libc::MSG_TRUNC != 0, flags & libc::MSG_PEEK != 0);
    if truncates {
        msg.msg_flags = 0;
    }
    let r = match (truncates, peeks) {
        (false, true) if flags & libc::MSG_WAITALL != 0 => {
            peek_all(id, fd, len, flags, |flags| native::receive(fd, msg, flags))
        }
        (false, _) => native::receive(fd, msg, flags),
        (true, true) => peek_all(id, fd, len, flags, |flags| count(len, flags, recv(fd), || sys::unread(fd))),
        (true, false) => {
            let _errno = Errno::keep();
            discard(len, flags, recv(fd))
        }
    };
    msg.msg_flags &= !libc::MSG_CTRUNC;
    match r {
        0 if len > 0 => match end_of_stream(id) {
            End::GoesOn => native::receive(tcp_fd(id, fd), msg, flags | libc::MSG_DONTWAIT).max(0),
            end => end.told(),
        },
        ECONNRESET => read_reset(id),
        r => r,
    }
}

/// The program's own read, into a buffer of the shim.
fn recv(fd: c_int) -> impl Fn(&mut [u8], c_int) -> sys::Ret {
    // SAFETY: a buffer of the shim.
    move |room, flags| kernel(unsafe { real::recv()(fd, room.as_mut_ptr().cast(), room.len(), flags) })
}

/// The header without room for ancillary data: a peer could send kinds over the Unix-domain socket that TCP does not have,
/// and they must not reach the program.
pub(crate) fn without_control(msg: &msghdr) -> msghdr {
    msghdr { msg_control: core::ptr::null_mut(), msg_controllen: 0, ..*msg }
}

/// Looks at bytes with `peek(flags)`, and with MSG_WAITALL again and again until there are `len`, as TCP does. The end of
/// the stream, an error, a signal or the socket's timeout ends this earlier; then the bytes that are there are the result.
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

/// Whether the end of the stream, or an error, comes after the `n` unread bytes.
fn ends_after(fd: c_int, n: usize) -> bool {
    sys::poll_now(fd, libc::POLLRDHUP) != 0 && sys::unread(fd) <= n
}

/// MSG_PEEK with MSG_TRUNC tells how many bytes are there, up to `len`, and copies none. `read` is recv(2).
pub(crate) fn count(
    len: usize,
    flags: c_int,
    read: impl Fn(&mut [u8], c_int) -> sys::Ret,
    unread: impl FnOnce() -> usize,
) -> sys::Ret {
    let mut first = [0u8; 1];
    let room = first.get_mut(..len.min(1)).unwrap_or(&mut []);
    match read(room, flags & !(libc::MSG_TRUNC | libc::MSG_WAITALL)) {
        r if r > 0 => unread().min(len).max(1) as sys::Ret,
        r => r,
    }
}

/// With MSG_TRUNC, TCP throws bytes away, and a Unix-domain stream does not: so they are read into a buffer that is thrown
/// away.
pub(crate) fn discard(len: usize, flags: c_int, read: impl Fn(&mut [u8], c_int) -> sys::Ret) -> sys::Ret {
    let mut void = [0u8; VOID];
    let mut total = 0;
    // A call for 0 bytes waits, too.
    loop {
        let waits = total == 0 || flags & libc::MSG_WAITALL != 0;
        let flags = flags & !libc::MSG_TRUNC | if waits { 0 } else { libc::MSG_DONTWAIT };
        let room = void.get_mut(..(len - total).min(VOID)).unwrap_or(&mut []);
        match read(room, flags) {
            r if r > 0 => {
                total += r as usize;
                if total == len {
                    return total as sys::Ret;
                }
            }
            r if r < 0 && total == 0 => return r,
            _ => return total as sys::Ret,
        }
    }
}
