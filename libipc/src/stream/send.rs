//! Every call that writes from buffers.

use core::sync::atomic::Ordering::*;

use libc::{c_int, c_void, iovec, msghdr, ssize_t};

use super::buffers::Buffers;
use super::call::{Call, Judged, Step, Tried};
use super::ending::{after_the_end, writes_after_the_end};
use super::native::{self, kernel};
use super::tally::tally;
use super::wait::heeding_cancellation;
use crate::endpoint::{Guard, Id, numbers, tcp_fd};
use crate::fds::Kind;
use crate::host::guard::as_libc;
use crate::switch::{Phase, Sender, Transport};
use crate::symbols::real;
use crate::sys::{self, EAGAIN, ECONNRESET, EPIPE};
use crate::transport::unix::plain;

/// Flags that mean the same on a Unix-domain socket, or nothing on either.
pub(crate) const PLAIN: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_MORE | libc::MSG_EOR;

/// MSG_FASTOPEN where there is a connection already: only TCP has this flag, and refuses it then. TCP is asked by a call
/// with nothing to send.
pub(crate) fn fast_open(id: Id, fd: c_int, flags: c_int) -> Option<sys::Ret> {
    if flags & libc::MSG_FASTOPEN == 0 || id.endpoint().phase() <= Phase::Connecting {
        return None;
    }
    // SAFETY: msghdr is plain data, valid when zeroed.
    let nothing: msghdr = unsafe { core::mem::zeroed() };
    let r = sys::sendmsg(tcp_fd(id, fd), &nothing, libc::MSG_FASTOPEN | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    (r < 0).then_some(r)
}

/// Raises SIGPIPE after EPIPE: the real call was made without the signal. Not if the program's call does not want it.
pub(crate) fn signalled(r: sys::Ret, flags: c_int) -> sys::Ret {
    if r == EPIPE && flags & libc::MSG_NOSIGNAL == 0 {
        sys::raise_sigpipe();
    }
    r
}

/// A write of one buffer to a descriptor that was the new socket a moment ago, by the kernel's shortest call; flags are
/// [`PLAIN`]. `None` if the number is no socket any more (closed past the hooks).
#[inline(always)]
pub(crate) fn send_final(fd: c_int, buf: *const c_void, len: usize, flags: c_int) -> Option<ssize_t> {
    // SAFETY: the program's own arguments.
    let r = unsafe { real::send()(fd, buf, len, flags | libc::MSG_NOSIGNAL) };
    if r >= 0 {
        numbers::note_written(fd);
        return Some(r);
    }
    refused_final(fd, buf, len, flags, kernel(r))
}

#[cold]
#[inline(never)]
fn refused_final(fd: c_int, buf: *const c_void, len: usize, flags: c_int, error: sys::Ret) -> Option<ssize_t> {
    match error {
        error if error == -(libc::ENOTSOCK as sys::Ret) => None,
        error @ (EPIPE | ECONNRESET) => {
            let mut iov = iovec { iov_base: buf.cast_mut(), iov_len: len };
            // SAFETY: msghdr is plain data, valid when zeroed.
            let mut msg: msghdr = unsafe { core::mem::zeroed() };
            (msg.msg_iov, msg.msg_iovlen) = (&raw mut iov, 1);
            Some(as_libc(refused(fd, &msg, flags, error)))
        }
        _ => Some(-1),
    }
}

/// A write to a descriptor that is the new socket.
pub(crate) fn on_final(fd: c_int, msg: &msghdr, flags: c_int) -> sys::Ret {
    if flags & libc::MSG_FASTOPEN != 0
        && let Some((id, Kind::Final)) = numbers::lookup(fd)
        && let Some(refused) = fast_open(*id, fd, flags)
    {
        return refused;
    }
    let (msg, flags) = (plain(msg), flags & !libc::MSG_ZEROCOPY);
    match native::send(fd, &msg, flags | libc::MSG_NOSIGNAL) {
        error @ (EPIPE | ECONNRESET) => refused(fd, &msg, flags, error),
        r => {
            numbers::note_written(fd);
            r
        }
    }
}

/// A Unix-domain socket refuses bytes that are written after the peer has closed: they are written to TCP.
#[cold]
fn refused(fd: c_int, msg: &msghdr, flags: c_int, error: sys::Ret) -> sys::Ret {
    if let Some((id, Kind::Final)) = numbers::lookup(fd) {
        match after_the_end(*id, fd, error == ECONNRESET) {
            Ok(tcp) if tcp != fd => return native::send(tcp, msg, flags),
            Ok(_) => {}
            Err(r) => return r,
        }
    }
    signalled(error, flags)
}

/// A call that writes the buffers of a header as sendmsg(2) does.
pub(crate) struct Write<'a> {
    msg: &'a msghdr,
    flags: c_int,
    buffers: Buffers<'a>,
}

