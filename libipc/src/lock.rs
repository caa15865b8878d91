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
#[repr(C)]
pub struct Lock(AtomicU32);

/// Releases the lock when dropped.
pub struct Held<'a> {
    lock: &'a Lock,
    /// Its last owner died with it: what it guards may be in the middle of a change.
    pub from_dead: bool,
}

impl Lock {
    pub const fn new() -> Lock {
        Lock(AtomicU32::new(FREE))
    }

    /// Waits for the lock; `None` if the calling thread itself holds it (a signal handler in the middle of a call).
    pub fn lock(&self) -> Option<Held<'_>> {
        let me = me();
        if self.0.compare_exchange(FREE, me, Acquire, Relaxed).is_ok() {
            return Some(Held { lock: self, from_dead: false });
        }
        loop {
            let word = self.0.load(Relaxed);
            if word & !CONTENDED == me {
                return None;
            }
            if word == FREE {
                // Others may sleep: whoever comes by this path leaves the mark for its successor.
                if self.0.compare_exchange(FREE, me | CONTENDED, Acquire, Relaxed).is_ok() {
                    return Some(Held { lock: self, from_dead: false });
                }
            } else if word & CONTENDED != 0 || self.0.compare_exchange(word, word | CONTENDED, Relaxed, Relaxed).is_ok()
            {
                let word = word | CONTENDED;
                let in_vain = sync::futex_wait(&self.0, word);
                if in_vain
                    && family::is_dead(((word & !CONTENDED) >> SLOT_SHIFT) as usize)
                    && self.0.compare_exchange(word, me | CONTENDED, Acquire, Relaxed).is_ok()
                {
                    return Some(Held { lock: self, from_dead: true });
                }
            }
        }
    }

    /// Ends the hold of whichever thread of this process has it: all of them are gone (exec).
    pub fn unlock_own(&self) -> bool {
        let owner = self.0.load(Relaxed) & !CONTENDED;
        let own = owner != FREE && (owner >> SLOT_SHIFT) as usize == family::slot();
        if own {
            self.unlock();
        }
        own
    }

    /// Keeps the lock beyond the scope (over a fork); `unlock` ends that.
    pub fn unlock(&self) {
        if self.0.swap(FREE, Release) & CONTENDED != 0 {
            sync::futex_wake(&self.0);
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.lock.unlock();
    }
}

/// The calling thread: its process's slot in the family, and some bits of its thread pointer, which is free to ask for. Two
/// threads that collide see each other as a re-entry, which is safe.
fn me() -> u32 {
    let thread = (sync::thread() >> 6) as u32 & ((1 << SLOT_SHIFT) - 1);
    (family::slot() as u32) << SLOT_SHIFT | thread.max(1)
}
