//! A yes or no in memory that a family of processes shares.

use core::sync::atomic::{AtomicU8, Ordering::*};

/// Raised by any value but 0.
#[repr(transparent)]
pub(crate) struct Flag(AtomicU8);

impl Flag {
    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Relaxed) != 0
    }

    /// Raises the flag. One that is raised already is not written to, because the memory is shared.
    pub(crate) fn raise(&self) {
        self.raise_if(true);
    }

    pub(crate) fn raise_if(&self, holds: bool) {
        if holds && !self.is_raised() {
            self.0.store(1, Relaxed);
        }
    }

    pub(crate) fn lower(&self) {
        self.0.store(0, Relaxed);
    }

    /// Lowers the flag; true if it was raised.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(0, Relaxed) != 0
    }
}
