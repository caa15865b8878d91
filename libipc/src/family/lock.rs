//! A mutex for memory that forked processes share. Held only over calls that cannot wait.

use core::sync::atomic::Ordering::*;

use crate::family;
use crate::sync::{self, AtomicU64};

#[cfg(all(test, loom))]
mod loom;

const FREE: u64 = 0;
/// A thread may sleep on the word. The bit is in the half that is the futex.
const CONTENDED: u64 = 1 << 31;

/// The owner in the half that is the futex: the slot of its process in the family, above so many bits of its thread
/// pointer. The other half has the rest of the thread pointer.
const SLOT_SHIFT: u32 = 23;

/// A futex mutex whose word is its owner, so that a signal handler which meets a lock of its own thread can step aside,
/// and a process that was killed can be told from one that takes its time.
#[repr(C)]
pub(crate) struct Lock {
    word: AtomicU64,
}

/// Releases the lock when dropped.
pub(crate) struct Held<'a> {
    lock: &'a Lock,
    /// The last owner died while it held the lock: what the lock guards may be in the middle of a change.
    pub from_dead: bool,
}

impl Lock {
    pub(crate) const fn new() -> Lock {
        Lock { word: AtomicU64::new(FREE) }
    }

    /// Waits for the lock; `None` if the calling thread itself holds it (a signal handler in the middle of a call).
    pub(crate) fn lock(&self) -> Option<Held<'_>> {
        let me = me();
        let take = |from: u64, to: u64| self.word.compare_exchange(from, to, Acquire, Relaxed).is_ok();
        if take(FREE, me) {
            return Some(Held { lock: self, from_dead: false });
        }
        loop {
            let word = self.word.load(Relaxed);
            if word & !CONTENDED == me {
                return None;
            }
            if word == FREE {
                // Other threads may sleep: a thread that takes the lock on this path leaves the mark for its successor.
                if take(FREE, me | CONTENDED) {
                    return Some(Held { lock: self, from_dead: false });
                }
            } else if word & CONTENDED != 0 || take(word, word | CONTENDED) {
                let word = word | CONTENDED;
                let in_vain = sync::futex_wait(&self.word, word as u32);
                if in_vain && family::is_dead(slot_of(word)) && take(word, me | CONTENDED) {
                    return Some(Held { lock: self, from_dead: true });
                }
            }
        }
    }

    /// Whether a thread of this process has the lock.
    pub(crate) fn is_own(&self) -> bool {
        let owner = self.word.load(Relaxed) & !CONTENDED;
        owner != FREE && slot_of(owner) == family::slot()
    }

    /// Releases the lock without its [`Held`]: that was forgotten, to keep the lock over a fork, or its owner is gone.
    pub(crate) fn unlock(&self) {
        if self.word.swap(FREE, Release) & CONTENDED != 0 {
            sync::futex_wake(&self.word);
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.lock.unlock();
    }
}

/// The slot of the process that an owner belongs to.
fn slot_of(owner: u64) -> usize {
    ((owner & !CONTENDED) as u32 >> SLOT_SHIFT) as usize
}

/// The calling thread: its process's slot in the family, and its thread pointer, which is free to ask for. The lowest bits
/// of the pointer carry no information.
fn me() -> u64 {
    let thread = sync::thread() as u64 >> 6;
    let (low, rest) = (thread & ((1 << SLOT_SHIFT) - 1), thread >> SLOT_SHIFT);
    rest << 32 | (family::slot() as u64) << SLOT_SHIFT | low.max(1)
}
