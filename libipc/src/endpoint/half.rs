//! One direction of an endpoint as it lies in memory that a family of processes shares: plain words, each value of which
//! is valid, whichever process has written it.

use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use crate::family::lock::{Held, Lock};
use crate::prefix::{Prefix, PrefixWords};
use crate::switch::{Receiver, Sender, Transport};

/// A direction in shared memory, with the lock that guards it.
#[repr(C)]
pub(super) struct Words {
    lock: Lock,
    /// Bytes over TCP, and the peer's offset.
    count: AtomicU64,
    leaves_at: AtomicU64,
    /// Bits of [`flag`].
    flags: AtomicU32,
    prefix: PrefixWords,
}

mod flag {
    pub(super) const ON_UNIX: u32 = 1;
    pub(super) const USED: u32 = 2;
    // Of a sender.
    pub(super) const SHUT: u32 = 4;
    pub(super) const BARRED: u32 = 8;
    // Of a receiver.
    pub(super) const PROMISED: u32 = 16;
    pub(super) const LEAVES: u32 = 32;
    pub(super) const ENDED: u32 = 64;
    pub(super) const CLOSED: u32 = 128;
    /// A process of the family died in the middle of a call: bytes may have moved that were not counted.
    pub(super) const DAMAGED: u32 = 256;
}

fn transport(flags: u32) -> Transport {
    if flags & flag::ON_UNIX != 0 { Transport::Unix } else { Transport::Tcp }
}

/// The bit, if it holds.
fn bit(holds: bool, bit: u32) -> u32 {
    u32::from(holds) * bit
}

/// A direction's state that can be written down in words: bytes over TCP, the peer's offset, flags.
pub(crate) trait Stored: Copy {
    fn from_words(count: u64, leaves_at: u64, flags: u32) -> Self;
    fn to_words(self) -> (u64, u64, u32);
}

impl Stored for Sender {
    fn from_words(written: u64, _: u64, flags: u32) -> Sender {
        let has = |bit| flags & bit != 0;
        let (shut, barred, used) = (has(flag::SHUT), has(flag::BARRED), has(flag::USED));
        Sender { on: transport(flags), written, shut, barred, used }
    }

    fn to_words(self) -> (u64, u64, u32) {
        let on = bit(self.on == Transport::Unix, flag::ON_UNIX) | bit(self.used, flag::USED);
        (self.written, 0, on | bit(self.shut, flag::SHUT) | bit(self.barred, flag::BARRED))
    }
}

impl Stored for Receiver {
    fn from_words(read: u64, leaves_at: u64, flags: u32) -> Receiver {
        let has = |bit| flags & bit != 0;
        let leaves_at = has(flag::LEAVES).then_some(leaves_at);
        let (promised, ended, used, closed) =
            (has(flag::PROMISED), has(flag::ENDED), has(flag::USED), has(flag::CLOSED));
        Receiver { on: transport(flags), read, promised, leaves_at, ended, used, closed }
    }

    fn to_words(self) -> (u64, u64, u32) {
        let on = bit(self.on == Transport::Unix, flag::ON_UNIX) | bit(self.used, flag::USED);
        let peer = bit(self.promised, flag::PROMISED) | bit(self.leaves_at.is_some(), flag::LEAVES);
        let over = bit(self.ended, flag::ENDED) | bit(self.closed, flag::CLOSED);
        (self.read, self.leaves_at.unwrap_or(0), on | peer | over)
    }
}

impl Words {
    /// Locks the direction; `None` in a signal handler that interrupted a call in it.
    #[inline]
    pub(super) fn lock<S: Stored>(&self) -> Option<Guard<'_, S>> {
        let held = self.lock.lock()?;
        let flags = self.flags.load(Relaxed);
        let state = S::from_words(self.count.load(Relaxed), self.leaves_at.load(Relaxed), flags);
        let damaged = flags & flag::DAMAGED != 0 || held.from_dead;
        let half = Half { state, prefix: self.prefix.get(), damaged };
        Some(Guard { half, words: self, changed: held.from_dead, _held: held })
    }

    /// Turns the memory into a new direction. No other thread knows it yet, but a process that was killed may have left the
    /// lock held.
    pub(super) fn reset(&self, state: impl Stored) {
        self.lock.unlock();
        self.prefix.reset();
        self.store(state, false);
    }

    /// Frees the lock if a thread of this process held it before exec. Those threads are gone, and the bytes that they were
    /// moving are not counted.
    pub(super) fn free_own_lock(&self) {
        if self.lock.is_own() {
            self.flags.fetch_or(flag::DAMAGED, Relaxed);
            self.lock.unlock();
        }
    }

    fn store(&self, state: impl Stored, damaged: bool) {
        let (count, leaves_at, bits) = state.to_words();
        self.count.store(count, Relaxed);
        self.leaves_at.store(leaves_at, Relaxed);
        self.flags.store(bits | if damaged { flag::DAMAGED } else { 0 }, Relaxed);
    }
}

/// A direction's state and prefix, as the holder of the lock works with them.
pub(crate) struct Half<'a, S> {
    pub state: S,
    pub prefix: Prefix<'a>,
    /// A process of the family died in the middle of a call: bytes may have moved that were not counted.
    pub damaged: bool,
}

/// A locked direction. Changes are written back when the lock is released.
pub(crate) struct Guard<'a, S: Stored> {
    half: Half<'a, S>,
    words: &'a Words,
    changed: bool,
    _held: Held<'a>,
}

impl<'a, S: Stored> Deref for Guard<'a, S> {
    type Target = Half<'a, S>;
    fn deref(&self) -> &Half<'a, S> {
        &self.half
    }
}

impl<'a, S: Stored> DerefMut for Guard<'a, S> {
    fn deref_mut(&mut self) -> &mut Half<'a, S> {
        self.changed = true;
        &mut self.half
    }
}

impl<S: Stored> Drop for Guard<'_, S> {
    fn drop(&mut self) {
        if self.changed {
            self.words.store(self.half.state, self.half.damaged);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_written_down_and_read_again_and_every_word_is_one() {
        for bits in 0..512u32 {
            let sender = Sender::from_words(7, 9, bits);
            let (written, offset, flags) = sender.to_words();
            assert_eq!(sender, Sender::from_words(written, offset, flags), "{bits}");
            let receiver = Receiver::from_words(7, 9, bits);
            let (read, offset, flags) = receiver.to_words();
            assert_eq!(receiver, Receiver::from_words(read, offset, flags), "{bits}");
        }
        let all = [Receiver::NEW, Receiver::MOVED, Receiver { leaves_at: Some(0), closed: true, ..Receiver::NEW }];
        for state in all {
            let (read, offset, flags) = state.to_words();
            assert_eq!(Receiver::from_words(read, offset, flags), state);
        }
        for state in [Sender::NEW, Sender::MOVED, Sender { shut: true, barred: true, ..Sender::NEW }] {
            let (written, offset, flags) = state.to_words();
            assert_eq!(Sender::from_words(written, offset, flags), state);
        }
    }
}
