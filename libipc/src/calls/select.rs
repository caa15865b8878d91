//! select and pselect, as polls over the descriptors whose bits are set.

use libc::{c_int, fd_set, pollfd, sigset_t, timespec, timeval};

use super::wait::{Poll, kernel_mask, nanoseconds, needs_care};
use crate::fds::{self, Kind};
use crate::host::guard::as_libc;
use crate::readiness::masks::WRITING;
use crate::scratch::Scratch;
use crate::symbols::real;
use crate::sys::{self, Deadline};

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
    let deadline = Deadline::after(timeout);
    let r = Poll { fds, deadline, mask }.run();
    if r < 0 {
        return Some(r);
    }
    if fds.iter().any(|p| p.revents & libc::POLLNVAL != 0) {
        return Some(-(libc::EBADF as sys::Ret));
    }
    Some(sets.store(fds) as sys::Ret)
}

pub(crate) unsafe fn select(
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

pub(crate) unsafe fn pselect(
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
