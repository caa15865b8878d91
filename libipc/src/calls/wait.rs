//! poll, select and epoll_wait over endpoints in any phase.

use libc::{c_int, epoll_event, fd_set, pollfd, sigset_t, timespec, timeval};

use crate::dual::{READING, WRITING};
use crate::endpoint::Id;
use crate::epoll::{self, Verdict};
use crate::fds::{self, Kind};
use crate::guard::{Errno, as_libc};
use crate::hooks::real;
use crate::scratch::Scratch;
use crate::switch::Phase;
use crate::{adopt, dual, park, process, sys};

const POLLHUP: i16 = libc::POLLHUP;

fn nanoseconds(t: &timespec) -> u64 {
    (t.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(t.tv_nsec as u64)
}

/// A poll in the program's terms.
struct Poll<'a> {
    fds: &'a mut [pollfd],
    deadline: Option<u64>,
    mask: Option<&'a u64>,
}

/// Whether the set has a descriptor that the kernel's poll would get wrong: one with two sockets, or one that another
/// thread may give a second one while this one sleeps.
fn needs_care(fds: &[pollfd]) -> bool {
    let mut care = false;
    for p in fds.iter().filter(|p| fds::needs_us(p.fd)) {
        if let Some((id, Kind::Active)) = fds::lookup(p.fd) {
            adopt::attend(*id, p.fd);
            dual::pump(*id);
            care |= id.endpoint().phase() == Phase::Dual || !process::is_single_threaded();
        }
    }
    care
}

/// Takes HUP from final descriptors whose own half is open. Returns how many are not ready any more.
fn strip_hangups(fds: &mut [pollfd]) -> usize {
    let mut emptied = 0;
    for p in fds.iter_mut().filter(|p| p.revents & POLLHUP != 0) {
        if let Some((id, Kind::Final)) = fds::lookup(p.fd)
            && fds::still_final(p.fd, *id)
        {
            p.revents = dual::with_tcp_hangup(*id, p.revents);
            emptied += usize::from(p.revents == 0);
        }
    }
    emptied
}

impl Poll<'_> {
    /// poll(2) over sets that need care; the kernel's convention for the result.
    fn run(&mut self) -> sys::Ret {
        let Some(mut scratch) = Scratch::new(self.fds.len() * 2 + 1) else { return -(libc::ENOMEM as sys::Ret) };
        loop {
            let Some(parked) = park::announce(None) else {
                sys::yield_now();
                continue;
            };
            self.fill(&mut scratch, &parked);
            let r = sys::ppoll(scratch.filled(), park::left_until(self.deadline), self.mask);
            if r < 0 {
                return r;
            }
            let ready = self.collect(scratch.filled().get(1..).unwrap_or(&[]));
            if ready > 0 || r == 0 {
                return ready as sys::Ret;
            }
        }
    }

    /// The parker, then an entry for each of the program's, then the second sockets of those that have two.
    fn fill(&self, scratch: &mut Scratch, parked: &park::Parked) {
        scratch.clear();
        scratch.push(parked.pollfd());
        for p in self.fds.iter() {
            scratch.push(watched(p)[0]);
        }
        for p in self.fds.iter().filter(|p| fds::needs_us(p.fd)) {
            let [_, second] = watched(p);
            if second.fd >= 0 {
                scratch.push(second);
            }
        }
    }

    /// Fills the program's result from what the kernel said.
    fn collect(&mut self, reported: &[pollfd]) -> usize {
        let mut ready = 0;
        for (p, kernel) in self.fds.iter_mut().zip(reported) {
            p.revents = match fds::lookup(p.fd) {
                Some((id, Kind::Active)) if id.endpoint().phase() >= Phase::Dual => {
                    // Not Dual any more: the next round watches the descriptor itself.
                    dual::readiness(*id, p.events).unwrap_or(0)
                }
                _ => kernel.revents,
            };
            ready += usize::from(p.revents != 0);
        }
        ready - strip_hangups(self.fds)
    }
}

/// What the kernel must watch for one entry of the program.
fn watched(p: &pollfd) -> [pollfd; 2] {
    let none = pollfd { fd: -1, events: 0, revents: 0 };
    let as_it_is = [pollfd { revents: 0, ..*p }, none];
    match fds::lookup(p.fd) {
        Some((id, Kind::Active)) if id.endpoint().phase() == Phase::Dual => dual::watch(*id, p.events),
        Some((id, Kind::Final)) if p.events & READING == 0 && only_hangs_up(p, *id) => {
            // TCP would not report what a Unix-domain socket does here: let TCP answer.
            let tcp = id.local().tcp.load(core::sync::atomic::Ordering::Acquire);
            [pollfd { fd: tcp, revents: 0, ..*p }, none]
        }
        _ => as_it_is,
    }
}

