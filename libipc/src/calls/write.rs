//! The writing hooks: arguments to a message header, and on to [`stream::send`](crate::stream::send).

use libc::{c_int, c_uint, c_void, iovec, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t};

use super::arguments::{COMPAT, header, is_list, is_place, list_of, short};
use super::seccomp;
use crate::endpoint::numbers::{is_callable, is_no_socket};
use crate::fds::{is_ours, needs_us};
use crate::host::confine::is_confined;
use crate::host::guard::as_libc;
use crate::stream::buffers::Buffers;
use crate::stream::send::{PLAIN, on_final, send as send_message, send_final};
use crate::symbols::real::{self, known};
use crate::sys;

const NOT_A_SOCKET: sys::Ret = -(libc::ENOTSOCK as sys::Ret);

short!(write, slow_write(fd, buf: *const c_void, len: size_t));
short!(writev, slow_writev(fd, iov: *const iovec, count: c_int));
short!(send, slow_send(fd, buf: *const c_void, len: size_t, flags: c_int));

#[cold]
#[inline(never)]
fn write_from(fd: c_int, buf: *const c_void, len: size_t, flags: c_int) -> ssize_t {
    let mut iov = iovec { iov_base: buf.cast_mut(), iov_len: len };
    as_libc(send_message(fd, &header(&raw mut iov, 1), flags & !COMPAT))
}

/// A writing call of a confined process.
fn counted_write(fd: c_int, pieces: &[iovec], real: impl FnOnce() -> ssize_t) -> ssize_t {
    let r = real();
    seccomp::gave(fd, pieces, r);
    r
}

/// A write where the descriptor is the new socket and its flags mean the same there: the kernel's own call.
fn on_new_socket(fd: c_int, buf: *const c_void, len: size_t, flags: c_int) -> Option<ssize_t> {
    if is_ours(fd) && !needs_us(fd) && flags & !PLAIN == 0 { send_final(fd, buf, len, flags) } else { None }
}

#[cold]
#[inline(never)]
unsafe fn slow_write(fd: c_int, buf: *const c_void, len: size_t) -> ssize_t {
    if is_confined() {
        let pieces = [iovec { iov_base: buf.cast_mut(), iov_len: len }];
        // SAFETY: the program's own call.
        return counted_write(fd, &pieces, || unsafe { real::write()(fd, buf, len) });
    }
    if needs_us(fd) && is_callable(fd) {
        let r = write_from(fd, buf, len, 0);
        if !is_no_socket(fd, r) {
            return r;
        }
    }
    if let Some(r) = on_new_socket(fd, buf, len, 0) {
        return r;
    }
    // SAFETY: the program's own call.
    unsafe { real::write()(fd, buf, len) }
}

#[cold]
#[inline(never)]
unsafe fn slow_writev(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t {
    if is_confined() && is_list(iov, count as usize) {
        // SAFETY: the program's list, which the kernel takes too.
        let pieces = unsafe { core::slice::from_raw_parts(iov, count as usize) };
        // SAFETY: the program's own call.
        return counted_write(fd, pieces, || unsafe { real::writev()(fd, iov, count) });
    }
    if needs_us(fd) && is_list(iov, count as usize) && is_callable(fd) {
        let r = as_libc(send_message(fd, &header(iov.cast_mut(), count as usize), 0));
        if !is_no_socket(fd, r) {
            return r;
        }
    }
    if is_ours(fd) && !needs_us(fd) && is_list(iov, count as usize) {
        match on_final(fd, &header(iov.cast_mut(), count as usize), 0) {
            NOT_A_SOCKET => {}
            r => return as_libc(r),
        }
    }
    // SAFETY: the program's own call.
    unsafe { real::writev()(fd, iov, count) }
}

#[cold]
#[inline(never)]
unsafe fn slow_send(fd: c_int, buf: *const c_void, len: size_t, flags: c_int) -> ssize_t {
    if is_confined() {
        let pieces = [iovec { iov_base: buf.cast_mut(), iov_len: len }];
        // SAFETY: the program's own call.
        return counted_write(fd, &pieces, || unsafe { real::send()(fd, buf, len, flags) });
    }
    if let Some(r) = on_new_socket(fd, buf, len, flags) {
        return r;
    }
    if is_ours(fd) {
        return write_from(fd, buf, len, flags);
    }
    // SAFETY: the program's own call.
    unsafe { real::send()(fd, buf, len, flags) }
}

pub unsafe fn sendto(
    fd: c_int,
    buf: *const c_void,
    len: size_t,
    flags: c_int,
    addr: *const sockaddr,
    addr_len: socklen_t,
) -> ssize_t {
    if is_confined() {
        let pieces = [iovec { iov_base: buf.cast_mut(), iov_len: len }];
        // SAFETY: the program's own call.
        return counted_write(fd, &pieces, || unsafe { real::sendto()(fd, buf, len, flags, addr, addr_len) });
    }
    if !is_ours(fd) {
        // SAFETY: the program's own call.
        return unsafe { real::sendto()(fd, buf, len, flags, addr, addr_len) };
    }
    if let Some(r) = on_new_socket(fd, buf, len, flags & !COMPAT) {
        return r;
    }
    let mut iov = iovec { iov_base: buf.cast_mut(), iov_len: len };
    let mut msg = header(&raw mut iov, 1);
    msg.msg_name = addr.cast_mut().cast();
    msg.msg_namelen = if addr.is_null() { 0 } else { addr_len };
    as_libc(send_message(fd, &msg, flags & !COMPAT))
}

pub unsafe fn sendmsg(fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t {
    if is_confined() {
        // SAFETY: the program's own call.
        return counted_write(fd, unsafe { list_of(msg) }, || unsafe { real::sendmsg()(fd, msg, flags) });
    }
    // SAFETY: null or the program's header.
    if let Some(msg) = unsafe { msg.as_ref() }.filter(|_| is_place(msg)) {
        if is_ours(fd) && is_list(msg.msg_iov, msg.msg_iovlen) {
            return as_libc(send_message(fd, msg, flags));
        }
        if msg.msg_controllen > 0 {
            super::rights::passing(msg);
        }
    }
    // SAFETY: the program's own call.
    unsafe { real::sendmsg()(fd, msg, flags) }
}

pub unsafe fn sendmmsg(fd: c_int, list: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
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
            // What comes after a message that did not fit whole must not overtake its rest.
            return done as c_int + 1;
        }
    }
    count.min(libc::UIO_MAXIOV as c_uint) as c_int
}
