//! How long an entry of a table lives: as long as it has users.

use core::sync::atomic::Ordering::*;

use crate::sync::AtomicU32;

#[cfg(all(test, loom))]
mod loom;

/// Counts the users of an entry. At zero the entry is unused, and only [`Pins::hold`] brings it into use again.
#[repr(transparent)]
pub(crate) struct Pins(AtomicU32);

impl Pins {
    /// The first use of an unused entry.
    pub(crate) fn hold(&self) {
        self.0.store(1, SeqCst);
    }

    /// One more user; false if the entry is unused.
    pub(crate) fn pin(&self) -> bool {
        self.0.fetch_update(SeqCst, SeqCst, |n| (n > 0).then_some(n + 1)).is_ok()
    }

    /// How many users there are.
    pub(crate) fn users(&self) -> u32 {
        self.0.load(SeqCst)
    }

    /// One user less; true for the last one, which releases the entry.
    pub(crate) fn unpin(&self) -> bool {
        self.0.fetch_sub(1, SeqCst) == 1
    }
}