fn only_hangs_up(p: &pollfd, id: Id) -> bool {
    let mut now = [pollfd { revents: 0, ..*p }];
    sys::ppoll(&mut now, Some(0), None);
    now[0].revents == POLLHUP && dual::with_tcp_hangup(id, POLLHUP) == 0
}

/// poll and ppoll.
fn poll_with(
    fds: &mut [pollfd],
    timeout: Option<u64>,
    mask: Option<&u64>,
    real: impl Fn(&mut [pollfd]) -> c_int,
) -> c_int {
    let deadline = timeout.map(|t| sys::now().saturating_add(t));
    if !needs_care(fds) {
        let r = real(fds);
        if r <= 0 {
            return r;
        }
        let left = r as usize - strip_hangups(fds);
        if left > 0 {
            return left as c_int;
        }
    }
    as_libc(Poll { fds, deadline, mask }.run()) as c_int
}

/// The program's array; `None` if it is one that the kernel would refuse.
unsafe fn array<'a>(fds: *mut pollfd, count: libc::nfds_t) -> Option<&'a mut [pollfd]> {
    if fds.is_null() || count as usize > fds::FD_SLOTS {
        return None;
    }
    // SAFETY: the caller passes the program's array and its length.
    Some(unsafe { core::slice::from_raw_parts_mut(fds, count as usize) })
}

/// Whether any of the descriptors is more to us than a number.
fn concerns_us(fds: &[pollfd]) -> bool {
    fds.iter().any(|p| fds::is_ours(p.fd))
}

pub unsafe fn poll(fds: *mut pollfd, count: libc::nfds_t, timeout: c_int) -> c_int {
    // SAFETY: the program's array.
    match unsafe { array(fds, count) }.filter(|a| concerns_us(a)) {
        Some(all) => {
            let ns = (timeout >= 0).then(|| timeout as u64 * 1_000_000);
            // SAFETY: the program's own call.
            poll_with(all, ns, None, |all| unsafe { real::poll()(all.as_mut_ptr(), count, timeout) })
        }
        // SAFETY: the program's own call.
        None => unsafe { real::poll()(fds, count, timeout) },
    }
}

pub unsafe fn poll_chk(fds: *mut pollfd, count: libc::nfds_t, timeout: c_int, room: usize) -> c_int {
    if room / size_of::<pollfd>() >= count as usize {
        // SAFETY: the program's own call, checked.
        return unsafe { poll(fds, count, timeout) };
    }
    // SAFETY: the program's own call; it aborts.
    unsafe { real::__poll_chk()(fds, count, timeout, room) }
}

/// The kernel's signal set is the first word of libc's.
unsafe fn kernel_mask<'a>(mask: *const sigset_t) -> Option<&'a u64> {
    // SAFETY: null or the program's set.
    unsafe { mask.cast::<u64>().as_ref() }
}

pub unsafe fn ppoll(fds: *mut pollfd, count: libc::nfds_t, timeout: *const timespec, mask: *const sigset_t) -> c_int {
    // SAFETY: the program's array, timeout and mask.
    match unsafe { array(fds, count) }.filter(|a| concerns_us(a)) {
        Some(all) => {
            // SAFETY: as above.
            let (ns, kernel) = unsafe { (timeout.as_ref().map(nanoseconds), kernel_mask(mask)) };
            // SAFETY: the program's own call.
            poll_with(all, ns, kernel, |all| unsafe { real::ppoll()(all.as_mut_ptr(), count, timeout, mask) })
        }
        // SAFETY: the program's own call.
        None => unsafe { real::ppoll()(fds, count, timeout, mask) },
    }
}

pub unsafe fn ppoll_chk(
    fds: *mut pollfd,
    count: libc::nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
    room: usize,
) -> c_int {
    if room / size_of::<pollfd>() >= count as usize {
        // SAFETY: the program's own call, checked.
        return unsafe { ppoll(fds, count, timeout, mask) };
    }
    // SAFETY: the program's own call; it aborts.
    unsafe { real::__ppoll_chk()(fds, count, timeout, mask, room) }
}

