//! The writing hooks: what is to be done is looked up once; a call that goes through the shim gets a message header, and
//! [`stream::call`](crate::stream::call) makes it.

use libc::{c_int, c_uint, c_void, iovec, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t};

use super::arguments::{COMPAT, header, is_list, is_place, list, list_of, short};
use super::seccomp;
use super::when::{When, when};
use crate::endpoint::Pinned;
use crate::endpoint::numbers::is_no_socket;
use crate::fds::{is_ours, needs_us};
use crate::host::confine::is_confined;
use crate::host::guard::as_libc;
use crate::stream::buffers::Buffers;
use crate::stream::call::Call;
use crate::stream::native;
use crate::stream::send::{self, PLAIN, Write};
use crate::symbols::real::{self, known};
use crate::sys;

const NOT_A_SOCKET: sys::Ret = -(libc::ENOTSOCK as sys::Ret);

short!(write, slow_write(fd, buf: *const c_void, len: size_t));
short!(writev, slow_writev(fd, iov: *const iovec, count: c_int));
short!(send, slow_send(fd, buf: *const c_void, len: size_t, flags: c_int));

/// A writing call of the program from `pieces`: `real` is the call itself.
fn writing(fd: c_int, pieces: &[iovec], flags: c_int, real: impl FnOnce() -> ssize_t) -> ssize_t {
    let through = match when(fd) {
        When::Other => None,
        When::Confined => return confined(fd, pieces, real),
        When::Active(id) => active(id, fd, pieces, flags & !COMPAT),
        When::Final => match *pieces {
            // By the kernel's shortest call, where the flags mean the same on the new socket.
            [iovec { iov_base, iov_len }] if flags & !(PLAIN | COMPAT) == 0 => {
                send::send_final(fd, iov_base, iov_len, flags & !COMPAT)
            }
            _ => on_final(fd, pieces, flags & !COMPAT),
        },
    };
    through.unwrap_or_else(real)
}

/// A call on an endpoint that is not settled. `None` if its number is no socket any more (closed past the hooks).
#[cold]
#[inline(never)]
fn active(id: Pinned, fd: c_int, pieces: &[iovec], flags: c_int) -> Option<ssize_t> {
    let r = as_libc(through(&id, fd, &header(pieces), flags));
    (!is_no_socket(fd, r)).then_some(r)
}

fn through(id: &Pinned, fd: c_int, msg: &msghdr, flags: c_int) -> sys::Ret {
    match send::fast_open(**id, fd, flags) {
        Some(refused) => refused,
        None => send::signalled(Call::new(**id, fd, flags).run(&mut Write::new(msg, flags)), flags),
    }
}

/// A call on a number that is the new socket. `None` as above.
#[cold]
#[inline(never)]
fn on_final(fd: c_int, pieces: &[iovec], flags: c_int) -> Option<ssize_t> {
    match send::on_final(fd, &header(pieces), flags) {
        NOT_A_SOCKET => None,
        r => Some(as_libc(r)),
    }
}

/// A call with a header of the program's own.
fn message(fd: c_int, msg: &msghdr, flags: c_int) -> ssize_t {
    as_libc(match when(fd) {
        When::Active(id) => through(&id, fd, msg, flags),
        When::Final => send::on_final(fd, msg, flags),
        When::Other | When::Confined => native::send(fd, msg, flags),
    })
}

#[cold]
#[inline(never)]
fn confined(fd: c_int, pieces: &[iovec], real: impl FnOnce() -> ssize_t) -> ssize_t {
    let r = real();
    seccomp::gave(fd, pieces, r);
    r
}

#[cold]
#[inline(never)]
unsafe fn slow_write(fd: c_int, buf: *const c_void, len: size_t) -> ssize_t {
    // SAFETY: the program's own call.
    writing(fd, &[piece(buf, len)], 0, move || unsafe { real::write()(fd, buf, len) })
}

fn piece(buf: *const c_void, len: size_t) -> iovec {
    iovec { iov_base: buf.cast_mut(), iov_len: len }
}

#[cold]
#[inline(never)]
unsafe fn slow_writev(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the program's own call.
    let real = move || unsafe { real::writev()(fd, iov, count) };
    // SAFETY: the program's list.
    match unsafe { list(iov, count as usize) } {
        Some(pieces) => writing(fd, pieces, 0, real),
        None => real(),
    }
}

#[cold]
#[inline(never)]
unsafe fn slow_send(fd: c_int, buf: *const c_void, len: size_t, flags: c_int) -> ssize_t {
    // SAFETY: the program's own call.
    writing(fd, &[piece(buf, len)], flags, move || unsafe { real::send()(fd, buf, len, flags) })
}

pub(crate) unsafe fn sendto(
    fd: c_int,
    buf: *const c_void,
    len: size_t,
    flags: c_int,
    addr: *const sockaddr,
    addr_len: socklen_t,
) -> ssize_t {
    let pieces = [piece(buf, len)];
    // SAFETY: the program's own call.
    let real = move || unsafe { real::sendto()(fd, buf, len, flags, addr, addr_len) };
    if addr.is_null() || !needs_us(fd) || is_confined() {
        return writing(fd, &pieces, flags, real);
    }
    let mut msg = header(&pieces);
    (msg.msg_name, msg.msg_namelen) = (addr.cast_mut().cast(), addr_len);
    message(fd, &msg, flags & !COMPAT)
}

pub(crate) unsafe fn sendmsg(fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the program's own call.
    let real = move || unsafe { real::sendmsg()(fd, msg, flags) };
    if is_confined() {
        // SAFETY: the program's header and list.
        return confined(fd, unsafe { list_of(msg) }, real);
    }
    // SAFETY: null or the program's header.
    if let Some(msg) = unsafe { msg.as_ref() }.filter(|_| is_place(msg)) {
        if is_ours(fd) && is_list(msg.msg_iov, msg.msg_iovlen) {
            return message(fd, msg, flags);
        }
        if msg.msg_controllen > 0 {
            super::rights::passing(msg);
        }
    }
    real()
}

pub(crate) unsafe fn sendmmsg(fd: c_int, list: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
    if !is_ours(fd) || !is_place(list) {
        for i in 0..if !is_place(list) { 0 } else { count.min(libc::UIO_MAXIOV as c_uint) } {
            // SAFETY: the program's list has `count` entries.
            super::rights::passing(unsafe { &(*list.add(i as usize)).msg_hdr });
        }
        // SAFETY: the program's own call.
        return unsafe { real::sendmmsg()(fd, list, count, flags) };
    }
    for done in 0..count.min(libc::UIO_MAXIOV as c_uint) {
        // SAFETY: the program's list has `count` entries.
        let entry = unsafe { &mut *list.add(done as usize) };
        // SAFETY: a header of the program's list.
        let r = unsafe { sendmsg(fd, &raw const entry.msg_hdr, flags) };
        if r < 0 {
            return if done > 0 { done as c_int } else { -1 };
        }
        entry.msg_len = r as c_uint;
        // SAFETY: a header of the program's list.
        if (r as usize) < unsafe { Buffers::of(&entry.msg_hdr) }.len() {
            // The messages after one that did not fit whole must not overtake its rest.
            return done as c_int + 1;
        }
    }
    count.min(libc::UIO_MAXIOV as c_uint) as c_int
}
