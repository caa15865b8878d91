//! Clocks, and how long a wait lasts.

use libc::{c_int, timespec};

use super::call::call;

/// CLOCK_MONOTONIC, nanoseconds.
pub(crate) fn now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// CLOCK_REALTIME, nanoseconds.
pub(crate) fn realtime() -> u64 {
    clock(libc::CLOCK_REALTIME)
}

fn clock(which: c_int) -> u64 {
    let mut t = timespec { tv_sec: 0, tv_nsec: 0 };
    call!(libc::SYS_clock_gettime, which, &raw mut t);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// When a wait is over, on CLOCK_MONOTONIC.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline(u64);

impl Deadline {
    pub(crate) const NEVER: Deadline = Deadline(u64::MAX);

    /// So many nanoseconds from now; `None`: never.
    pub(crate) fn after(timeout: Option<u64>) -> Deadline {
        timeout.map_or(Deadline::NEVER, |ns| Deadline(now().saturating_add(ns)))
    }

    /// The time left, in nanoseconds; `None`: for ever.
    pub(crate) fn left(self) -> Option<u64> {
        (self != Deadline::NEVER).then(|| self.0.saturating_sub(now()))
    }

    pub(crate) fn is_over(self) -> bool {
        self.left() == Some(0)
    }
}
