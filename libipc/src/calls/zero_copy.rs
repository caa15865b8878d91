//! sendfile and splice on an endpoint that is not final. The bytes do not pass through the program; the ones that belong
//! to a prefix are looked at before they move.

use core::sync::atomic::Ordering::*;

use libc::{c_int, c_uint, c_void, loff_t, off_t, size_t, ssize_t};
use matcher::reason::Reason;
use matcher::wire::Direction;

use super::block::{block, block_on_pipe, deadline, left, settled_socket};
use super::glimpse::{Glimpse, look_at_file, look_at_pipe};
use super::reset::{after_the_end, end_of_stream, read_reset, taker, takes_nothing, writes_after_the_end};
use crate::endpoint::{Id, Pinned, numbers, tcp_fd};
use crate::fds::Kind;
use crate::host::confine;
use crate::host::guard::{NoSignals, as_libc};
use crate::host::threads;
use crate::readiness::waits;
use crate::switch::stay::stay;
use crate::switch::{Phase, Transport, adopt, drive};
use crate::symbols::real;
use crate::sys;

const EAGAIN: sys::Ret = -(libc::EAGAIN as sys::Ret);
const ECONNRESET: sys::Ret = -(libc::ECONNRESET as sys::Ret);
const EINTR: sys::Ret = -(libc::EINTR as sys::Ret);

fn kernel(r: ssize_t) -> sys::Ret {
    // SAFETY: libc's errno of this thread, just set.
    if r < 0 { -(unsafe { *libc::__errno_location() } as sys::Ret) } else { r }
}

fn prepare(id: Id, fd: c_int) -> Phase {
    adopt::attend(id, fd);
    if id.endpoint().phase() >= Phase::Dual {
        drive::pump(id);
    } else if id.endpoint().phase() == Phase::Connecting {
        super::connect::completed(id, fd);
    }
    let phase = id.endpoint().phase();
    if phase == Phase::Final {
        // Another thread may have taken the step since; it is complete only when the descriptors are replaced.
        drive::pump(id);
    }
    phase
}

/// Whether one of the events, or an error or a hang-up, is there.
fn is_ready(fd: c_int, events: i16) -> bool {
    sys::poll_now(fd, events) != 0
}

/// Where bytes come from that move to an endpoint.
#[derive(Clone, Copy)]
enum Source {
    File,
    /// A pipe, and whether the call waits for it.
    Pipe(c_int, bool),
}

/// A step that may wait, in a thread that may be cancelled in it: then the pin of the call is let go.
fn heeding_cancellation<R>(id: Id, step: impl FnOnce() -> R) -> R {
    threads::cancellable(left, id.index as *mut c_void, step)
}

/// The thread was cancelled in a step that keeps its direction on TCP.
extern "C" fn cancelled_on_tcp(index: *mut c_void) {
    let id = Id { index: index as usize as u32 };
    id.endpoint().deaf_writers.fetch_sub(1, SeqCst);
    left(index);
}

/// Moves `len` bytes to the endpoint with `step(socket, bytes, waits)`, which is the real call where it `waits` for the source,
/// and otherwise one in which no thread is cancelled. `look` copies the first of the bytes without moving them.
fn outward(
    id: &Pinned,
    fd: c_int,
    len: usize,
    source: Source,
    look: impl Fn(&mut [u8]) -> sys::Ret,
    step: impl Fn(c_int, usize, bool) -> sys::Ret,
) -> sys::Ret {
    let e = id.endpoint();
    let until = deadline(tcp_fd(**id, fd), libc::SO_SNDTIMEO);
    let (mut done, mut nonblocking) = (0, None);
    loop {
        let phase = prepare(**id, fd);
        if phase > Phase::Dual {
            let last = |fd| heeding_cancellation(**id, || step(fd, len - done, done == 0));
            return after(done, settled(**id, fd).map_or_else(|r| r, last));
        }
        let no_signals = (phase == Phase::Dual).then(NoSignals::hold);
        let Some(mut tx) = e.lock_tx() else {
            // A handler interrupted a call on this half and now writes, too: no hash can be trusted any more.
            match stay(**id, Reason::Reentered) || e.phase() > Phase::Dual {
                true => continue,
                false => return after(done, EINTR),
            }
        };
        if e.phase() > phase {
            continue;
        }
        drive::mend(**id, fd, None, Some(&mut tx));
        if tx.state.on == Transport::Tcp {
            let glimpse = Glimpse::of(&tx.prefix, &look);
            // The direction cannot leave TCP until the call is back.
            e.deaf_writers.fetch_add(1, SeqCst);
            drop((tx, no_signals));
            let tcp = tcp_fd(**id, fd);
            return after(done, deaf(**id, &glimpse, || step(tcp, len - done, done == 0)));
        }
        let unix = id.local().unix.load(Acquire);
        if takes_nothing(unix) {
            // The step would raise SIGPIPE.
            match writes_after_the_end(**id, unix, &mut tx.state) {
                Ok(()) => continue,
                Err(r) => return after(done, r),
            }
        }
        let r = step(unix, len - done, false);
        tx.state.wrote(r.max(0) as u64);
        drop((tx, no_signals));
        done += r.max(0) as usize;
        if r == 0 || (r < 0 && r != EAGAIN) || done >= len {
            return after(done, r.min(0));
        }
        if let Err(r) = wait_to_go_on((**id, fd), source, done, &mut nonblocking, until) {
            return after(done, r);
        }
    }
}

