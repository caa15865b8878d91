//! The phase of an endpoint, which any thread of any process of its family may advance.

use core::sync::atomic::Ordering::SeqCst;

use crate::switch::Phase;
use crate::sync::AtomicU8;

/// The phase of an endpoint.
#[repr(transparent)]
pub(crate) struct PhaseCell(AtomicU8);

impl PhaseCell {
    #[cfg(all(test, loom))]
    pub const fn at(phase: Phase) -> PhaseCell {
        PhaseCell(AtomicU8::new(phase as u8))
    }

    pub(crate) fn get(&self) -> Phase {
        Phase::from_code(self.0.load(SeqCst))
    }

    /// Moves from `from` to `to`; false if the phase is not `from` any more or the step does not exist.
    pub(crate) fn advance(&self, from: Phase, to: Phase) -> bool {
        from.may_become(to) && self.0.compare_exchange(from as u8, to as u8, SeqCst, SeqCst).is_ok()
    }

    /// Moves from Connecting to Final: another process has moved the endpoint.
    pub(crate) fn receive(&self) -> bool {
        self.0.compare_exchange(Phase::Connecting as u8, Phase::Final as u8, SeqCst, SeqCst).is_ok()
    }

    /// Sets the first phase, of an endpoint that no other thread knows yet.
    pub(crate) fn begin(&self) {
        self.0.store(Phase::Connecting as u8, SeqCst);
    }
}
