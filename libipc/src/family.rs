//! The memory that a family of processes shares, and which of its processes live.
//!
//! A family is the process that made the memory, and whoever descends from it by fork, spawn or exec. Each process has a
//! *slot*, and as long as it lives a record lock (fcntl(2), F_SETLK) on the byte of that number: the kernel lets go of
//! it when the process ends, in whatever way, and no pid has to be believed (docs/kernel-notes/record-locks.md).
//!
//! ```text
//!   Free ──fork, spawn──► Pending ──the child has its lock──► Taken
//!    ▲                       │ its parent or it is gone          │ its lock is gone
//!    └──── nobody holds ── Reclaimed ◄───────────────────────────┘
//! ```
//!
//! Only one process at a time cleans up after a slot, and only if nothing became of the slot since it looked.

use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering::*};

use libc::c_int;

use crate::endpoint::{Endpoint, MAX_ENDPOINTS};
use crate::inherit::Carried;
use crate::{endpoint, fds, sys};

const WORDS: usize = 4;
/// Processes of one family that can hold endpoints at the same time.
pub const SLOTS: usize = WORDS * 64;

/// What a slot is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Kind {
    Free = 0,
    Pending = 1,
    Taken = 2,
    Reclaimed = 3,
}

/// A slot in one word: its kind (2 bits), the slot of the process that made it Pending or Reclaimed (8), and a count that
/// tells each child that the slot was made for from the ones before.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u32);

impl Word {
    fn kind(self) -> Kind {
        match self.0 & 3 {
            0 => Kind::Free,
            1 => Kind::Pending,
            2 => Kind::Taken,
            _ => Kind::Reclaimed,
        }
    }

    fn by(self) -> usize {
        (self.0 >> 2) as usize % SLOTS
    }

    fn nonce(self) -> u32 {
        self.0 >> 10
    }

    fn becomes(self, kind: Kind, by: usize) -> Word {
        Word(self.0 & !0x3ff | (by as u32 & 0xff) << 2 | kind as u32)
    }

    fn counted(self) -> Word {
        Word(self.0.wrapping_add(1 << 10))
    }
}

#[repr(C)]
struct Slot {
    /// See [`Word`].
    word: AtomicU32,
    /// The process that a Pending slot is for, as its parent knows it; 0: not known.
    pid: AtomicI32,
}

impl Slot {
    fn get(&self) -> Word {
        Word(self.word.load(Acquire))
    }

    /// True if it was `old` still.
    fn step(&self, old: Word, new: Word) -> bool {
        self.word.compare_exchange(old.0, new.0, AcqRel, Relaxed).is_ok()
    }

    fn become_mine(&self, kind: Kind) {
        self.word.store(self.get().becomes(kind, slot()).0, Release);
    }
}

/// The shared memory. Zeroed, it is the memory of a family without processes.
#[repr(C)]
pub struct Family {
    /// One more than the largest endpoint index ever used, where to look for a free one, and how far (0: as at first).
    pub used: AtomicU32,
    pub next: AtomicU32,
    pub limit: AtomicU32,
    slots: [Slot; SLOTS],
    pub carried: [Carried; SLOTS],
    /// Apart from the endpoints, so that who looks through all of them (fork does) touches little memory.
    pub holders: [Holders; MAX_ENDPOINTS],
    pub endpoints: [Endpoint; MAX_ENDPOINTS],
}

static FAMILY: AtomicPtr<Family> = AtomicPtr::new(core::ptr::null_mut());
/// The file of the memory, hidden; -1 where the system gave none: then nobody is ever taken for dead.
static FILE: AtomicI32 = AtomicI32::new(-1);
/// This process's slot.
#[unsafe(link_section = ".data.fork")]
static SLOT: AtomicU32 = AtomicU32::new(0);

/// The shared memory, if there is one.
pub fn family() -> Option<&'static Family> {
    // SAFETY: null, or mapped by `found` or `join`, never unmapped; made of atomics, but for the cells of endpoints,
    // which `endpoint` guards.
    unsafe { FAMILY.load(Acquire).as_ref() }
}

