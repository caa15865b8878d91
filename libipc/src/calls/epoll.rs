//! epoll_ctl and the waits for its events.

use libc::{c_int, epoll_event, sigset_t, timespec};

use super::wait::nanoseconds;
use crate::endpoint::numbers;
use crate::fds::{self, Kind};
use crate::host::guard::{Errno, as_libc};
use crate::readiness::judge::Verdict;
use crate::readiness::{judge, moves, register, registrations, waits};
use crate::switch::drive;
use crate::symbols::real;
use crate::sys::{self, Deadline};

/// How often the kernel is asked for the events that came before one that was found after the kernel's report.
const ROUNDS: u32 = 4;
/// Marks an event that belongs to one of the same registration: a bit that no event has.
const MORE: u32 = 1 << 26;
/// How long a wait lasts at a time while its registrations may be changed past the hooks, in nanoseconds.
const SLICE_NS: u64 = 20_000_000;
/// How often a wait that found nothing looks once more because registrations moved meanwhile.
const LOOKS: u32 = 16;

/// The events of one epoll_wait, on their way to the program.
struct Batch<'a> {
    epfd: c_int,
    number: u32,
    /// All the room that the program has given.
    events: &'a mut [epoll_event],
    /// How many of them the program gets to see.
    kept: usize,
    /// An event was found after the kernel had reported what is ready.
    later: bool,
    /// The kernel is asked once more, and reports the same registrations again.
    again: bool,
}

impl Batch<'_> {
    /// Judges the `n` events that lie behind those that are kept, and keeps what the program gets to see, in their order.
    ///
    /// Looking takes its time, and between two looks bytes may come. What one look has not found ready is looked at again as
    /// long as later looks find something: so no event is reported that came later than one that is left out.
    ///
    /// True if the kernel has used all the room, and some of it for events that the program does not get to see.
    fn take(&mut self, n: usize) -> bool {
        let (from, room) = (self.kept, self.events.len() - self.kept);
        let mut more = self.judge(from..from + n, |_| true);
        let mut kept = more;
        while more > 0 && kept < n {
            more = self.judge(from..from + n, |event| event.events == 0);
            kept += more;
        }
        for at in from..from + n {
            if self.events.get(at).is_some_and(|event| event.events != 0) {
                self.keep(at);
            }
        }
        n == room && self.kept - from < n
    }

    /// Judges some events and returns how many of them the program gets to see. The mask of the others becomes 0.
    fn judge(&mut self, range: core::ops::Range<usize>, which: impl Fn(&epoll_event) -> bool) -> usize {
        let mut shown = 0;
        for event in self.events.get_mut(range).into_iter().flatten().filter(|event| which(event)) {
            match judge::judge(self.epfd, event, self.number) {
                Verdict::Keep => {}
                Verdict::Replace(other) => *event = other,
                Verdict::Found(other) => (*event, self.later) = (other, true),
                Verdict::More(other) => *event = epoll_event { events: other.events | MORE, ..other },
                Verdict::Drop => event.events = 0,
            }
            shown += usize::from(event.events != 0);
        }
        shown
    }

    /// Puts an event behind those that are kept, or adds it to the kept event of the same registration.
    fn keep(&mut self, at: usize) {
        let Some(new) = self.events.get(at).copied() else { return };
        let (data, events) = (new.u64, new.events & !MORE);
        let is_more = new.events & MORE != 0 || self.again;
        let mut kept = self.events.get_mut(..self.kept).into_iter().flatten();
        match kept.find(|event| is_more && event.u64 == data) {
            Some(known) => known.events |= events,
            None => {
                let other = self.events.get(self.kept).copied();
                let new = epoll_event { events, u64: data };
                for (place, event) in [(at, other), (self.kept, Some(new))] {
                    if let (Some(place), Some(event)) = (self.events.get_mut(place), event) {
                        *place = event;
                    }
                }
                self.kept += 1;
            }
        }
    }

    /// Asks the kernel for the events that came before the last one that was found, and for those that there was no room
    /// for, as far as there is room now.
    fn catch_up(&mut self, mut crowded: bool) {
        for _ in 0..ROUNDS {
            let room = self.events.get_mut(self.kept..).unwrap_or(&mut []);
            if room.is_empty() || !crowded && (!self.later || self.kept == 0) {
                return;
            }
            let n = sys::epoll_now(self.epfd, room);
            self.again = true;
            let before = self.kept;
            crowded = self.take(n.max(0) as usize);
            if self.kept == before && !crowded {
                return;
            }
        }
    }
}

/// Makes of the `n` events that the kernel has reported those that the program gets to see; returns how many.
fn filter(epfd: c_int, events: &mut [epoll_event], n: usize) -> usize {
    let mut batch = Batch { epfd, number: judge::batch(), events, kept: 0, later: false, again: false };
    let crowded = batch.take(n);
    batch.catch_up(crowded);
    batch.kept
}

/// How long one wait of the kernel's lasts.
#[derive(Clone, Copy)]
enum Time {
    /// As long as the program has said.
    AsCalled,
    /// So many nanoseconds; `None`: for ever.
    For(Option<u64>),
}

