//! The reading hooks: what is to be done is looked up once; a call that goes through the shim gets a message header, and
//! [`stream::call`](crate::stream::call) makes it.

use libc::{c_int, c_uint, c_void, iovec, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t, timespec};

use super::arguments::{COMPAT, header, is_list, is_place, list, list_of, short};
use super::control;
use super::epoll::timespec_of;
use super::seccomp;
use super::wait::nanoseconds;
use super::when::{When, when};
use crate::endpoint::numbers::{self, is_no_socket};
use crate::endpoint::{Pinned, tcp_fd};
use crate::fds::{Kind, is_ours};
use crate::host::confine::is_confined;
use crate::host::guard::as_libc;
use crate::stream::buffers::Buffers;
use crate::stream::call::Call;
use crate::stream::ending::{End, has_error};
use crate::stream::native;
use crate::stream::read_final::{failed, nothing_read, pending_error, receive_final};
use crate::stream::receive::Read;
use crate::symbols::real::{self, known};
use crate::sys::{self, Deadline};

/// Whether flags of recv mean something else on a Unix-domain socket.
fn differs(flags: c_int) -> bool {
    const PEEK_ALL: c_int = libc::MSG_PEEK | libc::MSG_WAITALL;
    flags & (libc::MSG_TRUNC | libc::MSG_ERRQUEUE) != 0 || flags & PEEK_ALL == PEEK_ALL
}

short!(read, slow_read(fd, buf: *mut c_void, len: size_t));
short!(readv, slow_readv(fd, iov: *const iovec, count: c_int));
short!(recv, slow_recv(fd, buf: *mut c_void, len: size_t, flags: c_int));

/// A reading call of the program into `pieces`: `real` is the call itself.
fn reading(fd: c_int, pieces: &[iovec], flags: c_int, real: impl FnOnce() -> ssize_t) -> ssize_t {
    match when(fd) {
        When::Other => real(),
        When::Confined => confined(fd, pieces, flags, real),
        When::Active(id) => active(id, fd, pieces, flags & !COMPAT).unwrap_or_else(real),
        When::Final if differs(flags) => anew(fd, pieces, flags),
        When::Final => match real() {
            // The end may be a reset, and a reset is reported only once.
            0 if Buffers(pieces).len() > 0 => match nothing_read(fd) {
                End::GoesOn => anew(fd, pieces, flags),
                end => as_libc(end.told()),
            },
            -1 => failed(fd),
            r => r,
        },
    }
}

/// A call on an endpoint that is not settled. `None` if its number is no socket any more (closed past the hooks).
#[cold]
#[inline(never)]
fn active(id: Pinned, fd: c_int, pieces: &[iovec], flags: c_int) -> Option<ssize_t> {
    let r = as_libc(through(&id, fd, &mut header(pieces), flags));
    (!is_no_socket(fd, r)).then_some(r)
}

fn through(id: &Pinned, fd: c_int, msg: &mut msghdr, flags: c_int) -> sys::Ret {
    match flags & libc::MSG_ERRQUEUE {
        0 => Call::new(**id, fd, flags).run(&mut Read::new(msg, flags)),
        _ => native::receive(tcp_fd(**id, fd), msg, flags),
    }
}

/// A call for which the real one is not enough, if the number is the new socket.
#[cold]
#[inline(never)]
fn anew(fd: c_int, pieces: &[iovec], flags: c_int) -> ssize_t {
    as_libc(with_header(fd, &mut header(pieces), flags & !COMPAT))
}

fn with_header(fd: c_int, msg: &mut msghdr, flags: c_int) -> sys::Ret {
    match numbers::lookup(fd) {
        Some((id, Kind::Active)) => through(&id, fd, msg, flags),
        Some((id, Kind::Final)) => receive_final(*id, fd, msg, flags),
        _ => native::receive(fd, msg, flags),
    }
}

#[cold]
#[inline(never)]
fn confined(fd: c_int, pieces: &[iovec], flags: c_int, real: impl FnOnce() -> ssize_t) -> ssize_t {
    let r = real();
    seccomp::took(fd, pieces, r, flags);
    r
}

#[cold]
#[inline(never)]
unsafe fn slow_read(fd: c_int, buf: *mut c_void, len: size_t) -> ssize_t {
    // SAFETY: the program's own call.
    reading(fd, &[iovec { iov_base: buf, iov_len: len }], 0, move || unsafe { real::read()(fd, buf, len) })
}

pub(crate) unsafe fn read_chk(fd: c_int, buf: *mut c_void, len: size_t, room: size_t) -> ssize_t {
    if len <= room {
        // SAFETY: the program's own call, checked.
        return unsafe { read(fd, buf, len) };
    }
    // SAFETY: the program's own call; it aborts.
    unsafe { real::__read_chk()(fd, buf, len, room) }
}

#[cold]
#[inline(never)]
unsafe fn slow_readv(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the program's own call.
    let real = move || unsafe { real::readv()(fd, iov, count) };
    // SAFETY: the program's list.
    match unsafe { list(iov, count as usize) } {
        Some(pieces) => reading(fd, pieces, 0, real),
        None => real(),
    }
}

#[cold]
#[inline(never)]
unsafe fn slow_recv(fd: c_int, buf: *mut c_void, len: size_t, flags: c_int) -> ssize_t {
    let pieces = [iovec { iov_base: buf, iov_len: len }];
    // SAFETY: the program's own call.
    reading(fd, &pieces, flags, move || unsafe { real::recv()(fd, buf, len, flags) })
}