/// The step on TCP, which may wait. What it moved is counted after it.
fn deaf(id: Id, glimpse: &Glimpse, step: impl FnOnce() -> sys::Ret) -> sys::Ret {
    let e = id.endpoint();
    let r = threads::cancellable(cancelled_on_tcp, id.index as *mut c_void, step);
    if let Some(mut tx) = e.lock_tx()
        && r > 0
    {
        tx.state.wrote(r as u64);
        e.moved(Direction::Sent, r as u64);
        glimpse.tell(&mut tx.prefix, r as usize);
        e.prefix_moved(Direction::Sent, &tx.prefix);
    }
    e.deaf_writers.fetch_sub(1, SeqCst);
    r
}

/// Where the rest goes once the endpoint is settled. `Err` is how the call ends.
fn settled(id: Id, fd: c_int) -> Result<c_int, sys::Ret> {
    match settled_socket(id, fd) {
        (fd, Kind::Final) => taker(id, fd),
        (fd, _) => Ok(fd),
    }
}

/// A step on the new transport has moved less than it was to: waits for what was missing, room or bytes. `Err` is how the
/// call ends, if nothing had moved.
///
/// `nonblocking`: whether the descriptor was, when the call first asked.
fn wait_to_go_on(
    (id, fd): (Id, c_int),
    source: Source,
    done: usize,
    nonblocking: &mut Option<bool>,
    until: Option<u64>,
) -> Result<(), sys::Ret> {
    if let Source::Pipe(pipe, waits) = source
        && !is_ready(pipe, libc::POLLIN)
    {
        // What the pipe had has moved: that is all that splice(2) moves.
        return match done > 0 || !waits || sys::is_nonblocking(pipe) {
            true => Err(EAGAIN),
            false => block_on_pipe(id, pipe, libc::POLLIN),
        };
    }
    match *nonblocking.get_or_insert_with(|| sys::is_nonblocking(tcp_fd(id, fd))) {
        true => Err(EAGAIN),
        false => block(id, fd, libc::POLLOUT, until, done > 0),
    }
}

/// What a call returns that has moved `done` bytes before its last step gave `r`.
fn after(done: usize, r: sys::Ret) -> sys::Ret {
    if done == 0 { r } else { done as sys::Ret + r.max(0) }
}

/// Moves up to `len` bytes from the endpoint with `step(socket, bytes)`, once there are some.
///
/// `pipe` is where they go: the call waits for room in it, too, if it `waits`. `settled` is the program's own call, once
/// the endpoint is.
fn inward(
    id: &Pinned,
    fd: c_int,
    len: usize,
    waits: bool,
    pipe: c_int,
    step: impl Fn(c_int, usize) -> sys::Ret,
    settled: impl FnOnce() -> sys::Ret,
) -> sys::Ret {
    let until = deadline(tcp_fd(**id, fd), libc::SO_RCVTIMEO);
    let blocks = !sys::is_nonblocking(tcp_fd(**id, fd));
    loop {
        let phase = prepare(**id, fd);
        if phase > Phase::Dual {
            return settled();
        }
        let readable = match phase {
            Phase::Dual => drive::readiness(**id, libc::POLLIN).is_none_or(|r| r != 0),
            _ => is_ready(tcp_fd(**id, fd), libc::POLLIN),
        };
        if readable {
            waits::found(**id);
            match take(**id, fd, len, &step) {
                Some(EAGAIN) if waits && !sys::is_nonblocking(pipe) => match block_on_pipe(**id, pipe, libc::POLLOUT) {
                    Ok(()) => continue,
                    Err(r) => return r,
                },
                Some(r) => return r,
                None => continue,
            }
        }
        if !blocks {
            waits::found_nothing(**id);
            return EAGAIN;
        }
        waits::waits_in_a_read(**id);
        if let Err(r) = block(**id, fd, libc::POLLIN, until, false) {
            return r;
        }
    }
}

