//! sendfile and splice on an endpoint that is not final. The bytes do not pass through the program, so they cannot be
//! hashed: a prefix that they belong to is lost, a later one is not.

use core::sync::atomic::Ordering::*;

use libc::{c_int, c_uint, loff_t, off_t, size_t, ssize_t};
use matcher::wire::Direction;

use super::receive::{deadline, wait};
use crate::endpoint::{Id, Pinned, tcp_fd};
use crate::fds::{self, Kind};
use crate::guard::as_libc;
use crate::hooks::real;
use crate::park::{self, Woken};
use crate::switch::{Phase, Transport};
use crate::{adopt, dual, epoll, sys};

const EAGAIN: sys::Ret = -(libc::EAGAIN as sys::Ret);

fn kernel(r: ssize_t) -> sys::Ret {
    // SAFETY: libc's errno of this thread, just set.
    if r < 0 { -(unsafe { *libc::__errno_location() } as sys::Ret) } else { r }
}

fn prepare(id: Id, fd: c_int) -> Phase {
    adopt::attend(id, fd);
    if id.endpoint().phase() >= Phase::Dual {
        dual::pump(id);
    } else if id.endpoint().phase() == Phase::Connecting {
        super::connect::completed(id, fd);
    }
    id.endpoint().phase()
}

/// Waits as a blocking call would; `Err` is how the call ends.
fn block(id: Id, fd: c_int, events: i16, deadline: Option<u64>) -> Result<(), sys::Ret> {
    let Some(parked) = park::announce(Some(id)) else {
        sys::yield_now();
        return Ok(());
    };
    match wait(&parked, id, fd, events, deadline) {
        Woken::Look | Woken::Signal { restarts: true } => Ok(()),
        Woken::TimedOut => Err(EAGAIN),
        Woken::Signal { restarts: false } => Err(-(libc::EINTR as sys::Ret)),
    }
}

/// Moves `len` bytes to the endpoint with `step(socket, bytes)`, which is the real call.
fn outward(id: &Pinned, fd: c_int, len: usize, step: impl Fn(c_int, usize) -> sys::Ret) -> sys::Ret {
    let e = id.endpoint();
    let until = deadline(tcp_fd(**id, fd), libc::SO_SNDTIMEO);
    let mut done = 0;
    loop {
        if prepare(**id, fd) > Phase::Dual {
            return with_progress(done, step(fd, len - done));
        }
        let Some(mut tx) = e.lock_tx() else { return with_progress(done, step(fd, len - done)) };
        if tx.state.on == Transport::Tcp {
            // The direction cannot leave TCP until the call is back.
            e.deaf_writers.fetch_add(1, SeqCst);
            drop(tx);
            let r = step(tcp_fd(**id, fd), len - done);
            if let Some(mut tx) = e.lock_tx()
                && r > 0
            {
                tx.state.wrote(r as u64);
                tx.prefix.skip();
                e.prefix_moved(Direction::Sent, &tx.prefix);
            }
            e.deaf_writers.fetch_sub(1, SeqCst);
            return with_progress(done, r);
        }
        let r = step(id.local().unix.load(Acquire), len - done);
        if r > 0 {
            tx.state.wrote(r as u64);
            done += r as usize;
        }
        drop(tx);
        let blocks = !sys::is_nonblocking(tcp_fd(**id, fd));
        if r == 0 || (r < 0 && r != EAGAIN) || done >= len || !blocks {
            return with_progress(done, r);
        }
        if let Err(r) = block(**id, fd, libc::POLLOUT, until) {
            return with_progress(done, r);
        }
    }
}

fn with_progress(done: usize, r: sys::Ret) -> sys::Ret {
    match r {
        r if done == 0 => r,
        r => done as sys::Ret + r.max(0),
    }
}

/// Moves up to `len` bytes from the endpoint with `step(socket, bytes)`, once there are some.
fn inward(id: &Pinned, fd: c_int, len: usize, waits: bool, step: impl Fn(c_int, usize) -> sys::Ret) -> sys::Ret {
    let e = id.endpoint();
    let until = deadline(tcp_fd(**id, fd), libc::SO_RCVTIMEO);
    let blocks = waits && !sys::is_nonblocking(tcp_fd(**id, fd));
    loop {
        let phase = prepare(**id, fd);
        if phase > Phase::Dual {
            return step(fd, len);
        }
        let mut ready = [libc::pollfd { fd, events: libc::POLLIN, revents: 0 }];
        let readable = match phase {
            Phase::Dual => dual::readiness(**id, libc::POLLIN).is_none_or(|r| r != 0),
            _ => sys::ppoll(&mut ready, Some(0), None) > 0,
        };
        if readable && e.phase() <= Phase::Dual {
            let Some(mut rx) = e.lock_rx() else { return step(fd, len) };
            let from = match rx.state.on {
                Transport::Tcp => tcp_fd(**id, fd),
                Transport::Unix => id.local().unix.load(Acquire),
            };
            let r = step(from, len.min(rx.state.left_on_tcp().map_or(len, |n| n.max(1) as usize)));
            if r > 0 {
                rx.state.took(r as u64);
                rx.prefix.skip();
                e.prefix_moved(Direction::Received, &rx.prefix);
                if e.note_rx(&rx.state) {
                    epoll::update_dual(**id);
                }
            }
            return r;
        }
        if !blocks {
            return EAGAIN;
        }
        if let Err(r) = block(**id, fd, libc::POLLIN, until) {
            return r;
        }
    }
}

pub unsafe fn sendfile(out: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
    // SAFETY: the program's own arguments.
    let step = |fd, n| unsafe { real::sendfile()(fd, from, offset, n) };
    match fds::lookup(out) {
        Some((id, Kind::Active)) => as_libc(outward(&id, out, count, |fd, n| kernel(step(fd, n)))),
        _ => step(out, count),
    }
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
    let step = |from, to, n| unsafe { real::splice()(from, from_offset, to, to_offset, n, flags) };
    if let Some((id, Kind::Active)) = fds::lookup(to) {
        return as_libc(outward(&id, to, len, |fd, n| kernel(step(from, fd, n))));
    }
    if let Some((id, Kind::Active)) = fds::lookup(from) {
        let waits = flags & libc::SPLICE_F_NONBLOCK == 0;
        return as_libc(inward(&id, from, len, waits, |fd, n| kernel(step(fd, to, n))));
    }
    step(from, to, len)
}
