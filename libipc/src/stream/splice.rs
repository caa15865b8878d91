//! sendfile and splice: the kernel moves the bytes, and the program does not see them. Those that belong to a prefix are
//! looked at before they move.

use libc::{c_int, c_uint, loff_t, off_t, size_t, ssize_t};

use super::call::{Call, Judged, Step, Tried};
use super::ending::{End, after_the_end, end_of_stream, read_reset, taker, writes_after_the_end};
use super::glimpse::{Glimpse, look_at_file, look_at_pipe};
use super::native::kernel;
use super::tally::tally;
use super::wait::{block_on, heeding_cancellation};
use crate::endpoint::{Guard, Id, numbers, tcp_fd};
use crate::fds::Kind;
use crate::host::confine;
use crate::host::guard::as_libc;
use crate::switch::{Phase, Receiver, Sender, Transport, drive};
use crate::symbols::real;
use crate::sys::{self, Deadline, EAGAIN, ECONNRESET};
use crate::transport::Carrier;

/// Whether one of the events, or an error or a hang-up, is there.
fn is_ready(fd: c_int, events: i16) -> bool {
    sys::poll_now(fd, events) != 0
}

/// A pipe at the other end of a splice, and whether the call waits for it.
#[derive(Clone, Copy)]
struct Pipe {
    fd: c_int,
    waits: bool,
}

impl Pipe {
    /// Waits until the pipe is ready. `Err` is how the call ends, also if it must not wait for the pipe.
    fn wait(self, id: Id, events: i16) -> Result<(), sys::Ret> {
        match self.waits && !sys::is_nonblocking(self.fd) {
            true => block_on(id, self.fd, events, Deadline::NEVER, false),
            false => Err(EAGAIN),
        }
    }
}

/// A call that moves `len` bytes to an endpoint.
///
/// `look` copies the first of the bytes without moving them. `step(socket, bytes, waits)` moves them: by the real call if
/// it `waits` for the source, else by a call in which the thread cannot be cancelled.
struct Outward<L, M> {
    len: usize,
    /// What the bytes come from, if that is a pipe.
    source: Option<Pipe>,
    look: L,
    step: M,
    glimpse: Glimpse,
}

impl<L: Fn(&mut [u8]) -> sys::Ret, M: Fn(c_int, usize, bool) -> sys::Ret> Step for Outward<L, M> {
    type Side = Sender;

    fn attempt(&mut self, call: &mut Call, tx: &mut Guard<'_, Sender>) -> Tried {
        if tx.state.on == Transport::Tcp {
            self.glimpse = Glimpse::of(&tx.prefix, &self.look);
            return Tried::Natively;
        }
        let unix = &call.id.local().unix;
        if unix.takes_nothing() {
            // The step would raise SIGPIPE.
            return match writes_after_the_end(call.id, &mut tx.state) {
                Ok(()) => Tried::Again,
                Err(r) => Tried::Gave(r),
            };
        }
        let r = unix.by_number(|unix| (self.step)(unix, self.len - call.done, false));
        tally(call.id, tx, r.max(0) as usize, |prefix, _| prefix.skip());
        Tried::Gave(r)
    }

    fn judge(&mut self, call: &mut Call, r: sys::Ret) -> Judged {
        call.done += r.max(0) as usize;
        match r {
            EAGAIN => Judged::Blocked,
            r if r > 0 && call.done < self.len => Judged::Blocked,
            r => Judged::Done(r.min(0)),
        }
    }

    fn natively(&mut self, call: &Call) -> sys::Ret {
        (self.step)(tcp_fd(call.id, call.fd), self.len - call.done, call.done == 0)
    }

    fn count(&mut self, call: &Call, tx: &mut Guard<'_, Sender>, n: usize) {
        tally(call.id, tx, n, |prefix, of| self.glimpse.tell(prefix, n, of));
    }

    fn settled(&mut self, call: &Call, fd: c_int, kind: Kind) -> sys::Ret {
        let to = if kind == Kind::Final { taker(call.id, fd) } else { Ok(fd) };
        let last = |to| heeding_cancellation(call.id, || (self.step)(to, self.len - call.done, call.done == 0));
        to.map_or_else(|r| r, last)
    }

