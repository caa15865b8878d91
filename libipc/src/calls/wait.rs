//! poll over endpoints in any phase; `select` makes polls of select and pselect.

use libc::{c_int, c_void, pollfd, sigset_t, timespec};

use crate::endpoint::{Id, numbers};
use crate::fds::{self, Kind};
use crate::host::guard::as_libc;
use crate::host::threads::{self, Cancellations};
use crate::readiness::masks::READING;
use crate::readiness::{park, waits};
use crate::scratch::Scratch;
use crate::switch::drive;
use crate::switch::{Phase, adopt};
use crate::symbols::real;
use crate::sys::{self, Deadline};

const POLLHUP: i16 = libc::POLLHUP;

/// A timeout in nanoseconds.
pub(crate) fn nanoseconds(t: &timespec) -> u64 {
    (t.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(t.tv_nsec as u64)
}

/// A poll as the program asks for it.
pub(crate) struct Poll<'a> {
    pub fds: &'a mut [pollfd],
    pub deadline: Deadline,
    pub mask: Option<&'a u64>,
}

/// Whether the set has a descriptor that the kernel's poll would get wrong: one with two sockets, or one that another
/// thread may give a second one while this one sleeps.
pub(crate) fn needs_care(fds: &[pollfd]) -> bool {
    let mut care = false;
    for p in fds.iter().filter(|p| fds::needs_us(p.fd)) {
        if numbers::hint(p.fd).is_some_and(adopt::has_nothing_due) {
            care |= !threads::is_single_threaded();
        } else if let Some((id, Kind::Active)) = numbers::lookup(p.fd) {
            waits::polls(*id);
            adopt::attend(*id, p.fd);
            drive::pump(*id);
            care |= id.endpoint().phase() == Phase::Dual || !threads::is_single_threaded();
        }
    }
    care
}

/// Takes HUP from final descriptors whose own half is still open. Returns how many are not ready any more.
fn strip_hangups(fds: &mut [pollfd]) -> usize {
    let mut emptied = 0;
    for p in fds.iter_mut().filter(|p| p.revents & POLLHUP != 0) {
        if let Some((id, Kind::Final)) = numbers::lookup(p.fd)
            && numbers::still_final(p.fd, *id)
        {
            p.revents = drive::with_tcp_hangup(*id, p.revents);
            emptied += usize::from(p.revents == 0);
        }
    }
    emptied
}

impl Poll<'_> {
    /// poll(2) over sets that need care; the kernel's convention for the result.
    pub(crate) fn run(&mut self) -> sys::Ret {
        let Some(mut scratch) = Scratch::new(self.fds.len() * 2 + 1) else { return -(libc::ENOMEM as sys::Ret) };
        loop {
            let known = Cancellations::heed(cancelled, (&raw mut scratch).cast());
            let parked = park::announce(None);
            if !known.are_all() {
                continue;
            }
            self.fill(&mut scratch, parked.as_ref());
            let left = self.deadline.left();
            // Without a parker no other thread can wake this one: it looks again soon.
            let (time, last) = match parked {
                Some(_) => (left, true),
                None => {
                    let (time, last) = park::nap(left);
                    (Some(time), last)
                }
            };
            let r = sys::ppoll(scratch.filled(), time, self.mask);
            if r < 0 {
                return r;
            }
            let ready = self.collect(&mut scratch);
            if ready > 0 || r == 0 && last {
                return ready as sys::Ret;
            }
        }
    }

    /// The parker, then an entry for each of the program's, then the second sockets of those that have two.
    fn fill(&self, scratch: &mut Scratch, parked: Option<&park::Parked>) {
        scratch.clear();
        scratch.push(parked.map_or(pollfd { fd: -1, events: 0, revents: 0 }, park::Parked::pollfd));
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

    /// Fills the program's result from what the kernel reported. Endpoints between the transports are looked at after that,
    /// and may have become ready since: then everything is looked at once more, so that no event is reported that came later
    /// than one that is left out.
    fn collect(&mut self, scratch: &mut Scratch) -> usize {
        let mut later = false;
        let reported = scratch.filled().get(1..).unwrap_or(&[]);
        for (p, kernel) in self.fds.iter_mut().zip(reported) {
            p.revents = match (between(p), kernel.fd == p.fd) {
                (Some(now), _) => now,
                (None, true) => kernel.revents,
                // The kernel watched another socket for this number, and the endpoint has settled since.
                (None, false) => sys::poll_now(p.fd, p.events) | kernel.revents & (POLLHUP | libc::POLLERR),
            };
            later |= p.revents != 0 && p.revents != kernel.revents;
        }
        while later {
            later = false;
            scratch.clear();
            self.fds.iter().for_each(|p| scratch.push(pollfd { revents: 0, ..*p }));
            sys::ppoll(scratch.filled(), Some(0), None);
            for (p, kernel) in self.fds.iter_mut().zip(scratch.filled()).filter(|(p, _)| p.revents == 0) {
                p.revents = between(p).unwrap_or(kernel.revents);
                later |= p.revents != 0;
            }
        }
        let ready = self.fds.iter().filter(|p| p.revents != 0).count();
        ready - strip_hangups(self.fds)
    }
}