/// This process's slot.
pub fn slot() -> usize {
    SLOT.load(Relaxed) as usize
}

/// The file of the memory; -1: none.
pub fn file() -> c_int {
    FILE.load(Relaxed)
}

/// Makes the memory of a new family, with this process in its first slot. Null if there is none to be had.
pub fn found() -> *mut Family {
    let known = FAMILY.load(Acquire);
    if !known.is_null() {
        return known;
    }
    let len = size_of::<Family>();
    let fd = sys::memory_file(c"ipc-family", len);
    let at = if fd < 0 { sys::map_memory(len, true) } else { sys::map_file(fd, len) }.cast::<Family>();
    if at.is_null() {
        sys::close(fd);
        return at;
    }
    let file = if fd < 0 { -1 } else { fds::hide(fd).unwrap_or(-1) };
    // Two threads may come here at once: the one that loses leaves nothing behind.
    if let Err(first) = FAMILY.compare_exchange(core::ptr::null_mut(), at, AcqRel, Acquire) {
        fds::close_hidden(file);
        sys::unmap(at.cast(), len);
        return first;
    }
    FILE.store(file, Relaxed);
    SLOT.store(0, Relaxed);
    if file >= 0 {
        sys::lock_byte(file, 0);
    }
    set(0, Kind::Taken);
    at
}

/// Maps the memory behind a file that this process inherited, and takes its slot there.
pub fn join(file: c_int, slot: usize, nonce: u32) -> bool {
    let at = sys::map_file(file, size_of::<Family>()).cast::<Family>();
    if at.is_null() {
        return false;
    }
    FAMILY.store(at, Release);
    FILE.store(file, Relaxed);
    SLOT.store(slot as u32, Relaxed);
    if self::nonce(slot) == nonce && occupy(slot) {
        return true;
    }
    FAMILY.store(core::ptr::null_mut(), Release);
    FILE.store(-1, Relaxed);
    SLOT.store(0, Relaxed);
    sys::unmap(at.cast(), size_of::<Family>());
    false
}

/// This process has no family any more: it found no slot in it.
pub fn leave() {
    FAMILY.store(core::ptr::null_mut(), Release);
    SLOT.store(0, Relaxed);
    let file = FILE.swap(-1, Relaxed);
    if file >= 0 {
        fds::close_hidden(file);
    }
}

fn slots() -> Option<&'static [Slot; SLOTS]> {
    family().map(|f| &f.slots)
}

/// A slot that nobody but this process changes now.
fn set(slot: usize, kind: Kind) {
    if let Some(s) = slots().and_then(|s| s.get(slot)) {
        s.become_mine(kind);
    }
}

/// The calling process takes `slot` for its own: first the lock, then the word. False if somebody has reclaimed it,
/// because the process that made it was gone.
pub fn occupy(slot: usize) -> bool {
    SLOT.store(slot as u32, Relaxed);
    if file() >= 0 && !sys::lock_byte(file(), slot) {
        return false;
    }
    // An exec of the slot's own process finds it Taken.
    let meant = |word: &Word| matches!(word.kind(), Kind::Pending | Kind::Taken);
    let Some(s) = slots().and_then(|s| s.get(slot)) else { return false };
    let word = s.get();
    meant(&word) && s.step(word, word.becomes(Kind::Taken, slot))
}

/// Takes a slot for a child that is about to be; `None` if all are taken.
pub fn expect_child() -> Option<usize> {
    let all = slots()?;
    let free = |s: &Slot| {
        let word = s.get();
        word.kind() == Kind::Free && s.step(word, word.counted().becomes(Kind::Pending, self::slot()))
    };
    let slot = all.iter().position(free).or_else(|| {
        reclaim_dead();
        all.iter().position(free)
    })?;
    all.get(slot)?.pid.store(0, Relaxed);
    Some(slot)
}

/// What tells a child of this slot from an earlier one.
pub fn nonce(slot: usize) -> u32 {
    slots().and_then(|s| s.get(slot)).map_or(0, |s| s.get().nonce())
}

