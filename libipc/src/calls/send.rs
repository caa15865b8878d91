//! Every writing call on an endpoint.

use core::sync::atomic::Ordering::*;

use libc::{c_int, c_void, iovec, msghdr, ssize_t};
use matcher::reason::Reason;
use matcher::wire::Direction;

use super::block::{await_settled, block, deadline, settled_socket};
use super::reset::{after_the_end, writes_after_the_end};
use crate::cursor::Cursor;
use crate::endpoint::{Guard, Id, Pinned, numbers, tcp_fd};
use crate::fds::{self, Kind};
use crate::host::guard::{NoSignals, as_libc};
use crate::host::threads;
use crate::ipcd::terms;
use crate::switch::stay::stay;
use crate::switch::{Phase, Sender, Transport, adopt, drive};
use crate::symbols::real;
use crate::{offsets, sys};

const EAGAIN: sys::Ret = -(libc::EAGAIN as sys::Ret);
const EPIPE: sys::Ret = -(libc::EPIPE as sys::Ret);
const ECONNRESET: sys::Ret = -(libc::ECONNRESET as sys::Ret);

/// Flags that mean the same on a Unix-domain socket, or nothing on either.
pub const PLAIN: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_MORE | libc::MSG_EOR;

/// Writes the buffers of `msg` as sendmsg(2) does.
pub fn send(fd: c_int, msg: &msghdr, flags: c_int) -> sys::Ret {
    if flags & !PLAIN == 0 && fds::kind(fd) == Kind::Final {
        return on_final(fd, msg, flags);
    }
    let known = numbers::lookup(fd);
    if let Some((id, Kind::Active | Kind::Final)) = &known
        && flags & libc::MSG_FASTOPEN != 0
        && id.endpoint().phase() > Phase::Connecting
    {
        // Only TCP has it, and refuses it once there is a connection: asked with nothing to send.
        // SAFETY: msghdr is plain data, valid when zeroed.
        let nothing: msghdr = unsafe { core::mem::zeroed() };
        let r = sys::sendmsg(tcp_fd(**id, fd), &nothing, libc::MSG_FASTOPEN | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        if r < 0 {
            return r;
        }
    }
    match known {
        Some((id, Kind::Active)) => active(id, fd, msg, flags),
        Some((_, Kind::Final)) => on_final(fd, msg, flags),
        _ => native(fd, msg, flags),
    }
}

/// A write of one buffer to a descriptor that was the new socket a moment ago, by the kernel's shortest call; flags are
/// [`PLAIN`]. `None` if it is no socket any more (closed unseen).
pub fn send_final(fd: c_int, buf: *const c_void, len: usize, flags: c_int) -> Option<ssize_t> {
    // SAFETY: the program's own arguments.
    let r = unsafe { real::send()(fd, buf, len, flags | libc::MSG_NOSIGNAL) };
    if r >= 0 {
        numbers::note_written(fd);
        return Some(r);
    }
    // SAFETY: libc's errno of this thread, just set.
    match unsafe { *libc::__errno_location() } {
        libc::ENOTSOCK => None,
        libc::EPIPE | libc::ECONNRESET => {
            let mut iov = iovec { iov_base: buf.cast_mut(), iov_len: len };
            // SAFETY: msghdr is plain data, valid when zeroed.
            let mut msg: msghdr = unsafe { core::mem::zeroed() };
            (msg.msg_iov, msg.msg_iovlen) = (&raw mut iov, 1);
            // SAFETY: as above.
            let error = -(unsafe { *libc::__errno_location() } as sys::Ret);
            Some(as_libc(refused(fd, &msg, flags, error)))
        }
        _ => Some(r),
    }
}

/// A write to a descriptor that is the new socket.
pub fn on_final(fd: c_int, msg: &msghdr, flags: c_int) -> sys::Ret {
    let (msg, flags) = (for_unix(msg), flags & !libc::MSG_ZEROCOPY);
    match native(fd, &msg, flags | libc::MSG_NOSIGNAL) {
        error @ (EPIPE | ECONNRESET) => refused(fd, &msg, flags, error),
        r => {
            numbers::note_written(fd);
            r
        }
    }
}

/// A Unix-domain socket refuses what is written after the peer has closed: TCP is given it.
#[cold]
fn refused(fd: c_int, msg: &msghdr, flags: c_int, error: sys::Ret) -> sys::Ret {
    if let Some((id, Kind::Final)) = numbers::lookup(fd) {
        match after_the_end(*id, fd, error == ECONNRESET) {
            Ok(tcp) if tcp != fd => return native(tcp, msg, flags),
            Ok(_) => {}
            Err(r) => return r,
        }
    }
    if error == EPIPE && flags & libc::MSG_NOSIGNAL == 0 {
        sys::raise_sigpipe();
    }
    error
}

/// What TCP ignores and a Unix-domain socket would not: an address, control messages.
fn for_unix(msg: &msghdr) -> msghdr {
    let none = core::ptr::null_mut();
    msghdr { msg_name: none, msg_namelen: 0, msg_control: none, msg_controllen: 0, ..*msg }
}

fn native(fd: c_int, msg: &msghdr, flags: c_int) -> sys::Ret {
    // SAFETY: null or the header's list.
    let only = unsafe { msg.msg_iov.as_ref() }.filter(|_| msg.msg_iovlen == 1);
    let r = match only {
        // The shorter way into the kernel.
        Some(iov) if msg.msg_control.is_null() && msg.msg_name.is_null() => {
            // SAFETY: the program's buffer.
            unsafe { real::send()(fd, iov.iov_base, iov.iov_len, flags) }
        }
        // SAFETY: the program's own arguments, or a header made of them.
        _ => unsafe { real::sendmsg()(fd, msg, flags) },
    };
    // SAFETY: libc's errno of this thread, just set.
    if r < 0 { -(unsafe { *libc::__errno_location() } as sys::Ret) } else { r }
}

/// One call in progress.
struct Call<'a> {
    id: Id,
    fd: c_int,
    msg: &'a msghdr,
    flags: c_int,
    cursor: Cursor<'static>,
    total: usize,
    deadline: Option<Option<u64>>,
    /// Whether the descriptor was non-blocking when the call began.
    nonblocking: Option<bool>,
}

