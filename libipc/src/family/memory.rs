//! The memory that a family shares.

use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering::*};

use libc::c_int;

use super::carried::Carried;
use super::holders::{Holders, SLOTS};
use super::slot::Slot;

/// Endpoints of one family of processes.
pub(crate) const MAX_ENDPOINTS: usize = 1 << 16;

/// Room for what `endpoint` keeps of one endpoint.
#[repr(C, align(64))]
pub(crate) struct Room([u8; 576]);

/// The shared memory. Zeroed, it is the memory of a family without processes.
#[repr(C)]
pub(crate) struct Family {
    /// One more than the largest endpoint index ever used; where the search for a free one begins; and up to which index
    /// it goes (0: the first limit).
    pub used: AtomicU32,
    pub next: AtomicU32,
    pub limit: AtomicU32,
    pub slots: [Slot; SLOTS],
    pub carried: [Carried; SLOTS],
    /// Apart from the endpoints, so that fork, which looks through all of them, touches little memory.
    pub holders: [Holders; MAX_ENDPOINTS],
    pub endpoints: [Room; MAX_ENDPOINTS],
}

static FAMILY: AtomicPtr<Family> = AtomicPtr::new(core::ptr::null_mut());
/// The file of the memory, hidden; -1 if the system gave none: then no process is ever taken for dead.
static FILE: AtomicI32 = AtomicI32::new(-1);
/// This process's slot.
#[unsafe(link_section = ".data.fork")]
static SLOT: AtomicU32 = AtomicU32::new(0);

/// The shared memory, if there is one.
pub(crate) fn family() -> Option<&'static Family> {
    // SAFETY: null, or mapped by `found` or `join`, never unmapped; made of atomics, but for the rooms, which are
    // `endpoint`'s.
    unsafe { FAMILY.load(Acquire).as_ref() }
}

/// This process's slot.
pub(crate) fn slot() -> usize {
    SLOT.load(Relaxed) as usize
}

/// The file of the memory; -1: none.
pub(crate) fn file() -> c_int {
    FILE.load(Relaxed)
}

/// From here on `at` is this process's family, with its file (-1: none) and this process's slot.
pub(super) fn enter(at: *mut Family, file: c_int, slot: usize) {
    FAMILY.store(at, Release);
    FILE.store(file, Relaxed);
    SLOT.store(slot as u32, Relaxed);
}

/// The same for a new family, if this process has none yet; otherwise `Err` has the one that there is.
pub(super) fn found(at: *mut Family, file: c_int) -> Result<(), *mut Family> {
    FAMILY.compare_exchange(core::ptr::null_mut(), at, AcqRel, Acquire)?;
    FILE.store(file, Relaxed);
    SLOT.store(0, Relaxed);
    Ok(())
}

/// Leaves the family; returns the file of its memory.
pub(super) fn leave() -> c_int {
    FAMILY.store(core::ptr::null_mut(), Release);
    SLOT.store(0, Relaxed);
    FILE.swap(-1, Relaxed)
}

/// Gives this process another slot.
pub(super) fn move_to(slot: usize) {
    SLOT.store(slot as u32, Relaxed);
}