/// Repeats a wait for epoll events until there are some that the program gets to see, or its time is over.
fn epoll_with(
    epfd: c_int,
    (events, max): (*mut epoll_event, c_int),
    timeout: Option<u64>,
    wait: impl Fn(Time) -> c_int,
) -> c_int {
    let mut left = Time::AsCalled;
    let mut deadline: Option<Deadline> = None;
    let mut looks = LOOKS;
    loop {
        waits::before_wait(epfd);
        let in_slices = registrations::has_foreign() && timeout != Some(0) && moves::follow_foreign(epfd);
        // Only a wait that may have to go on needs to know when it began.
        if deadline.is_none() && timeout != Some(0) && registrations::in_use() {
            deadline = Some(Deadline::after(timeout));
        }
        let before = registrations::revision();
        let r = match in_slices {
            true => wait(Time::For(Some(time_left(deadline).map_or(SLICE_NS, |left| left.min(SLICE_NS))))),
            false => wait(left),
        };
        if r >= 0 {
            fds::note_wait(epfd);
        }
        if r < 0 || !registrations::in_use() {
            return r;
        }
        let _errno = Errno::keep();
        let kept = match r {
            0 => 0,
            // SAFETY: the program's room for events, of which the kernel has just written the first `r`.
            _ => filter(epfd, unsafe { core::slice::from_raw_parts_mut(events, max as usize) }, r as usize),
        };
        // No event, though a descriptor may be ready whose registration was between two sockets when the kernel looked?
        let again = kept == 0 && looks > 0 && registrations::await_moves(before);
        looks -= u32::from(again);
        let goes_on = again || timeout != Some(0) && (r > 0 || in_slices && time_left(deadline) != Some(0));
        if kept > 0 || !goes_on {
            return kept as c_int;
        }
        left = Time::For(if timeout == Some(0) { Some(0) } else { time_left(deadline) });
    }
}

fn time_left(deadline: Option<Deadline>) -> Option<u64> {
    deadline.and_then(Deadline::left)
}

impl Time {
    /// For epoll_wait: milliseconds, rounded up; -1 for ever.
    fn milliseconds(self, called: c_int) -> c_int {
        match self {
            Time::AsCalled => called,
            Time::For(None) => -1,
            Time::For(Some(ns)) => ns.div_ceil(1_000_000).min(c_int::MAX as u64) as c_int,
        }
    }
}

pub(crate) unsafe fn epoll_wait(epfd: c_int, events: *mut epoll_event, max: c_int, timeout: c_int) -> c_int {
    let ns = (timeout >= 0).then(|| timeout as u64 * 1_000_000);
    epoll_with(epfd, (events, max), ns, |left| {
        // SAFETY: the program's own call.
        unsafe { real::epoll_wait()(epfd, events, max, left.milliseconds(timeout)) }
    })
}

pub(crate) unsafe fn epoll_pwait(
    epfd: c_int,
    events: *mut epoll_event,
    max: c_int,
    timeout: c_int,
    mask: *const sigset_t,
) -> c_int {
    let ns = (timeout >= 0).then(|| timeout as u64 * 1_000_000);
    epoll_with(epfd, (events, max), ns, |left| {
        // SAFETY: the program's own call.
        unsafe { real::epoll_pwait()(epfd, events, max, left.milliseconds(timeout), mask) }
    })
}

pub(crate) unsafe fn epoll_pwait2(
    epfd: c_int,
    events: *mut epoll_event,
    max: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: null or the program's timeout.
    let ns = unsafe { timeout.as_ref() }.map(nanoseconds);
    epoll_with(epfd, (events, max), ns, |left| {
        let own = match left {
            Time::For(Some(ns)) => timespec_of(ns),
            _ => timespec_of(0),
        };
        let at = match left {
            Time::AsCalled => timeout,
            Time::For(None) => core::ptr::null(),
            Time::For(Some(_)) => &raw const own,
        };
        // SAFETY: the program's own call.
        unsafe { real::epoll_pwait2()(epfd, events, max, at, mask) }
    })
}

pub(crate) fn timespec_of(ns: u64) -> timespec {
    timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 }
}

pub(crate) unsafe fn epoll_ctl(epfd: c_int, op: c_int, fd: c_int, event: *mut epoll_event) -> c_int {
    if fds::is_ours(fd)
        && let Some((id, kind)) = numbers::lookup(fd)
    {
        if kind == Kind::Final {
            // SAFETY: the program's own call.
            let r = unsafe { real::epoll_ctl()(epfd, op, fd, event) };
            // SAFETY: null or the program's event.
            if let Some(event) = unsafe { event.as_ref() }.filter(|_| r == 0) {
                register::follow(*id, epfd, op, fd, event);
            }
            return r;
        }
        // SAFETY: null (allowed with EPOLL_CTL_DEL) or the program's event.
        if let (Some(_), _) | (None, libc::EPOLL_CTL_DEL) = (unsafe { event.as_ref() }, op) {
            // SAFETY: as above.
            drive::pump(*id);
            // SAFETY: as above.
            return as_libc(register::control(*id, epfd, op, fd, unsafe { event.as_ref() })) as c_int;
        }
    }
    // SAFETY: the program's own call.
    unsafe { real::epoll_ctl()(epfd, op, fd, event) }
}