/// What one attempt gave.
enum Attempt {
    Done(sys::Ret),
    /// Not all fits; the rest would block.
    Full,
    /// The phase has moved on: once more.
    Again,
    /// The endpoint is not active any more.
    Settled,
}

fn active(id: Pinned, fd: c_int, msg: &msghdr, flags: c_int) -> sys::Ret {
    // SAFETY: the header is the program's, and outlives this call.
    let cursor = unsafe { Cursor::of(msg) };
    let total = cursor.len();
    let mut call = Call { id: *id, fd, msg, flags, cursor, total, deadline: None, nonblocking: None };
    let r = call.run();
    adopt::depart(*id, fd);
    if r == EPIPE && flags & libc::MSG_NOSIGNAL == 0 {
        sys::raise_sigpipe();
    }
    r
}

impl Call<'_> {
    fn run(&mut self) -> sys::Ret {
        loop {
            let phase = self.prepare();
            if self.is_native(phase)
                && let Some(r) = self.block(phase)
            {
                return r;
            }
            match self.attempt(phase) {
                Attempt::Done(r) => return r,
                Attempt::Settled => return self.settled(),
                Attempt::Again => continue,
                Attempt::Full => {}
            }
            let asked = || sys::is_nonblocking(tcp_fd(self.id, self.fd));
            if self.flags & libc::MSG_DONTWAIT != 0 || *self.nonblocking.get_or_insert_with(asked) {
                return self.or_progress(EAGAIN);
            }
            if let Some(r) = self.block(phase) {
                return r;
            }
        }
    }

    /// Whether the real call does all that is needed: on TCP alone, and nobody to be woken by.
    fn is_native(&self, phase: Phase) -> bool {
        let on_tcp = matches!(phase, Phase::Tracking | Phase::Waiting);
        on_tcp && self.cursor.done == 0 && self.flags & libc::MSG_OOB == 0 && threads::blocks_natively()
    }

    fn prepare(&self) -> Phase {
        adopt::attend(self.id, self.fd);
        if self.id.endpoint().phase() >= Phase::Dual {
            drive::pump(self.id);
        }
        self.id.endpoint().phase()
    }

    fn or_progress(&self, r: sys::Ret) -> sys::Ret {
        if self.cursor.done > 0 { self.cursor.done as sys::Ret } else { r }
    }

    fn settled(&mut self) -> sys::Ret {
        // Another thread may have taken the step; it is complete only when the descriptors are replaced.
        drive::pump(self.id);
        // `active` raises the signal, once.
        let flags = self.flags | libc::MSG_NOSIGNAL;
        loop {
            let mut window = self.cursor.window(usize::MAX);
            let rest = if self.cursor.done > 0 { window.header(self.msg) } else { *self.msg };
            let (fd, kind) = settled_socket(self.id, self.fd);
            let mut r = match kind {
                Kind::Final => on_final(fd, &rest, flags),
                _ => native(fd, &rest, flags),
            };
            if r == EAGAIN && self.nonblocking == Some(false) {
                match await_settled(self.id, fd, libc::POLLOUT, self.deadline.flatten(), self.cursor.done > 0) {
                    Ok(()) => continue,
                    Err(error) => r = error,
                }
            }
            return if r >= 0 { r + self.cursor.done as sys::Ret } else { self.or_progress(r) };
        }
    }

    /// One attempt that does not wait, with the send lock held.
    fn attempt(&mut self, phase: Phase) -> Attempt {
        let _no_signals = (phase == Phase::Dual).then(NoSignals::hold);
        let e = self.id.endpoint();
        if self.flags & libc::MSG_OOB != 0 && stay(self.id, Reason::Urgent) {
            return Attempt::Settled;
        }
        let Some(mut tx) = e.lock_tx() else {
            // A handler interrupted a call on this half and now writes, too: no hash can be trusted any more.
            stay(self.id, Reason::Reentered);
            return Attempt::Settled;
        };
        match e.phase() {
            Phase::Connecting => {
                // MSG_FASTOPEN connects.
                let _ = e.connect_began.compare_exchange(0, sys::now(), Relaxed, Relaxed);
                // Announced before the lock is free: from there on another thread may see the connection, and switch.
                e.deaf_writers.fetch_add(1, SeqCst);
                drop(tx);
                if offsets::is_connected(self.fd) {
                    e.deaf_writers.fetch_sub(1, SeqCst);
                    super::connect::completed(self.id, self.fd);
                    return Attempt::Again;
                }
                let r = self.deaf();
                e.deaf_writers.fetch_sub(1, SeqCst);
                return Attempt::Done(r);
            }
            Phase::Final | Phase::Stay => return Attempt::Settled,
            Phase::Dual if phase != Phase::Dual => return Attempt::Again,
            _ => {}
        }
        // Urgent data after the promise: the direction goes on over TCP, where it means something.
        tx.state.barred |= self.flags & libc::MSG_OOB != 0;
        drive::mend(self.id, self.fd, None, Some(&mut tx));
        let r = self.write_once(&mut tx);
        drop(tx);
        self.judge(r)
    }

    fn write_once(&mut self, tx: &mut Guard<'_, Sender>) -> sys::Ret {
        let flags = self.flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let mut window = self.cursor.window(usize::MAX);
        let header = if self.cursor.done > 0 { window.header(self.msg) } else { *self.msg };
        if tx.state.on == Transport::Unix {
            let unix = self.id.local().unix.load(Acquire);
            let r = sys::sendmsg(unix, &for_unix(&header), flags & !libc::MSG_ZEROCOPY);
            if r != EPIPE {
                self.account(tx, r.max(0) as usize);
                return r;
            }
            // Whether the peer reads TCP, TCP knows.
            if let Err(r) = writes_after_the_end(self.id, unix, &mut tx.state) {
                return r;
            }
        }
        let r = sys::sendmsg(tcp_fd(self.id, self.fd), &header, flags);
        if r > 0 {
            self.account(tx, r as usize);
        }
        r
    }

    fn account(&self, tx: &mut Guard<'_, Sender>, n: usize) {
        tx.state.wrote(n as u64);
        self.id.endpoint().moved(Direction::Sent, n as u64);
        if tx.prefix.wants() {
            self.cursor.each_piece(n, |bytes| tx.prefix.feed(bytes, terms::prefix_bytes()));
            self.id.endpoint().prefix_moved(Direction::Sent, &tx.prefix);
        }
    }

    /// Whether the call is over with this result of one attempt.
    fn judge(&mut self, r: sys::Ret) -> Attempt {
        match r {
            EAGAIN => Attempt::Full,
            r if r < 0 => Attempt::Done(self.or_progress(r)),
            r => {
                self.cursor.done += r as usize;
                match self.cursor.done >= self.total {
                    true => Attempt::Done(self.cursor.done as sys::Ret),
                    false => Attempt::Full,
                }
            }
        }
    }

    /// Waits until another attempt makes sense (`None`), or ends the call.
    fn block(&mut self, phase: Phase) -> Option<sys::Ret> {
        let e = self.id.endpoint();
        if phase < Phase::Adopting && threads::blocks_natively() {
            let mut tx = e.lock_tx()?;
            if e.phase() >= Phase::Adopting {
                return None;
            }
            drive::mend(self.id, self.fd, None, Some(&mut tx));
            e.deaf_writers.fetch_add(1, SeqCst);
            drop(tx);
            let r = self.deaf();
            e.deaf_writers.fetch_sub(1, SeqCst);
            return Some(r);
        }
        let deadline = *self.deadline.get_or_insert_with(|| deadline(tcp_fd(self.id, self.fd), libc::SO_SNDTIMEO));
        block(self.id, self.fd, libc::POLLOUT, deadline, self.cursor.done > 0).err().map(|r| self.or_progress(r))
    }

    /// The real, blocking call on TCP. The direction cannot leave TCP until it returns.
    fn deaf(&mut self) -> sys::Ret {
        let mut window = self.cursor.window(usize::MAX);
        let rest = if self.cursor.done > 0 { window.header(self.msg) } else { *self.msg };
        let (fd, flags) = (self.fd, self.flags | libc::MSG_NOSIGNAL);
        let r = threads::cancellable(cancelled, self.id.index as *mut c_void, || native(fd, &rest, flags));
        if r > 0
            && let Some(mut tx) = self.id.endpoint().lock_tx()
        {
            self.account(&mut tx, r as usize);
        }
        if r > 0 { r + self.cursor.done as sys::Ret } else { self.or_progress(r) }
    }
}

/// The thread was cancelled in a real call: what the call held is let go.
extern "C" fn cancelled(index: *mut c_void) {
    let id = Id { index: index as usize as u32 };
    id.endpoint().deaf_writers.fetch_sub(1, SeqCst);
    id.unpin();
}
