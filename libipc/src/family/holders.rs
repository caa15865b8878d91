//! Which processes of a family hold an endpoint.

use core::sync::atomic::{AtomicU64, Ordering::*};

const WORDS: usize = 4;
/// Processes of one family that can hold endpoints at the same time.
pub(crate) const SLOTS: usize = WORDS * 64;

/// The processes that hold an endpoint, a bit per slot.
#[repr(C)]
pub(crate) struct Holders([AtomicU64; WORDS]);

impl Holders {
    pub(crate) fn word(&self, slot: usize) -> (&AtomicU64, u64) {
        let [first, ..] = &self.0;
        (self.0.get(slot / 64 % WORDS).unwrap_or(first), 1 << (slot % 64))
    }

    /// Takes free memory for `slot`; false if it is not free.
    pub(crate) fn claim(&self, slot: usize) -> bool {
        if self.is_any() {
            return false;
        }
        let (word, bit) = self.word(slot);
        if word.compare_exchange(0, bit, SeqCst, SeqCst).is_err() {
            return false;
        }
        // Another process may have claimed it in another word at the same moment: then neither has it.
        let alone = self.0.iter().filter(|w| w.load(SeqCst) != 0).count() == 1;
        if !alone {
            word.fetch_and(!bit, SeqCst);
        }
        alone
    }

    /// Every word and its bits.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        &self.0
    }

    pub(crate) fn is_any(&self) -> bool {
        self.0.iter().any(|w| w.load(Relaxed) != 0)
    }

    pub(crate) fn has(&self, slot: usize) -> bool {
        let (word, bit) = self.word(slot);
        word.load(SeqCst) & bit != 0
    }

    /// Adds a holder.
    pub(crate) fn add(&self, slot: usize) {
        let (word, bit) = self.word(slot);
        word.fetch_or(bit, SeqCst);
    }

    /// Removes a holder; true if it was the last.
    pub(crate) fn remove(&self, slot: usize) -> bool {
        let (word, bit) = self.word(slot);
        word.fetch_and(!bit, SeqCst);
        self.0.iter().all(|w| w.load(SeqCst) == 0)
    }
}