    fn wait(&mut self, call: &mut Call) -> Result<(), sys::Ret> {
        match self.source {
            Some(pipe) if !is_ready(pipe.fd, libc::POLLIN) => match call.done {
                0 => pipe.wait(call.id, libc::POLLIN),
                // All bytes of the pipe have moved: splice(2) does not wait for more.
                _ => Err(EAGAIN),
            },
            _ => call.wait::<Sender>(),
        }
    }
}

/// A call that moves up to `len` bytes from an endpoint, once there are some, with `step(socket, bytes)`, which does not
/// wait. `real(socket, flags)` is the program's own call.
struct Inward<M, R> {
    len: usize,
    flags: c_uint,
    /// Where the bytes go. The call waits for room in it, too.
    pipe: Pipe,
    step: M,
    real: R,
    /// The endpoint had something to read, and the pipe no room.
    is_full: bool,
}

impl<M: Fn(c_int, usize) -> sys::Ret, R: Fn(c_int, c_uint) -> sys::Ret> Step for Inward<M, R> {
    type Side = Receiver;

    fn attempt(&mut self, call: &mut Call, rx: &mut Guard<'_, Receiver>) -> Tried {
        self.is_full = false;
        let on = rx.state.on;
        let from = Carrier::of(call.id, call.fd, on);
        let limit = match on {
            Transport::Tcp => rx.state.left_on_tcp().map_or(self.len, |n| self.len.min(n as usize)),
            Transport::Unix => self.len,
        };
        if from.poll(libc::POLLIN) == 0 {
            // The step would wait here, with the lock held.
            return Tried::Gave(EAGAIN);
        }
        // The look takes a pending error off the socket, so that error is the result of the call.
        let mut seen = 0;
        let glimpse = Glimpse::of(&rx.prefix, |room| {
            seen = from.read(room, libc::MSG_PEEK | libc::MSG_DONTWAIT);
            seen
        });
        if seen < 0 && seen != EAGAIN {
            return Tried::Gave(seen);
        }
        let r = from.by_number(|from| (self.step)(from, limit));
        self.is_full = r == EAGAIN;
        if (r == 0 && self.len > 0 || r == ECONNRESET) && call.id.endpoint().phase() == Phase::Dual {
            // The end of one transport is the end of the stream only if the other one does not go on.
            drive::hear_locked(call.id, &mut rx.state);
            match rx.state.on {
                now if now != on => return Tried::Again,
                Transport::Tcp => {}
                Transport::Unix if r == 0 => return Tried::Gave(end_of_stream(call.id).told()),
                Transport::Unix => return Tried::Gave(read_reset(call.id)),
            }
        }
        if r > 0 {
            tally(call.id, rx, r as usize, |prefix, of| glimpse.tell(prefix, r as usize, of));
        }
        Tried::Gave(r)
    }

    fn judge(&mut self, _: &mut Call, r: sys::Ret) -> Judged {
        if r == EAGAIN { Judged::Blocked } else { Judged::Done(r) }
    }

    fn natively(&mut self, call: &Call) -> sys::Ret {
        (self.real)(call.fd, self.flags)
    }

    fn count(&mut self, call: &Call, rx: &mut Guard<'_, Receiver>, n: usize) {
        tally(call.id, rx, n, |prefix, _| prefix.skip());
    }

    fn settled(&mut self, call: &Call, fd: c_int, kind: Kind) -> sys::Ret {
        match kind {
            Kind::Final => from_final(call.id, fd, self.len, self.flags, self.pipe.fd, &self.real),
            _ => heeding_cancellation(call.id, || (self.real)(fd, self.flags)),
        }
    }

    fn wait(&mut self, call: &mut Call) -> Result<(), sys::Ret> {
        match self.is_full {
            true => self.pipe.wait(call.id, libc::POLLOUT),
            false => call.wait::<Receiver>(),
        }
    }
}

pub(crate) unsafe fn sendfile(out: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
    // SAFETY: the program's own arguments.
    let step = |fd, n| unsafe { real::sendfile()(fd, from, offset, n) };
    match numbers::lookup(out) {
        Some((id, Kind::Active)) => {
            // SAFETY: null or the program's offset.
            let at = unsafe { offset.as_ref() }.copied();
            let look = |room: &mut [u8]| look_at_file(from, at, room);
            let step = |fd, n, _: bool| kernel(step(fd, n));
            let mut file = Outward { len: count, source: None, look, step, glimpse: Glimpse::NONE };
            as_libc(Call::new(*id, out, 0).run(&mut file))
        }
        Some((id, Kind::Final)) => to_final(*id, out, |fd| kernel(step(fd, count))),
        _ => step(out, count),
    }
}

