//! A mutex for memory that forked processes share. Held only over calls that cannot wait.

use core::sync::atomic::Ordering::*;

use crate::family;
use crate::sync::{self, AtomicU32};

#[cfg(all(test, loom))]
mod loom;

const FREE: u32 = 0;
/// Somebody may sleep on the word.
const CONTENDED: u32 = 1 << 31;

/// The owner: the slot of its process in the family above so many bits of its thread.
const SLOT_SHIFT: u32 = 23;

/// A futex mutex whose word is its owner, so that a signal handler which meets a lock of its own thread can step aside,
/// and a process that was killed can be told from one that takes its time.
///
/// The word has no room for all of a thread's name, so two threads may look alike in it. What is missing is beside it, written
/// when the lock was taken and cleared before it is let go: 0 only for these moments.
#[repr(C)]
pub struct Lock {
    word: AtomicU32,
    rest: AtomicU32,
}

/// Releases the lock when dropped.
pub struct Held<'a> {
    lock: &'a Lock,
    /// Its last owner died with it: what it guards may be in the middle of a change.
    pub from_dead: bool,
}

impl Lock {
    pub const fn new() -> Lock {
        Lock { word: AtomicU32::new(FREE), rest: AtomicU32::new(0) }
    }

    fn taken(&self, from_dead: bool) -> Held<'_> {
        self.rest.store(rest_of_me(), Relaxed);
        Held { lock: self, from_dead }
    }

    /// Whether the owner, who looks like the calling thread, is. A handler may have interrupted its thread in the moment in
    /// which that is not to be seen; another thread does not stay in it.
    fn is_mine(&self, word: u32) -> bool {
        for _ in 0..MOMENTS {
            match self.rest.load(Relaxed) {
                0 => sync::nap(),
                rest => return rest == rest_of_me(),
            }
            if self.word.load(Relaxed) & !CONTENDED != word {
                return false;
            }
        }
        true
    }

    /// Waits for the lock; `None` if the calling thread itself holds it (a signal handler in the middle of a call).
    pub fn lock(&self) -> Option<Held<'_>> {
        let me = me();
        let take = |from: u32, to: u32| self.word.compare_exchange(from, to, Acquire, Relaxed).is_ok();
        if take(FREE, me) {
            return Some(self.taken(false));
        }
        loop {
            let word = self.word.load(Relaxed);
            if word & !CONTENDED == me && self.is_mine(me) {
                return None;
            }
            if word == FREE {
                // Others may sleep: whoever comes by this path leaves the mark for its successor.
                if take(FREE, me | CONTENDED) {
                    return Some(self.taken(false));
                }
            } else if word & CONTENDED != 0 || take(word, word | CONTENDED) {
                let word = word | CONTENDED;
                let in_vain = sync::futex_wait(&self.word, word);
                if in_vain
                    && family::is_dead(((word & !CONTENDED) >> SLOT_SHIFT) as usize)
                    && take(word, me | CONTENDED)
                {
                    return Some(self.taken(true));
                }
            }
        }
    }

    /// Ends the hold of whichever thread of this process has it: all of them are gone (exec).
    pub fn unlock_own(&self) -> bool {
        let owner = self.word.load(Relaxed) & !CONTENDED;
        let own = owner != FREE && (owner >> SLOT_SHIFT) as usize == family::slot();
        if own {
            self.unlock();
        }
        own
    }

    /// Keeps the lock beyond the scope (over a fork); `unlock` ends that.
    pub fn unlock(&self) {
        self.rest.store(0, Relaxed);
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

/// How often a lock that may be the calling thread's own is looked at.
const MOMENTS: u32 = if cfg!(all(test, loom)) { 1 } else { 50 };

/// The calling thread: its process's slot in the family, and some bits of its thread pointer, which is free to ask for.
fn me() -> u32 {
    let thread = (sync::thread() >> 6) as u32 & ((1 << SLOT_SHIFT) - 1);
    (family::slot() as u32) << SLOT_SHIFT | thread.max(1)
}

/// The other bits of the thread pointer, and one that is always set.
fn rest_of_me() -> u32 {
    (sync::thread() >> (6 + SLOT_SHIFT)) as u32 | 1 << 31
}
