//! epoll_ctl and the waits for its events.

use libc::{c_int, epoll_event, sigset_t, timespec};

use super::wait::nanoseconds;
use crate::epoll::{self, Verdict};
use crate::fds::{self, Kind};
use crate::guard::{Errno, as_libc};
use crate::hooks::real;
use crate::{park, sys};

/// How often a wait that found nothing looks once more because registrations moved meanwhile.
const LOOKS: u32 = 16;

/// The events of epoll_wait that the program gets to see, in their order; returns how many.
///
/// Looking takes its time, and between two looks bytes may come. What one look has not found ready is looked at again as long
/// as later ones find something: nothing is told that came after what is left out.
fn filter(epfd: c_int, events: &mut [epoll_event]) -> usize {
    let batch = epoll::batch();
    let mut kept = judge_those(epfd, events, batch, |_| true);
    let mut more = kept;
    while more > 0 && kept < events.len() {
        more = judge_those(epfd, events, batch, |event| event.events == 0);
        kept += more;
    }
    let mut at = 0;
    for i in 0..events.len() {
        if events.get(i).is_some_and(|event| event.events != 0) {
            events.swap(at, i);
            at += 1;
        }
    }
    kept
}

/// Judges some events; how many of them the program gets to see. The mask of the others is 0.
fn judge_those(epfd: c_int, events: &mut [epoll_event], batch: u32, which: impl Fn(&epoll_event) -> bool) -> usize {
    let mut kept = 0;
    for event in events.iter_mut().filter(|event| which(event)) {
        match epoll::judge(epfd, event, batch) {
            Verdict::Keep => {}
            Verdict::Replace(other) => *event = other,
            Verdict::Drop => event.events = 0,
        }
        kept += usize::from(event.events != 0);
    }
    kept
}

/// Repeats a wait for epoll events until there are some that the program gets to see, or its time is over. `wait` is
/// given the time left, if that is not the one it was called with.
fn epoll_with(
    epfd: c_int,
    events: *mut epoll_event,
    timeout: Option<u64>,
    wait: impl Fn(Option<Option<u64>>) -> c_int,
) -> c_int {
    let mut left = None;
    let mut deadline = None;
    let mut looks = LOOKS;
    loop {
        // Only a wait that may have to go on needs to know when it began.
        if left.is_none() && timeout != Some(0) && epoll::in_use() {
            deadline = timeout.map(|t| sys::now().saturating_add(t));
        }
        let before = epoll::revision();
        let r = wait(left);
        if r < 0 || !epoll::in_use() {
            return r;
        }
        let _errno = Errno::keep();
        let kept = match r {
            0 => 0,
            // SAFETY: the kernel has just written `r` events there.
            _ => filter(epfd, unsafe { core::slice::from_raw_parts_mut(events, r as usize) }),
        };
        // Nothing, though something may be ready whose registration was between two sockets when the kernel looked?
        let again = kept == 0 && looks > 0 && epoll::await_moves(before);
        looks -= u32::from(again);
        if kept > 0 || !again && (r == 0 || timeout == Some(0)) {
            return kept as c_int;
        }
        if deadline.is_none() {
            deadline = timeout.map(|t| sys::now().saturating_add(t));
        }
        left = Some(park::left_until(deadline));
    }
}

/// Milliseconds, rounded up, for epoll_wait; -1 for ever.
fn milliseconds(ns: Option<u64>) -> c_int {
    ns.map_or(-1, |ns| ns.div_ceil(1_000_000).min(c_int::MAX as u64) as c_int)
}

pub unsafe fn epoll_wait(epfd: c_int, events: *mut epoll_event, max: c_int, timeout: c_int) -> c_int {
    let ns = (timeout >= 0).then(|| timeout as u64 * 1_000_000);
    epoll_with(epfd, events, ns, |left| {
        // SAFETY: the program's own call.
        unsafe { real::epoll_wait()(epfd, events, max, left.map_or(timeout, milliseconds)) }
    })
}

pub unsafe fn epoll_pwait(
    epfd: c_int,
    events: *mut epoll_event,
    max: c_int,
    timeout: c_int,
    mask: *const sigset_t,
) -> c_int {
    let ns = (timeout >= 0).then(|| timeout as u64 * 1_000_000);
    epoll_with(epfd, events, ns, |left| {
        // SAFETY: the program's own call.
        unsafe { real::epoll_pwait()(epfd, events, max, left.map_or(timeout, milliseconds), mask) }
    })
}

pub unsafe fn epoll_pwait2(
    epfd: c_int,
    events: *mut epoll_event,
    max: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: null or the program's timeout.
    let ns = unsafe { timeout.as_ref() }.map(nanoseconds);
    epoll_with(epfd, events, ns, |left| {
        let own = left.flatten().map(timespec_of);
        let at = match left {
            Some(_) => own.as_ref().map_or(core::ptr::null(), |t| &raw const *t),
            None => timeout,
        };
        // SAFETY: the program's own call.
        unsafe { real::epoll_pwait2()(epfd, events, max, at, mask) }
    })
}

pub fn timespec_of(ns: u64) -> timespec {
    timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 }
}

pub unsafe fn epoll_ctl(epfd: c_int, op: c_int, fd: c_int, event: *mut epoll_event) -> c_int {
    if fds::is_ours(fd)
        && let Some((id, kind)) = fds::lookup(fd)
    {
        if kind == Kind::Final {
            // SAFETY: the program's own call.
            let r = unsafe { real::epoll_ctl()(epfd, op, fd, event) };
            // SAFETY: null or the program's event.
            if let Some(event) = unsafe { event.as_ref() }.filter(|_| r == 0) {
                epoll::follow(*id, epfd, op, fd, event);
            }
            return r;
        }
        // SAFETY: null (allowed with EPOLL_CTL_DEL) or the program's event.
        if let (Some(_), _) | (None, libc::EPOLL_CTL_DEL) = (unsafe { event.as_ref() }, op) {
            // SAFETY: as above.
            return as_libc(epoll::control(*id, epfd, op, fd, unsafe { event.as_ref() })) as c_int;
        }
    }
    // SAFETY: the program's own call.
    unsafe { real::epoll_ctl()(epfd, op, fd, event) }
}