/// The events of epoll_wait that the program gets to see; returns how many.
fn filter(epfd: c_int, events: &mut [epoll_event]) -> usize {
    let batch = epoll::batch();
    let mut kept = 0;
    for at in 0..events.len() {
        let Some(event) = events.get(at).copied() else { break };
        let shown = match epoll::judge(epfd, &event, batch) {
            Verdict::Keep => event,
            Verdict::Replace(other) => other,
            Verdict::Drop => continue,
        };
        if let Some(slot) = events.get_mut(kept) {
            *slot = shown;
            kept += 1;
        }
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
    loop {
        if left.is_none() && epoll::in_use() {
            deadline = timeout.map(|t| sys::now().saturating_add(t));
        }
        let r = wait(left);
        if r <= 0 || !epoll::in_use() {
            return r;
        }
        let _errno = Errno::keep();
        // SAFETY: the kernel has just written `r` events there.
        let kept = filter(epfd, unsafe { core::slice::from_raw_parts_mut(events, r as usize) });
        if kept > 0 || timeout == Some(0) {
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

fn timespec_of(ns: u64) -> timespec {
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

/// The three sets of select.
struct Sets([*mut fd_set; 3]);

const SELECTED: [i16; 3] = [libc::POLLIN, libc::POLLOUT, libc::POLLPRI];
/// What makes a descriptor ready in each set (select(2)).
const READY: [i16; 3] = [
    libc::POLLIN | libc::POLLRDNORM | libc::POLLRDBAND | libc::POLLHUP | libc::POLLERR,
    WRITING | libc::POLLERR,
    libc::POLLPRI,
];

impl Sets {
    fn word(&self, set: usize, fd: c_int) -> Option<(*mut u64, u64)> {
        let at = self.0.get(set).filter(|s| !s.is_null())?.cast::<u64>();
        Some((at.wrapping_add(fd as usize / 64), 1 << (fd % 64)))
    }

    fn has(&self, set: usize, fd: c_int) -> bool {
        // SAFETY: the program's sets have room for every descriptor below its nfds.
        self.word(set, fd).is_some_and(|(word, bit)| unsafe { *word } & bit != 0)
    }

    fn events(&self, fd: c_int) -> i16 {
        SELECTED.iter().enumerate().filter(|(set, _)| self.has(*set, fd)).fold(0, |all, (_, e)| all | e)
    }

    fn concern_us(&self, count: c_int) -> bool {
        (0..count).any(|fd| fds::kind(fd) == Kind::Active && self.events(fd) != 0)
    }

    fn fill(&self, count: c_int, scratch: &mut Scratch) {
        for fd in 0..count {
            let events = self.events(fd);
            if events != 0 {
                scratch.push(pollfd { fd, events, revents: 0 });
            }
        }
    }

    /// Writes the result; returns how many bits are set.
    fn store(&self, fds: &[pollfd]) -> c_int {
        let mut bits = 0;
        for p in fds {
            for (set, ready) in READY.iter().enumerate() {
                if !self.has(set, p.fd) {
                    continue;
                }
                if p.revents & ready != 0 {
                    bits += 1;
                } else if let Some((word, bit)) = self.word(set, p.fd) {
                    // SAFETY: as in `has`.
                    unsafe { *word &= !bit };
                }
            }
        }
        bits
    }
}

/// select and pselect over sets that need care; `None` if they need none.
fn select_with(count: c_int, sets: &Sets, timeout: Option<u64>, mask: Option<&u64>) -> Option<sys::Ret> {
    if count < 0 || count as usize > fds::FD_SLOTS || !sets.concern_us(count) {
        return None;
    }
    let mut scratch = Scratch::new(count as usize)?;
    sets.fill(count, &mut scratch);
    let fds = scratch.filled();
    if !needs_care(fds) {
        return None;
    }
    let deadline = timeout.map(|t| sys::now().saturating_add(t));
    let r = Poll { fds, deadline, mask }.run();
    if r < 0 {
        return Some(r);
    }
    if fds.iter().any(|p| p.revents & libc::POLLNVAL != 0) {
        return Some(-(libc::EBADF as sys::Ret));
    }
    Some(sets.store(fds) as sys::Ret)
}

pub unsafe fn select(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    // SAFETY: null or the program's timeout.
    let ns = unsafe { timeout.as_ref() }.map(|t| t.tv_sec as u64 * 1_000_000_000 + t.tv_usec as u64 * 1000);
    let began = sys::now();
    match select_with(count, &Sets([read, write, except]), ns, None) {
        None => {
            // SAFETY: the program's own call.
            unsafe { real::select()(count, read, write, except, timeout) }
        }
        Some(r) => {
            // Linux leaves the time that was not slept in the program's timeout (select(2)).
            // SAFETY: null or the program's timeout.
            if let (Some(ns), Some(t)) = (ns, unsafe { timeout.as_mut() }) {
                let left = ns.saturating_sub(sys::now() - began);
                t.tv_sec = (left / 1_000_000_000) as i64;
                t.tv_usec = (left % 1_000_000_000 / 1000) as i64;
            }
            as_libc(r) as c_int
        }
    }
}

pub unsafe fn pselect(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: null or the program's timeout and mask.
    let (ns, kernel) = unsafe { (timeout.as_ref().map(nanoseconds), kernel_mask(mask)) };
    match select_with(count, &Sets([read, write, except]), ns, kernel) {
        // SAFETY: the program's own call.
        None => unsafe { real::pselect()(count, read, write, except, timeout, mask) },
        Some(r) => as_libc(r) as c_int,
    }
}
