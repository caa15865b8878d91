//! Every reading call on an endpoint.

use libc::{c_int, c_void, msghdr};
use matcher::reason::Reason;
use matcher::wire::Direction;

use super::arrivals::Arrivals;
use super::block::{await_settled, block, deadline, settled_socket};
use super::native::{native, whole};
use super::options::ioctl::unread;
use super::read_final::{count, discard, receive_final, without_control};
use super::reset::{end_of_stream, has_error, read_reset};
use crate::cursor::Cursor;
use crate::endpoint::{Guard, Id, Pinned, numbers, tcp_fd};
use crate::fds::Kind;
use crate::host::guard::NoSignals;
use crate::host::threads;
use crate::ipcd::terms;
use crate::readiness::waits;
use crate::switch::stay::stay;
use crate::switch::{Phase, Receiver, Transport, adopt, drive};
use crate::{offsets, sys};

const EAGAIN: sys::Ret = -(libc::EAGAIN as sys::Ret);
const ECONNRESET: sys::Ret = -(libc::ECONNRESET as sys::Ret);

/// Reads into the buffers of `msg` as recvmsg(2) does.
pub fn receive(fd: c_int, msg: &mut msghdr, flags: c_int) -> sys::Ret {
    match numbers::lookup(fd) {
        Some((id, Kind::Active)) => active(id, fd, msg, flags),
        Some((id, Kind::Final)) => receive_final(*id, fd, msg, flags),
        _ => native(fd, msg, flags),
    }
}

/// One call in progress.
struct Call<'a> {
    id: Id,
    fd: c_int,
    msg: &'a mut msghdr,
    flags: c_int,
    cursor: Cursor<'static>,
    deadline: Option<Option<u64>>,
    /// Whether the descriptor was non-blocking when the call began.
    nonblocking: Option<bool>,
    /// MSG_PEEK with MSG_WAITALL: how many bytes were there at the last look, and what tells of more.
    peeked: sys::Ret,
    arrivals: Option<(Phase, Arrivals)>,
}

/// What one attempt gave.
enum Attempt {
    Done(sys::Ret),
    /// The call would block here.
    Empty,
    /// The phase has moved on: once more.
    Again,
    /// The endpoint is not active any more.
    Settled,
}

fn active(id: Pinned, fd: c_int, msg: &mut msghdr, flags: c_int) -> sys::Ret {
    if flags & libc::MSG_ERRQUEUE != 0 {
        return native(tcp_fd(*id, fd), msg, flags);
    }
    // SAFETY: the header is the program's, and outlives this call.
    let cursor = unsafe { Cursor::of(msg) };
    let (deadline, nonblocking, peeked, arrivals) = (None, None, 0, None);
    let mut call = Call { id: *id, fd, msg, flags, cursor, deadline, nonblocking, peeked, arrivals };
    let r = call.run();
    adopt::depart(*id, fd);
    r
}

