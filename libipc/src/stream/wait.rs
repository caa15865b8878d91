//! Waiting on behalf of a call, and the socket that a call goes on with if the endpoint has settled meanwhile, on the new
//! transport or on TCP.

use libc::{c_int, c_void, pollfd, timeval};

use crate::endpoint::{Id, numbers, tcp_fd};
use crate::fds::{self, Kind};
use crate::host::threads::{self, Cancellations};
use crate::readiness::park::{self, Parked, Woken};
use crate::switch::{Phase, drive};
use crate::sys::{self, Deadline, EAGAIN, EINTR};

/// Waits as a blocking call would, with nothing held but the pin, until another attempt makes sense. `Err` is how the call
/// ends. A call that `has_moved` bytes is ended by every handled signal, and returns how many it has moved.
pub(super) fn block(id: Id, fd: c_int, events: i16, deadline: Deadline, has_moved: bool) -> Result<(), sys::Ret> {
    sleep(id, has_moved, |parked| wait(parked, id, fd, events, deadline))
}

/// The same for one descriptor that no step of the switch replaces: a pipe, or the socket of an endpoint that is settled.
pub(super) fn block_on(id: Id, fd: c_int, events: i16, deadline: Deadline, has_moved: bool) -> Result<(), sys::Ret> {
    if deadline.is_over() {
        return Err(EAGAIN);
    }
    let watched = [pollfd { fd, events, revents: 0 }];
    sleep(id, has_moved, |parked| match parked {
        Some(parked) => parked.wait(&watched, deadline.left()),
        None => park::doze(&watched, deadline.left()),
    })
}

/// Announces the thread, which may be cancelled here, and lets it wait.
fn sleep(id: Id, has_moved: bool, wait: impl FnOnce(Option<&Parked>) -> Woken) -> Result<(), sys::Ret> {
    let known = Cancellations::heed(left, id.index as *mut c_void);
    let parked = park::announce(Some(id));
    if !known.are_all() {
        return Ok(());
    }
    outcome(wait(parked.as_ref()), has_moved)
}

/// What a call makes of the end of a wait.
pub(super) fn outcome(woken: Woken, has_moved: bool) -> Result<(), sys::Ret> {
    match woken {
        Woken::Look => Ok(()),
        Woken::Signal { restarts: true } if !has_moved => Ok(()),
        Woken::Signal { .. } => Err(EINTR),
        Woken::TimedOut => Err(EAGAIN),
    }
}

/// Called when the thread is cancelled where it was about to wait: releases the call's pin.
pub(super) extern "C" fn left(index: *mut c_void) {
    Id { index: index as usize as u32 }.unpin();
}

/// Waits for the endpoint with the announced parker, if there was one left. It looks at the phase once more first: any
/// later change wakes the thread.
fn wait(parked: Option<&Parked>, id: Id, fd: c_int, events: i16, deadline: Deadline) -> Woken {
    let timeout = deadline.left();
    let sleep = |watched: &[pollfd]| match parked {
        Some(parked) => parked.wait(watched, timeout),
        None => park::doze(watched, timeout),
    };
    match id.endpoint().phase() {
        Phase::Dual => sleep(&drive::watch(id, events)),
        Phase::Tracking | Phase::Waiting => sleep(&[pollfd { fd: tcp_fd(id, fd), events, revents: 0 }]),
        _ => Woken::Look,
    }
}

/// When a call that begins now times out (SO_RCVTIMEO, SO_SNDTIMEO).
pub(super) fn deadline(fd: c_int, option: c_int) -> Deadline {
    let time = sys::getsockopt::<timeval>(fd, libc::SOL_SOCKET, option).ok();
    let ns = time.map(|t| t.tv_sec as u64 * 1_000_000_000 + t.tv_usec as u64 * 1000);
    Deadline::after(ns.filter(|ns| *ns > 0))
}

/// The socket that a call goes on with once the endpoint is settled: the program's number, or, if that has been closed or
/// replaced since, another number of the endpoint, or a hidden one that was kept.
pub(super) fn settled_socket(id: Id, fd: c_int) -> (c_int, Kind) {
    let unix = &id.local().unix;
    match numbers::is_number_of(fd, id).then_some(fd).or_else(|| numbers::numbers_of(id).next()) {
        Some(number) => (number, fds::kind(number)),
        None if unix.is_open() && id.endpoint().phase() == Phase::Final => unix.by_number(|unix| (unix, Kind::Final)),
        None => (tcp_fd(id, fd), Kind::Stay),
    }
}

/// A step that may wait, in a thread that may be cancelled in it: then the pin of the call is let go.
pub(super) fn heeding_cancellation<R>(id: Id, step: impl FnOnce() -> R) -> R {
    threads::cancellable(left, id.index as *mut c_void, step)
}