/// The child that a slot waits for is this process.
pub fn child_is(slot: usize, pid: c_int) {
    if let Some(s) = slots().and_then(|s| s.get(slot)) {
        s.pid.store(pid, Relaxed);
    }
}

/// Frees a slot that this process has made, or reclaimed, and no process has.
pub fn free(slot: usize) {
    endpoint::all().for_each(|id| {
        id.holders().remove(slot);
    });
    set(slot, Kind::Free);
}

/// Whether the process of a slot has ended.
pub fn is_dead(slot: usize) -> bool {
    let Some(s) = slots().and_then(|s| s.get(slot)) else { return true };
    let word = s.get();
    match word.kind() {
        Kind::Free | Kind::Reclaimed => true,
        _ if slot == self::slot() => false,
        // Whoever made the slot knows the pid, and nobody else can tell what it means.
        Kind::Pending if word.by() == self::slot() => match s.pid.load(Relaxed) {
            0 => false,
            pid => sys::process_ended(pid),
        },
        Kind::Pending => word.by() != slot && is_dead(word.by()),
        Kind::Taken => file() >= 0 && !sys::is_byte_locked(file(), slot),
    }
}

/// Frees the slots of dead processes, and what only they held. False if nothing was found.
pub fn reclaim_dead() -> bool {
    let Some(slots) = slots() else { return false };
    let mut found = false;
    for (slot, s) in slots.iter().enumerate() {
        let word = s.get();
        let over = match word.kind() {
            Kind::Free => false,
            // Whoever began has not finished.
            Kind::Reclaimed => word.by() != self::slot() && is_dead(word.by()),
            Kind::Pending | Kind::Taken => is_dead(slot),
        };
        if over && s.step(word, word.becomes(Kind::Reclaimed, self::slot())) {
            free(slot);
            found = true;
        }
    }
    found
}

/// The processes that hold an endpoint, a bit per slot.
#[repr(C)]
pub struct Holders([AtomicU64; WORDS]);

impl Holders {
    fn word(&self, slot: usize) -> (&AtomicU64, u64) {
        (&self.0[slot / 64 % WORDS], 1 << (slot % 64))
    }

    /// Takes free memory for `slot`; false if it is not free.
    pub fn claim(&self, slot: usize) -> bool {
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

    pub fn is_any(&self) -> bool {
        self.0.iter().any(|w| w.load(Relaxed) != 0)
    }

    pub fn has(&self, slot: usize) -> bool {
        let (word, bit) = self.word(slot);
        word.load(SeqCst) & bit != 0
    }

    /// Adds a holder.
    pub fn add(&self, slot: usize) {
        let (word, bit) = self.word(slot);
        word.fetch_or(bit, SeqCst);
    }

    /// Ends a hold; true if it was the last.
    pub fn remove(&self, slot: usize) -> bool {
        let (word, bit) = self.word(slot);
        word.fetch_and(!bit, SeqCst);
        self.0.iter().all(|w| w.load(SeqCst) == 0)
    }

    fn others(&self) -> impl Iterator<Item = usize> + '_ {
        (0..SLOTS).filter(|s| *s != slot() && self.has(*s))
    }

    /// Whether this process is the only one that holds the endpoint. Holders that have died are forgotten.
    pub fn is_sole(&self) -> bool {
        let (own_word, own_bit) = self.word(slot());
        let alone = |w: &AtomicU64| {
            let others = if core::ptr::eq(w, own_word) { !own_bit } else { !0 };
            w.load(SeqCst) & others == 0
        };
        if self.0.iter().all(alone) {
            return true;
        }
        let mut sole = true;
        for other in self.others() {
            if is_dead(other) {
                self.remove(other);
            } else {
                sole = false;
            }
        }
        sole
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
        // Reclaimed, freed and made for another child by somebody quicker.
        assert!(slot.step(seen, taken) && slot.step(taken, taken.becomes(Kind::Free, 3)));
        assert!(slot.step(slot.get(), slot.get().counted().becomes(Kind::Pending, 1)));
        assert!(!slot.step(seen, seen.becomes(Kind::Reclaimed, 4)));
    }
}