/// One step of [`inward`], on the transport that has the next bytes. `None`: to be looked at anew.
fn take(id: Id, fd: c_int, len: usize, step: impl Fn(c_int, usize) -> sys::Ret) -> Option<sys::Ret> {
    let e = id.endpoint();
    let phase = e.phase();
    let _no_signals = (phase == Phase::Dual).then(NoSignals::hold);
    let Some(mut rx) = e.lock_rx() else {
        // As in `outward`.
        let settled = stay(id, Reason::Reentered) || e.phase() > Phase::Dual;
        return (!settled).then_some(EINTR);
    };
    if e.phase() > phase || phase > Phase::Dual {
        return None;
    }
    drive::mend(id, fd, Some(&mut rx), None);
    let (from, limit) = match rx.state.on {
        Transport::Tcp => (tcp_fd(id, fd), rx.state.left_on_tcp().map_or(len, |n| len.min(n as usize))),
        Transport::Unix => (id.local().unix.load(Acquire), len),
    };
    if !is_ready(from, libc::POLLIN) {
        // Another reader was first. TCP would wait here, with the lock held.
        return None;
    }
    // A look takes a pending error from the socket: it is the result.
    let mut seen = 0;
    let glimpse = Glimpse::of(&rx.prefix, |room| {
        seen = sys::recv(from, room, libc::MSG_PEEK | libc::MSG_DONTWAIT);
        seen
    });
    if seen < 0 && seen != EAGAIN {
        return Some(seen);
    }
    let r = step(from, limit);
    if (r == 0 && len > 0 || r == ECONNRESET) && e.phase() == Phase::Dual {
        // The end of one transport is the end of the stream only if the other one does not go on.
        let on = rx.state.on;
        drive::hear_locked(id, &mut rx.state);
        match rx.state.on {
            now if now != on => return None,
            Transport::Tcp => {}
            Transport::Unix => return Some(if r == 0 { end_of_stream(id).min(0) } else { read_reset(id) }),
        }
    }
    if r > 0 {
        drive::took(id, &mut rx.state, r as u64);
        glimpse.tell(&mut rx.prefix, r as usize);
        e.prefix_moved(Direction::Received, &rx.prefix);
        drive::note_rx(id, &rx.state);
    }
    Some(r)
}

pub unsafe fn sendfile(out: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
    // SAFETY: the program's own arguments.
    let step = |fd, n| unsafe { real::sendfile()(fd, from, offset, n) };
    match numbers::lookup(out) {
        Some((id, Kind::Active)) => {
            // SAFETY: null or the program's offset.
            let at = unsafe { offset.as_ref() }.copied();
            let look = |room: &mut [u8]| look_at_file(from, at, room);
            as_libc(outward(&id, out, count, Source::File, look, |fd, n, _| kernel(step(fd, n))))
        }
        Some((id, Kind::Final)) => to_final(*id, out, |fd| kernel(step(fd, count))),
        _ => step(out, count),
    }
}

/// What a call does that moves bytes to a descriptor which is the new socket. A reset that comes while it waits is told as
/// TCP tells it.
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

pub unsafe fn sendfile64(out: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
    // SAFETY: off_t has 64 bits on every platform that the shim is built for.
    unsafe { sendfile(out, from, offset, count) }
}

pub unsafe fn splice(
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
    // The same past libc, in which a thread is not cancelled.
    let at_once = |from: c_int, to: c_int, n| {
        let (offsets, flags) = ([from_offset, to_offset].map(|at| at as usize), flags | libc::SPLICE_F_NONBLOCK);
        let [of_from, of_to] = offsets;
        sys::forward(libc::SYS_splice, [from as usize, of_from, to as usize, of_to, n, flags as usize])
    };
    let waits = flags & libc::SPLICE_F_NONBLOCK == 0;
    match numbers::lookup(to) {
        Some((id, Kind::Active)) => {
            let look = |room: &mut [u8]| look_at_pipe(from, room);
            let source = Source::Pipe(from, waits);
            let step = |fd, n, waits| if waits { kernel(with(from, fd, n, flags)) } else { at_once(from, fd, n) };
            return as_libc(outward(&id, to, len, source, look, step));
        }
        Some((id, Kind::Final)) => {
            return to_final(*id, to, |to| heeding_cancellation(*id, || kernel(step(from, to, len))));
        }
        _ => {}
    }
    match numbers::lookup(from) {
        Some((id, Kind::Active)) => {
            // Never a wait for the pipe with the endpoint locked.
            let take = |fd, n| at_once(fd, to, n);
            as_libc(inward(&id, from, len, waits, to, take, || match settled_socket(*id, from) {
                (fd, Kind::Final) => from_final(*id, fd, len, flags, to, again),
                (fd, _) => heeding_cancellation(*id, || again(fd, flags)),
            }))
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
        // TCP waits if its descriptor blocks: SPLICE_F_NONBLOCK is for the pipe.
        r = step(fd, flags & !libc::SPLICE_F_NONBLOCK);
    }
    match r {
        0 if len > 0 && numbers::is_final_now(fd, id) => match end_of_stream(id) {
            1 => step(tcp_fd(id, fd), flags | libc::SPLICE_F_NONBLOCK),
            r => r,
        },
        ECONNRESET if numbers::is_final_now(fd, id) => read_reset(id),
        r => r,
    }
}