/// Moves bytes to a descriptor that is the new socket. A reset that comes while the call waits is reported as TCP reports
/// it.
fn to_final(id: Id, fd: c_int, step: impl Fn(c_int) -> sys::Ret) -> ssize_t {
    let r = match taker(id, fd) {
        Ok(to) => match step(to) {
            ECONNRESET if to == fd => after_the_end(id, fd, true).map_or_else(|r| r, &step),
            r => r,
        },
        Err(r) => r,
    };
    as_libc(r)
}

pub(crate) unsafe fn sendfile64(out: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
    // SAFETY: off_t has 64 bits on every platform that the shim is built for.
    unsafe { sendfile(out, from, offset, count) }
}

pub(crate) unsafe fn splice(
    from: c_int,
    from_offset: *mut loff_t,
    to: c_int,
    to_offset: *mut loff_t,
    len: size_t,
    flags: c_uint,
) -> ssize_t {
    // SAFETY: the program's own arguments.
    let with = |from, to, n, flags| unsafe { real::splice()(from, from_offset, to, to_offset, n, flags) };
    let step = |from, to, n| with(from, to, n, flags);
    let again = |from, flags| kernel(with(from, to, len, flags));
    // The same past libc, where the thread cannot be cancelled.
    let at_once = |from: c_int, to: c_int, n| {
        let (offsets, flags) = ([from_offset, to_offset].map(|at| at as usize), flags | libc::SPLICE_F_NONBLOCK);
        let [of_from, of_to] = offsets;
        sys::forward(libc::SYS_splice, [from as usize, of_from, to as usize, of_to, n, flags as usize])
    };
    let waits = flags & libc::SPLICE_F_NONBLOCK == 0;
    match numbers::lookup(to) {
        Some((id, Kind::Active)) => {
            let look = |room: &mut [u8]| look_at_pipe(from, room);
            let source = Some(Pipe { fd: from, waits });
            let step = |fd, n, waits| if waits { kernel(with(from, fd, n, flags)) } else { at_once(from, fd, n) };
            let mut outward = Outward { len, source, look, step, glimpse: Glimpse::NONE };
            return as_libc(Call::new(*id, to, 0).run(&mut outward));
        }
        Some((id, Kind::Final)) => {
            return to_final(*id, to, |to| heeding_cancellation(*id, || kernel(step(from, to, len))));
        }
        _ => {}
    }
    match numbers::lookup(from) {
        Some((id, Kind::Active)) => {
            let (pipe, step) = (Pipe { fd: to, waits }, |fd, n| at_once(fd, to, n));
            let mut inward = Inward { len, flags, pipe, step, real: again, is_full: false };
            as_libc(Call::new(*id, from, 0).run(&mut inward))
        }
        Some((id, Kind::Final)) if !confine::is_confined() => as_libc(from_final(*id, from, len, flags, to, again)),
        _ => step(from, to, len),
    }
}

/// splice(2) from a descriptor that was the new socket a moment ago.
fn from_final(
    id: Id,
    fd: c_int,
    len: usize,
    flags: c_uint,
    pipe: c_int,
    step: impl Fn(c_int, c_uint) -> sys::Ret,
) -> sys::Ret {
    let step = |fd, flags| heeding_cancellation(id, || step(fd, flags));
    let mut r = step(fd, flags);
    if r == EAGAIN && flags & libc::SPLICE_F_NONBLOCK != 0 && !sys::is_nonblocking(fd) && is_ready(pipe, libc::POLLOUT)
    {
        // On TCP, SPLICE_F_NONBLOCK is for the pipe alone: the call waits for the socket if its descriptor blocks.
        r = step(fd, flags & !libc::SPLICE_F_NONBLOCK);
    }
    match r {
        0 if len > 0 && numbers::is_final_now(fd, id) => match end_of_stream(id) {
            End::GoesOn => step(tcp_fd(id, fd), flags | libc::SPLICE_F_NONBLOCK),
            end => end.told(),
        },
        ECONNRESET if numbers::is_final_now(fd, id) => read_reset(id),
        r => r,
    }
}
