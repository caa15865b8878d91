//! Phases, and the threads that wait for one to change.
//!
//! A waiter announces itself, looks at the phase once more, and sleeps. A thread that changes the phase changes it first
//! and then wakes every waiter that is announced. The fences between the two steps of each make it impossible that both
//! miss the other: no thread sleeps on a phase that is over.

use core::sync::atomic::{AtomicI32 as Private, AtomicU64, Ordering::*};

use libc::c_int;

use crate::endpoint::Id;
use crate::sync::{AtomicI32, AtomicU32, fence};

#[cfg(all(test, loom))]
mod loom;

const FREE: u32 = 0;
/// The parker's thread waits for several endpoints at once (poll, select).
const ANY: u32 = u32::MAX;

/// Where a waiting thread can be woken.
pub(crate) struct Parker {
    /// FREE, an endpoint's index plus one, or ANY.
    waits_for: AtomicU32,
    /// Readable: look at the endpoint again. A number plus one; 0: not made yet (so that the pool is all zeroes).
    event: AtomicI32,
    /// Readable: a signal waits for the thread. As above.
    pub signals: Private,
    /// The mask that `signals` has.
    pub mask: AtomicU64,
}

impl Parker {
    const fn new() -> Parker {
        Parker {
            waits_for: AtomicU32::new(FREE),
            event: AtomicI32::new(0),
            signals: Private::new(0),
            mask: AtomicU64::new(0),
        }
    }

    /// The descriptor that becomes readable when the thread is woken; -1: none.
    pub(crate) fn event(&self) -> c_int {
        self.event.load(SeqCst) - 1
    }

    /// Ends the announcement. A wake-up that this thread has not taken must not wake the next user of the parker: `empty`
    /// takes it off the event, while the parker is still this thread's; later it might take a wake-up of the next user.
    pub(crate) fn withdraw(&self, empty: impl FnOnce(c_int)) {
        let event = self.event();
        if event >= 0 {
            empty(event);
        }
        self.waits_for.store(FREE, SeqCst);
    }
}

/// Where the threads of a process announce that they wait.
#[repr(C)]
pub(crate) struct Board<const N: usize> {
    /// One more than the highest parker ever used.
    used: AtomicU32,
    parkers: [Parker; N],
}

impl<const N: usize> Board<N> {
    pub(crate) const fn new() -> Board<N> {
        Board { parkers: [const { Parker::new() }; N], used: AtomicU32::new(0) }
    }

    /// Announces that the calling thread will wait for the endpoint (`None`: for several), with an event of
    /// `make_event` if the parker has none yet. `None` if there is no parker left, or no event.
    pub(crate) fn announce(&self, id: Option<Id>, make_event: impl FnOnce() -> Option<c_int>) -> Option<&Parker> {
        let value = id.map_or(ANY, |id| id.index + 1);
        let free = |p: &Parker| p.waits_for.compare_exchange(FREE, value, SeqCst, SeqCst).is_ok();
        let taken = self.parkers.iter().position(free)?;
        self.used.fetch_max(taken as u32 + 1, SeqCst);
        let parker = self.parkers.get(taken)?;
        if parker.event() < 0 {
            let Some(event) = make_event() else {
                parker.withdraw(|_| ());
                return None;
            };
            parker.event.store(event + 1, SeqCst);
        }
        // Pairs with the fence in `kick`.
        fence(SeqCst);
        Some(parker)
    }

    /// Calls `wake` for the event of every thread that waits for the endpoint (`None`: for any), after a change of
    /// what they wait for.
    pub(crate) fn kick(&self, id: Option<Id>, wake: impl Fn(c_int)) {
        // Pairs with the fence in `announce`: either the waiter sees the change, or this thread sees the announcement.
        fence(SeqCst);
        for parker in self.parkers.iter().take(self.used.load(SeqCst) as usize) {
            let concerned = match parker.waits_for.load(SeqCst) {
                FREE => false,
                ANY => true,
                index => id.is_none_or(|id| index == id.index + 1),
            };
            let event = parker.event();
            if concerned && event >= 0 {
                wake(event);
            }
        }
    }

    /// In the child of a fork, where no thread waits: every parker is free and has no descriptors.
    pub(crate) fn forget(&self, close: impl Fn(c_int)) {
        for parker in self.parkers.iter().take(self.used.load(Relaxed) as usize) {
            for fd in [parker.event.swap(0, Relaxed) - 1, parker.signals.swap(0, Relaxed) - 1] {
                if fd >= 0 {
                    close(fd);
                }
            }
            parker.waits_for.store(FREE, Relaxed);
        }
        if self.used.load(Relaxed) != 0 {
            self.used.store(0, Relaxed);
        }
    }
}