pub(crate) unsafe fn recv_chk(fd: c_int, buf: *mut c_void, len: size_t, room: size_t, flags: c_int) -> ssize_t {
    if len <= room {
        // SAFETY: the program's own call, checked.
        return unsafe { recv(fd, buf, len, flags) };
    }
    // SAFETY: the program's own call; it aborts.
    unsafe { real::__recv_chk()(fd, buf, len, room, flags) }
}

pub(crate) unsafe fn recvfrom(
    fd: c_int,
    buf: *mut c_void,
    len: size_t,
    flags: c_int,
    addr: *mut sockaddr,
    addr_len: *mut socklen_t,
) -> ssize_t {
    let (pieces, ours) = ([iovec { iov_base: buf, iov_len: len }], is_ours(fd));
    // SAFETY: the program's own call.
    let r = reading(fd, &pieces, flags, move || unsafe { real::recvfrom()(fd, buf, len, flags, addr, addr_len) });
    if ours && r >= 0 && !addr.is_null() && !addr_len.is_null() {
        // A connected TCP socket reports no address (recv(2)).
        // SAFETY: the program gave the place for the length.
        unsafe { *addr_len = 0 };
    }
    r
}

pub(crate) unsafe fn recvfrom_chk(
    fd: c_int,
    buf: *mut c_void,
    len: size_t,
    room: size_t,
    flags: c_int,
    addr: *mut sockaddr,
    addr_len: *mut socklen_t,
) -> ssize_t {
    if len <= room {
        // SAFETY: the program's own call, checked.
        return unsafe { recvfrom(fd, buf, len, flags, addr, addr_len) };
    }
    // SAFETY: the program's own call; it aborts.
    unsafe { real::__recvfrom_chk()(fd, buf, len, room, flags, addr, addr_len) }
}

/// recvmsg(2) on an endpoint.
#[cold]
#[inline(never)]
fn message(fd: c_int, msg: &mut msghdr, flags: c_int) -> ssize_t {
    let mut own = *msg;
    let r = with_header(fd, &mut own, flags);
    if r >= 0 {
        msg.msg_namelen = 0;
        msg.msg_flags = own.msg_flags;
        match own.msg_control.is_null() {
            true => control::tell(fd, msg, r),
            false => msg.msg_controllen = own.msg_controllen,
        }
    }
    as_libc(r)
}

pub(crate) unsafe fn recvmsg(fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the program's own call.
    let real = move || unsafe { real::recvmsg()(fd, msg, flags) };
    if is_confined() {
        // SAFETY: the program's header and list.
        return confined(fd, unsafe { list_of(msg) }, flags, real);
    }
    if is_ours(fd) {
        // SAFETY: the program's header.
        let known = is_place(msg).then(|| unsafe { &mut *msg });
        if let Some(msg) = known.filter(|m| is_list(m.msg_iov, m.msg_iovlen)) {
            return message(fd, msg, flags);
        }
    }
    let r = real();
    if r >= 0 {
        // SAFETY: the program's header, which the kernel has just filled.
        super::rights::arrived(unsafe { &*msg });
    }
    r
}

pub(crate) unsafe fn recvmmsg(
    fd: c_int,
    list: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut timespec,
) -> c_int {
    if !is_ours(fd) || !is_place(list) {
        // SAFETY: the program's own call.
        let r = unsafe { real::recvmmsg()(fd, list, count, flags, timeout) };
        for i in 0..r.max(0) as usize {
            // SAFETY: the kernel has just filled so many headers of the program's list.
            super::rights::arrived(unsafe { &(*list.add(i)).msg_hdr });
        }
        return r;
    }
    let limit = match time_limit(timeout) {
        Ok(limit) => limit,
        Err(error) => return as_libc(error) as c_int,
    };
    if let Some(error) = pending_error(fd) {
        return as_libc(-(error as sys::Ret)) as c_int;
    }
    let mut flags = flags;
    let mut done = 0;
    while done < count {
        if done > 0 && has_error(fd) {
            // The error is for the next call: this one has messages to return.
            break;
        }
        // SAFETY: the program's list has `count` entries.
        let entry = unsafe { &mut *list.add(done as usize) };
        // SAFETY: a header of the program's list.
        let r = unsafe { recvmsg(fd, &raw mut entry.msg_hdr, flags & !libc::MSG_WAITFORONE) };
        if r < 0 && done == 0 {
            return -1;
        } else if r < 0 {
            break;
        }
        entry.msg_len = r as c_uint;
        done += 1;
        if flags & libc::MSG_WAITFORONE != 0 {
            flags |= libc::MSG_DONTWAIT;
        }
        if limit.is_over() {
            break;
        }
    }
    let left = limit.left().map(timespec_of);
    // The kernel tells how much of the time is left.
    match left.filter(|_| done > 0).map_or(0, |left| sys::write_to(timeout, &left)) {
        r if r < 0 => as_libc(r) as c_int,
        _ => done as c_int,
    }
}

/// When the time of recvmmsg(2) is over. `Err` is the kernel's error for an invalid time.
fn time_limit(timeout: *const timespec) -> Result<Deadline, sys::Ret> {
    if timeout.is_null() {
        return Ok(Deadline::NEVER);
    }
    let time = sys::read_from(timeout)?;
    match time.tv_sec >= 0 && (0..1_000_000_000).contains(&time.tv_nsec) {
        true => Ok(Deadline::after(Some(nanoseconds(&time)))),
        false => Err(-(libc::EINVAL as sys::Ret)),
    }
}
