//! Which processes of a family are alive.
//!
//! A family is the process that made the memory, and all its descendants by fork, spawn or exec. Each process has a
//! *slot*, and as long as it lives a record lock (fcntl(2), F_SETLK) on the byte of that number: the kernel releases the
//! lock when the process ends, in whatever way, and no pid has to be believed (docs/kernel-notes/record-locks.md).
//!
//! ```text
//!   Free ──fork, spawn──► Pending ──the child has its lock──► Taken
//!    ▲                       │ its parent or it is gone          │ its lock is gone
//!    └──── no holder ───── Reclaimed ◄───────────────────────────┘
//! ```
//!
//! Only one process at a time cleans up after a slot, and only if nothing became of the slot since it looked.

use core::sync::atomic::{AtomicU64, Ordering::*};

use libc::c_int;

use super::holders::{Holders, SLOTS};
use super::memory::{self, Family, family, file, slot};
use super::slot::{Kind, Slot, Word};
use crate::{fds, sys};

/// Makes the memory of a new family, with this process in its first slot. Null if there is no memory for it.
pub(crate) fn found() -> *mut Family {
    if let Some(known) = family() {
        return core::ptr::from_ref(known).cast_mut();
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
    if let Err(first) = memory::found(at, file) {
        fds::close_hidden(file);
        sys::unmap(at.cast(), len);
        return first;
    }
    if file >= 0 {
        sys::lock_byte(file, 0);
    }
    set(0, Kind::Taken);
    at
}

/// Maps the memory behind a file that this process inherited, and takes its slot there.
pub(crate) fn join(file: c_int, slot: usize, nonce: u32) -> bool {
    let at = sys::map_file(file, size_of::<Family>()).cast::<Family>();
    if at.is_null() {
        return false;
    }
    memory::enter(at, file, slot);
    if self::nonce(slot) == nonce && occupy(slot) {
        return true;
    }
    memory::leave();
    sys::unmap(at.cast(), size_of::<Family>());
    false
}

/// Leaves the family: this process has found no slot in it.
pub(crate) fn leave() {
    let file = memory::leave();
    if file >= 0 {
        fds::close_hidden(file);
    }
}

fn slots() -> Option<&'static [Slot; SLOTS]> {
    family().map(|f| &f.slots)
}

/// Changes a slot that no other process changes now.
fn set(slot: usize, kind: Kind) {
    if let Some(s) = slots().and_then(|s| s.get(slot)) {
        s.set(kind, self::slot());
    }
}

/// The calling process takes `slot` for its own: first the lock, then the word. False if another process has reclaimed
/// the slot, because the process that made it was gone.
pub(crate) fn occupy(slot: usize) -> bool {
    memory::move_to(slot);
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
pub(crate) fn expect_child() -> Option<usize> {
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

/// The count that tells a child of this slot from an earlier one.
pub(crate) fn nonce(slot: usize) -> u32 {
    slots().and_then(|s| s.get(slot)).map_or(0, |s| s.get().nonce())
}

/// Notes that the child that a slot waits for is the process `pid`.
pub(crate) fn child_is(slot: usize, pid: c_int) {
    if let Some(s) = slots().and_then(|s| s.get(slot)) {
        s.pid.store(pid, Relaxed);
    }
}

/// Frees a slot that this process has made, or reclaimed, and that no process has taken.
pub(crate) fn free(slot: usize) {
    let used = family().map_or(0, |f| f.used.load(Relaxed)) as usize;
    family().iter().flat_map(|f| f.holders.iter().take(used)).for_each(|holders| {
        holders.remove(slot);
    });
    set(slot, Kind::Free);
}

/// Whether the process of a slot has ended.
pub(crate) fn is_dead(slot: usize) -> bool {
    let Some(s) = slots().and_then(|s| s.get(slot)) else { return true };
    let word = s.get();
    match word.kind() {
        Kind::Free | Kind::Reclaimed => true,
        _ if slot == self::slot() => false,
        // The process that made the slot knows the pid; no other process can tell what the pid means.
        Kind::Pending if word.by() == self::slot() => match s.pid.load(Relaxed) {
            0 => false,
            pid => sys::process_ended(pid),
        },
        Kind::Pending => word.by() != slot && is_dead(word.by()),
        Kind::Taken => file() >= 0 && !sys::is_byte_locked(file(), slot),
    }
}

/// Frees the slots of dead processes, and the endpoints that only they held. False if there was no such slot.
pub(crate) fn reclaim_dead() -> bool {
    let Some(slots) = slots() else { return false };
    let mut found = false;
    for (slot, s) in slots.iter().enumerate() {
        let word = s.get();
        let over = match word.kind() {
            Kind::Free => false,
            // The process that began to reclaim the slot has not finished.
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

impl Holders {
    fn others(&self) -> impl Iterator<Item = usize> + '_ {
        (0..SLOTS).filter(|s| *s != slot() && self.has(*s))
    }

    /// Whether this process is the only one that holds the endpoint. Holders that have died are forgotten.
    pub(crate) fn is_sole(&self) -> bool {
        let (own_word, own_bit) = self.word(slot());
        let alone = |w: &AtomicU64| {
            let others = if core::ptr::eq(w, own_word) { !own_bit } else { !0 };
            w.load(SeqCst) & others == 0
        };
        if self.words().iter().all(alone) {
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
