//! What a program leaves for the next one on its way through exec.

use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::*};

use super::flag::Flag;
use crate::sys;

/// How many endpoints one program can hand to the next.
pub(crate) const MOST: usize = 64;

/// One endpoint on its way. Descriptor numbers are -1 where there is none.
#[repr(C)]
pub(crate) struct Entry {
    /// Index plus one; 0: none.
    pub endpoint: AtomicU32,
    pub generation: AtomicU32,
    /// The program's number, if it has exactly one.
    pub number: AtomicI32,
    pub tcp: AtomicI32,
    pub unix: AtomicI32,
    pub unix_cookie: AtomicU64,
}

/// The endpoints on their way to the next program of a slot.
#[repr(C)]
pub(crate) struct Carried {
    pub entries: [Entry; MOST],
    /// There were more endpoints; the next program has them without knowing it.
    pub more: Flag,
    /// The numbers may have changed by the time that the program runs: it looks at all of them.
    pub renumbered: Flag,
}

/// How long a program that was executed with connections settles in, in nanoseconds: it may give up privileges, fork,
/// forbid itself system calls (sshd does all three). The endpoints that it was given make no promise in that time.
const SETTLING_NS: u64 = 1_000_000_000;
/// CLOCK_MONOTONIC nanoseconds when this program was given its connections; 0: it was given none.
static RESUMED: AtomicU64 = AtomicU64::new(0);

/// Notes that this program was given its connections now.
pub(super) fn note_resumed() {
    RESUMED.store(sys::now(), Relaxed);
}

/// Whether an endpoint that was opened at that time (CLOCK_MONOTONIC nanoseconds) came along through exec a moment ago.
pub(crate) fn was_just_executed(opened: u64) -> bool {
    let resumed = RESUMED.load(Relaxed);
    resumed > opened && sys::now() < resumed + SETTLING_NS
}