/// Which events hold now of an entry that is between the transports, or was a moment ago; `None` for every other one.
fn between(p: &pollfd) -> Option<i16> {
    let (id, _) = numbers::lookup(p.fd).filter(|(_, kind)| *kind == Kind::Active)?;
    if !matches!(id.endpoint().phase(), Phase::Dual | Phase::Final) {
        return None;
    }
    Some(drive::readiness(*id, p.events).unwrap_or_else(|| drive::settled_readiness(*id, p.fd, p.events)))
}

/// Called when the thread is cancelled where it was about to wait.
extern "C" fn cancelled(scratch: *mut c_void) {
    // SAFETY: the scratch of the caller, which does not go on.
    unsafe { core::ptr::drop_in_place(scratch.cast::<Scratch>()) };
}

/// What the kernel must watch for one entry of the program.
fn watched(p: &pollfd) -> [pollfd; 2] {
    let none = pollfd { fd: -1, events: 0, revents: 0 };
    let as_it_is = [pollfd { revents: 0, ..*p }, none];
    match numbers::lookup(p.fd) {
        Some((id, Kind::Active)) if id.endpoint().phase() == Phase::Dual => {
            let [tcp, unix] = drive::watch(*id, p.events);
            // HUP and ERR of TCP are those of the stream, whatever events are asked for.
            [pollfd { fd: id.local().tcp.load(core::sync::atomic::Ordering::Acquire), ..tcp }, unix]
        }
        Some((id, Kind::Final)) if p.events & READING == 0 && only_hangs_up(p, *id) => {
            // The Unix-domain socket reports a HUP that TCP would not report: TCP is watched in its place.
            let tcp = id.local().tcp.load(core::sync::atomic::Ordering::Acquire);
            [pollfd { fd: tcp, revents: 0, ..*p }, none]
        }
        _ => as_it_is,
    }
}

fn only_hangs_up(p: &pollfd, id: Id) -> bool {
    sys::poll_now(p.fd, p.events) == POLLHUP && drive::with_tcp_hangup(id, POLLHUP) == 0
}

/// poll and ppoll.
fn poll_with(
    fds: &mut [pollfd],
    timeout: Option<u64>,
    mask: Option<&u64>,
    real: impl Fn(&mut [pollfd]) -> c_int,
) -> c_int {
    let deadline = Deadline::after(timeout);
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

/// The program's array; `None` if the kernel would refuse it.
unsafe fn array<'a>(fds: *mut pollfd, count: libc::nfds_t) -> Option<&'a mut [pollfd]> {
    if fds.is_null() || count as usize > fds::FD_SLOTS {
        return None;
    }
    // SAFETY: the caller passes the program's array and its length.
    Some(unsafe { core::slice::from_raw_parts_mut(fds, count as usize) })
}

/// Whether any of the descriptors is one that the shim has to look at.
fn concerns_us(fds: &[pollfd]) -> bool {
    fds.iter().any(|p| fds::is_ours(p.fd))
}

pub(crate) unsafe fn poll(fds: *mut pollfd, count: libc::nfds_t, timeout: c_int) -> c_int {
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

pub(crate) unsafe fn poll_chk(fds: *mut pollfd, count: libc::nfds_t, timeout: c_int, room: usize) -> c_int {
    if room / size_of::<pollfd>() >= count as usize {
        // SAFETY: the program's own call, checked.
        return unsafe { poll(fds, count, timeout) };
    }
    // SAFETY: the program's own call; it aborts.
    unsafe { real::__poll_chk()(fds, count, timeout, room) }
}

/// The kernel's signal set is the first word of libc's.
pub(crate) unsafe fn kernel_mask<'a>(mask: *const sigset_t) -> Option<&'a u64> {
    // SAFETY: null or the program's set.
    unsafe { mask.cast::<u64>().as_ref() }
}

pub(crate) unsafe fn ppoll(
    fds: *mut pollfd,
    count: libc::nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
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

pub(crate) unsafe fn ppoll_chk(
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
