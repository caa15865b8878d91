//! A process's slot in its family, in one word that is changed in one step.

use core::sync::atomic::{AtomicI32, AtomicU32, Ordering::*};

use super::holders::SLOTS;

/// What a slot is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    Free = 0,
    Pending = 1,
    Taken = 2,
    Reclaimed = 3,
}

/// A slot in one word: its kind (2 bits), the slot of the process that made it Pending or Reclaimed (8), and a count that
/// tells the child that the slot is for now from the children before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(u32);

impl Word {
    pub(crate) fn kind(self) -> Kind {
        match self.0 & 3 {
            0 => Kind::Free,
            1 => Kind::Pending,
            2 => Kind::Taken,
            _ => Kind::Reclaimed,
        }
    }

    pub(crate) fn by(self) -> usize {
        (self.0 >> 2) as usize % SLOTS
    }

    pub(crate) fn nonce(self) -> u32 {
        self.0 >> 10
    }

    pub(crate) fn becomes(self, kind: Kind, by: usize) -> Word {
        Word(self.0 & !0x3ff | (by as u32 & 0xff) << 2 | kind as u32)
    }

    pub(crate) fn counted(self) -> Word {
        Word(self.0.wrapping_add(1 << 10))
    }
}

#[repr(C)]
pub(crate) struct Slot {
    /// See [`Word`].
    word: AtomicU32,
    /// The process that a Pending slot is for, as its parent knows it; 0: not known.
    pub pid: AtomicI32,
}

impl Slot {
    pub(crate) fn get(&self) -> Word {
        Word(self.word.load(Acquire))
    }

    /// Changes the word from `old` to `new`; true if it was still `old`.
    pub(crate) fn step(&self, old: Word, new: Word) -> bool {
        self.word.compare_exchange(old.0, new.0, AcqRel, Relaxed).is_ok()
    }

    /// Changes the word, which no process but that of `by` changes now.
    pub(crate) fn set(&self, kind: Kind, by: usize) {
        self.word.store(self.get().becomes(kind, by).0, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_holds_kind_slot_and_count() {
        let mut word = Word(0);
        assert!(word.kind() == Kind::Free && word.nonce() == 0);
        for nonce in 1..=3 {
            for (kind, by) in [(Kind::Pending, 255), (Kind::Taken, 0), (Kind::Reclaimed, 129), (Kind::Free, 7)] {
                word = if kind == Kind::Pending { word.counted() } else { word }.becomes(kind, by);
                assert!(word.kind() == kind && word.by() == by && word.nonce() == nonce);
            }
        }
    }

    #[test]
    fn who_looked_before_something_became_of_a_slot_cleans_nothing() {
        let slot = Slot { word: AtomicU32::new(0), pid: AtomicI32::new(0) };
        let pending = slot.get().counted().becomes(Kind::Pending, 1);
        assert!(slot.step(slot.get(), pending));
        let (seen, taken) = (slot.get(), pending.becomes(Kind::Taken, 2));
        // Reclaimed, freed and made for another child by a quicker process.
        assert!(slot.step(seen, taken) && slot.step(taken, taken.becomes(Kind::Free, 3)));
        assert!(slot.step(slot.get(), slot.get().counted().becomes(Kind::Pending, 1)));
        assert!(!slot.step(seen, seen.becomes(Kind::Reclaimed, 4)));
    }
}