impl Call<'_> {
    fn run(&mut self) -> sys::Ret {
        let mut waited = false;
        loop {
            let phase = self.prepare();
            if self.is_native(phase) {
                self.note_wait();
                if let Some(r) = self.block(phase) {
                    return r;
                }
            }
            match self.attempt(phase) {
                Attempt::Done(r) => {
                    if !waited {
                        waits::found(self.id);
                    }
                    return r;
                }
                Attempt::Settled => return self.settled(),
                Attempt::Again => continue,
                Attempt::Empty => {}
            }
            let asked = || sys::is_nonblocking(tcp_fd(self.id, self.fd));
            if self.flags & libc::MSG_DONTWAIT != 0 || *self.nonblocking.get_or_insert_with(asked) {
                waits::found_nothing(self.id);
                return self.or_progress(EAGAIN);
            }
            waits::waits_in_a_read(self.id);
            waited = true;
            let over = if self.peeked > 0 { self.await_more(phase) } else { self.block(phase) };
            if let Some(r) = over {
                return r;
            }
        }
    }

    /// Whether the real call does all that is needed: on TCP alone, and nobody to be woken by.
    fn is_native(&self, phase: Phase) -> bool {
        let on_tcp = matches!(phase, Phase::Tracking | Phase::Waiting);
        on_tcp && self.cursor.done == 0 && self.flags & libc::MSG_OOB == 0 && threads::blocks_natively()
    }

    /// Notes whether the real call is going to wait, as long as that says something new.
    fn note_wait(&self) {
        if waits::are_known(self.id) {
            return;
        }
        let tcp = tcp_fd(self.id, self.fd);
        if sys::poll_now(tcp, libc::POLLIN) != 0 {
            waits::found(self.id);
        } else if self.flags & libc::MSG_DONTWAIT != 0 || sys::is_nonblocking(tcp) {
            waits::found_nothing(self.id);
        } else {
            waits::waits_in_a_read(self.id);
        }
    }

    fn prepare(&self) -> Phase {
        adopt::attend(self.id, self.fd);
        let phase = self.id.endpoint().phase();
        if phase >= Phase::Dual {
            drive::pump(self.id);
        }
        self.id.endpoint().phase()
    }

    /// Whether nothing comes after so many bytes that are there.
    fn ends_after(&self, n: usize) -> bool {
        let unix = self.id.local().unix.load(core::sync::atomic::Ordering::Acquire);
        let ended = |fd: &c_int| *fd >= 0 && sys::poll_now(*fd, libc::POLLRDHUP) != 0;
        [tcp_fd(self.id, self.fd), unix].iter().any(ended) && unread(self.fd) as usize <= n
    }

    fn or_progress(&self, r: sys::Ret) -> sys::Ret {
        match self.cursor.done {
            0 if r < 0 && self.peeked > 0 => self.peeked,
            0 => r,
            done => done as sys::Ret,
        }
    }

    /// The endpoint became final or stays: the rest is the real function's.
    fn settled(&mut self) -> sys::Ret {
        // Another thread may have taken the step; it is complete only when the descriptors are replaced.
        drive::pump(self.id);
        loop {
            let mut window = self.cursor.window(usize::MAX);
            let mut header = *self.msg;
            if self.cursor.done > 0 {
                header = window.header(self.msg);
            }
            let (fd, kind) = settled_socket(self.id, self.fd);
            let mut r = match kind {
                // It is for the next call: this one has something to return.
                _ if self.cursor.done > 0 && has_error(fd) => 0,
                Kind::Final => receive_final(self.id, fd, &mut header, self.flags),
                _ => native(fd, &mut header, self.flags),
            };
            if r == EAGAIN && self.nonblocking == Some(false) {
                match await_settled(self.id, fd, libc::POLLIN, self.deadline.flatten(), self.cursor.done > 0) {
                    Ok(()) => continue,
                    Err(error) => r = error,
                }
            }
            if self.cursor.done == 0 {
                *self.msg = header;
            }
            return if r >= 0 { r + self.cursor.done as sys::Ret } else { self.or_progress(r) };
        }
    }

    /// One attempt that does not wait, with the receive lock held.
    fn attempt(&mut self, phase: Phase) -> Attempt {
        let _no_signals = (phase == Phase::Dual).then(NoSignals::hold);
        let e = self.id.endpoint();
        let Some(mut rx) = e.lock_rx() else {
            // A handler interrupted a call on this half and now reads, too: no hash can be trusted any more.
            stay(self.id, Reason::Reentered);
            return Attempt::Settled;
        };
        if self.flags & libc::MSG_OOB != 0 && phase < Phase::Adopting {
            drop(rx);
            stay(self.id, Reason::Urgent);
            return Attempt::Settled;
        }
        // The phase may have moved on before the lock was ours; Adopting cannot be seen here, its owner holds the lock.
        let now = e.phase();
        match now {
            Phase::Connecting => return self.connecting(rx),
            Phase::Final | Phase::Stay => return Attempt::Settled,
            Phase::Dual if phase != Phase::Dual => return Attempt::Again,
            _ => {}
        }
        drive::mend(self.id, self.fd, Some(&mut rx), None);
        let mut r = self.read_once(&mut rx);
        let on = rx.state.on;
        if r <= 0 && r != EAGAIN && now == Phase::Dual {
            // The end of one transport is the end of the stream only if the other one does not go on.
            drive::hear_locked(self.id, &mut rx.state);
            if rx.state.on != on {
                r = self.read_once(&mut rx);
            }
            match r {
                _ if rx.state.on == Transport::Tcp => {}
                0 if self.cursor.done == 0 && self.cursor.len() > 0 => r = end_of_stream(self.id).min(0),
                ECONNRESET => r = read_reset(self.id),
                _ => {}
            }
        }
        drop(rx);
        self.judge(r)
    }

    /// Not known to be connected yet: whatever the kernel says, counted.
    fn connecting(&mut self, rx: Guard<'_, Receiver>) -> Attempt {
        // Announced before the lock is free: from there on another thread may see the connection, and adopt.
        let deaf = &self.id.local().deaf_readers;
        deaf.fetch_add(1, core::sync::atomic::Ordering::SeqCst);
        drop(rx);
        if offsets::is_connected(self.fd) {
            deaf.fetch_sub(1, core::sync::atomic::Ordering::SeqCst);
            super::connect::completed(self.id, self.fd);
            return Attempt::Again;
        }
        let r = self.deaf();
        deaf.fetch_sub(1, core::sync::atomic::Ordering::SeqCst);
        Attempt::Done(r)
    }

    fn read_once(&mut self, rx: &mut Guard<'_, Receiver>) -> sys::Ret {
        let (from, limit) = match rx.state.on {
            Transport::Tcp => (tcp_fd(self.id, self.fd), rx.state.left_on_tcp().map_or(usize::MAX, |n| n as usize)),
            Transport::Unix => (self.id.local().unix.load(core::sync::atomic::Ordering::Acquire), usize::MAX),
        };
        if self.cursor.done > 0 && drive::has_ended(from) {
            // An error is for the next call: this one has something to return.
            return 0;
        }
        let flags = self.flags | libc::MSG_DONTWAIT;
        let r = if self.flags & libc::MSG_TRUNC != 0 && rx.state.on == Transport::Unix {
            self.strip_control();
            let left = self.cursor.len() - self.cursor.done;
            if flags & libc::MSG_PEEK != 0 { count(from, left, flags) } else { discard(from, left, flags) }
        } else if self.cursor.done == 0 && limit == usize::MAX && rx.state.on == Transport::Tcp {
            whole(from, self.msg, flags)
        } else {
            let mut window = self.cursor.window(limit);
            let mut header = without_control(&window.header(self.msg));
            let r = sys::recvmsg(from, &raw mut header, flags);
            self.strip_control();
            self.msg.msg_flags = header.msg_flags & !libc::MSG_CTRUNC;
            r
        };
        match r {
            r if r <= 0 => r,
            r => {
                // The last bytes on TCP: what follows is on the new transport.
                let moves = rx.state.on == Transport::Tcp && rx.state.left_on_tcp() == Some(r as u64);
                if self.flags & libc::MSG_PEEK == 0 {
                    self.account(rx, r as usize);
                }
                let more = if moves { self.beyond(r as usize) } else { 0 };
                if self.flags & libc::MSG_PEEK == 0 {
                    drive::took(self.id, &mut rx.state, more as u64);
                }
                r + more
            }
        }
    }

    fn strip_control(&mut self) {
        *self.msg = without_control(self.msg);
        self.msg.msg_flags = 0;
    }

    /// A call that came to the end of TCP goes on with what is on the new transport.
    fn beyond(&mut self, seen: usize) -> sys::Ret {
        if self.cursor.done + seen >= self.cursor.len() {
            return 0;
        }
        let unix = self.id.local().unix.load(core::sync::atomic::Ordering::Acquire);
        if self.flags & libc::MSG_TRUNC != 0 {
            let (left, peek) = (self.cursor.len() - self.cursor.done - seen, self.flags & libc::MSG_PEEK != 0);
            return if peek { count(unix, left, self.flags | libc::MSG_DONTWAIT).max(0) } else { 0 };
        }
        self.cursor.done += seen;
        let mut window = self.cursor.window(usize::MAX);
        let mut header = without_control(&window.header(self.msg));
        let r = sys::recvmsg(unix, &raw mut header, self.flags | libc::MSG_DONTWAIT);
        self.cursor.done -= seen;
        r.max(0)
    }

    fn account(&self, rx: &mut Guard<'_, Receiver>, n: usize) {
        drive::took(self.id, &mut rx.state, n as u64);
        if rx.prefix.wants() {
            match self.flags & libc::MSG_TRUNC {
                0 => self.cursor.each_piece(n, |bytes| rx.prefix.feed(bytes, terms::prefix_bytes())),
                _ => rx.prefix.skip(),
            }
            self.id.endpoint().prefix_moved(Direction::Received, &rx.prefix);
        }
        drive::note_rx(self.id, &rx.state);
    }

    /// Whether the call is over with this result of one attempt.
    fn judge(&mut self, r: sys::Ret) -> Attempt {
        let (all, peek) = (self.flags & libc::MSG_WAITALL != 0, self.flags & libc::MSG_PEEK != 0);
        match r {
            EAGAIN => Attempt::Empty,
            r if r <= 0 => Attempt::Done(self.or_progress(r)),
            r => {
                if all && peek && (r as usize) < self.cursor.len() && !self.ends_after(r as usize) {
                    self.peeked = r;
                    return Attempt::Empty;
                }
                if !all || peek {
                    return Attempt::Done(r);
                }
                self.cursor.done += r as usize;
                if self.cursor.done >= self.cursor.len() {
                    return Attempt::Done(self.cursor.done as sys::Ret);
                }
                Attempt::Empty
            }
        }
    }

    /// Waits until another attempt makes sense (`None`), or ends the call.
    fn block(&mut self, phase: Phase) -> Option<sys::Ret> {
        let e = self.id.endpoint();
        if phase < Phase::Adopting && threads::blocks_natively() {
            let mut rx = e.lock_rx()?;
            if e.phase() < Phase::Adopting {
                drive::mend(self.id, self.fd, Some(&mut rx), None);
                self.id.local().deaf_readers.fetch_add(1, core::sync::atomic::Ordering::SeqCst);
                drop(rx);
                let r = self.deaf();
                self.id.local().deaf_readers.fetch_sub(1, core::sync::atomic::Ordering::SeqCst);
                return Some(r);
            }
            return None;
        }
        let deadline = *self.deadline.get_or_insert_with(|| deadline(tcp_fd(self.id, self.fd), libc::SO_RCVTIMEO));
        block(self.id, self.fd, libc::POLLIN, deadline, self.cursor.done > 0).err().map(|r| self.or_progress(r))
    }

    /// The same where some of the bytes that are looked for are there.
    fn await_more(&mut self, phase: Phase) -> Option<sys::Ret> {
        let until = *self.deadline.get_or_insert_with(|| deadline(tcp_fd(self.id, self.fd), libc::SO_RCVTIMEO));
        if self.arrivals.as_ref().is_none_or(|(of, _)| *of != phase) {
            let unix = self.id.local().unix.load(core::sync::atomic::Ordering::Acquire);
            self.arrivals = Some((phase, Arrivals::on(&[tcp_fd(self.id, self.fd), unix])));
        }
        let arrivals = self.arrivals.as_ref().map(|(_, arrivals)| arrivals)?;
        arrivals.wait(self.id, until).err().map(|r| self.or_progress(r))
    }

    /// The real, blocking call on TCP. Nobody can adopt the endpoint until it returns.
    fn deaf(&mut self) -> sys::Ret {
        let mut window = self.cursor.window(usize::MAX);
        let mut header = *self.msg;
        if self.cursor.done > 0 {
            header = window.header(self.msg);
        }
        let (fd, flags) = (self.fd, self.flags);
        let r = threads::cancellable(cancelled, self.id.index as *mut c_void, || native(fd, &mut header, flags));
        if self.cursor.done == 0 {
            *self.msg = header;
        }
        if r > 0
            && self.flags & libc::MSG_PEEK == 0
            && let Some(mut rx) = self.id.endpoint().lock_rx()
        {
            self.account(&mut rx, r as usize);
        }
        if r > 0 { r + self.cursor.done as sys::Ret } else { self.or_progress(r) }
    }
}

/// The thread was cancelled in a real call: what the call held is let go.
extern "C" fn cancelled(index: *mut c_void) {
    let id = Id { index: index as usize as u32 };
    id.local().deaf_readers.fetch_sub(1, core::sync::atomic::Ordering::SeqCst);
    id.unpin();
}
