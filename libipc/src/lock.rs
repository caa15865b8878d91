//! A mutex for memory that forked processes share. Held only over calls that cannot wait.

use core::sync::atomic::Ordering::*;

use crate::process;
use crate::sync::{self, AtomicU32};

#[cfg(all(test, loom))]
mod loom;

const FREE: u32 = 0;
/// Somebody may sleep on the word.
const CONTENDED: u32 = 1 << 31;

/// A futex mutex whose word is its owner, so that a signal handler which meets a lock of its own thread can step aside.
#[repr(C)]
pub struct Lock(AtomicU32);

/// Releases the lock when dropped.
pub struct Held<'a>(&'a Lock);

impl Lock {
    pub const fn new() -> Lock {
        Lock(AtomicU32::new(FREE))
    }

    /// Waits for the lock; `None` if the calling thread itself holds it (a signal handler in the middle of a call).
    pub fn lock(&self) -> Option<Held<'_>> {
        let me = me();
        if self.0.compare_exchange(FREE, me, Acquire, Relaxed).is_ok() {
            return Some(Held(self));
        }
        loop {
            let word = self.0.load(Relaxed);
            if word & !CONTENDED == me {
                return None;
            }
            if word == FREE {
                // Others may sleep: whoever comes by this path leaves the mark for its successor.
                if self.0.compare_exchange(FREE, me | CONTENDED, Acquire, Relaxed).is_ok() {
                    return Some(Held(self));
                }
            } else if word & CONTENDED != 0 || self.0.compare_exchange(word, word | CONTENDED, Relaxed, Relaxed).is_ok()
            {
                sync::futex_wait(&self.0, word | CONTENDED);
            }
        }
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
        self.0.unlock();
    }
}

/// The calling thread: 31 bits of its thread pointer, free to ask for, mixed with the process's slot because a forked
/// process has threads of the same addresses. Two threads that collide see each other as a re-entry, which is safe.
fn me() -> u32 {
    let mixed = (sync::thread() >> 6) ^ (process::slot() << 23);
    (mixed as u32 & !CONTENDED).max(1)
}