impl Step for Write<'_> {
    type Side = Sender;

    fn attempt(&mut self, call: &mut Call, tx: &mut Guard<'_, Sender>) -> Tried {
        if call.may_go_natively() {
            return Tried::Natively;
        }
        // Urgent data after the promise: the direction goes on over TCP, which has urgent data.
        tx.state.barred |= call.is_urgent;
        let flags = self.flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let mut window = self.buffers.window(call.done, usize::MAX);
        let rest = if call.done > 0 { window.header(self.msg) } else { *self.msg };
        let mut r = EPIPE;
        if tx.state.on == Transport::Unix {
            r = call.id.local().unix.send(&rest, flags);
            if r == EPIPE
                && let Err(told) = writes_after_the_end(call.id, &mut tx.state)
            {
                return Tried::Gave(told);
            }
        }
        if tx.state.on == Transport::Tcp {
            // The direction has not left TCP, or is back on it: TCP knows whether the peer still reads there.
            r = sys::sendmsg(tcp_fd(call.id, call.fd), &rest, flags);
        }
        if r > 0 {
            self.count(call, tx, r as usize);
        }
        Tried::Gave(r)
    }

    fn judge(&mut self, call: &mut Call, r: sys::Ret) -> Judged {
        match r {
            EAGAIN => Judged::Blocked,
            r if r < 0 => Judged::Done(r),
            r => {
                call.done += r as usize;
                if call.done >= self.buffers.len() { Judged::Done(0) } else { Judged::Blocked }
            }
        }
    }

    fn natively(&mut self, call: &Call) -> sys::Ret {
        let e = call.id.endpoint();
        if e.phase() == Phase::Connecting {
            // MSG_FASTOPEN connects.
            let _ = e.connect_began.compare_exchange(0, sys::now(), Relaxed, Relaxed);
        }
        self.on_the_rest(call, |msg, flags| native::send(call.fd, msg, flags))
    }

    fn count(&mut self, call: &Call, tx: &mut Guard<'_, Sender>, n: usize) {
        tally(call.id, tx, n, |prefix, of| self.buffers.each_piece(call.done, n, |bytes| prefix.feed(bytes, of)));
    }

    fn settled(&mut self, call: &Call, fd: c_int, kind: Kind) -> sys::Ret {
        let at_once = if self.resumes(call) { libc::MSG_DONTWAIT } else { 0 };
        self.on_the_rest(call, |msg, flags| {
            heeding_cancellation(call.id, || match kind {
                Kind::Final => on_final(fd, msg, flags | at_once),
                _ => native::send(fd, msg, flags | at_once),
            })
        })
    }

    fn resumes(&self, call: &Call) -> bool {
        call.resumes
    }
}

impl<'a> Write<'a> {
    pub(crate) fn new(msg: &'a msghdr, flags: c_int) -> Write<'a> {
        // SAFETY: the header is the program's, and outlives the call.
        Write { msg, flags, buffers: unsafe { Buffers::of(msg) } }
    }

    /// The real call for what has not moved yet, without the signal, which is raised once at the end.
    fn on_the_rest(&self, call: &Call, real: impl FnOnce(&msghdr, c_int) -> sys::Ret) -> sys::Ret {
        let flags = self.flags | libc::MSG_NOSIGNAL;
        if call.done == 0 {
            return real(self.msg, flags);
        }
        let mut window = self.buffers.window(call.done, usize::MAX);
        real(&window.header(self.msg), flags)
    }
}
