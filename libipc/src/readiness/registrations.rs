//! The table of registrations: which endpoint the program has registered where, with which mask and data.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};

use libc::c_int;

use crate::endpoint::Id;
use crate::family::lock::{Held, Lock};
use crate::host::guard::NoSignals;
use crate::sys;
use crate::transport::unix::Registered;

const POOL: usize = 1 << 17;
const BUCKETS: usize = 1 << 14;
/// How many foreign registrations can be between the transports at a time.
const BETWEEN: usize = 64;
/// Bits of an event mask that say how to report, not what.
pub(crate) const MODE: u32 = (libc::EPOLLET | libc::EPOLLONESHOT | libc::EPOLLWAKEUP | libc::EPOLLEXCLUSIVE) as u32;
pub(crate) const ONESHOT: u32 = libc::EPOLLONESHOT as u32;

/// One registration that the program made, of an endpoint.
#[derive(Clone, Copy)]
pub(crate) struct Registration {
    pub epfd: c_int,
    pub fd: c_int,
    /// While Dual: the new transport's registration beside this one.
    pub unix: Registered,
    pub events: u32,
    pub data: u64,
    pub endpoint: u32,
    /// Counts reuses of the entry; part of the tag.
    pub generation: u16,
    /// A one-shot registration that has not fired since it was last armed.
    pub armed: bool,
    /// A thread has claimed an event of a one-shot registration, and has not found out yet whether it fires.
    pub judged: bool,
    /// Made past the hooks; the program may change it past them, too.
    pub foreign: bool,
    pub used: bool,
    /// The last batch of events in which it was reported: its other transport adds no second event to that batch.
    pub batch: u32,
    /// Next of the endpoint, and next in the bucket or in the free list: index plus one.
    pub next: u32,
    pub next_alike: u32,
}

impl Registration {
    /// The mask with which it is registered where the kernel's registration is the program's.
    pub(crate) fn program_mask(&self) -> u32 {
        let quiet = self.events & ONESHOT != 0 && (!self.armed || self.judged);
        if quiet { ONESHOT } else { self.events }
    }
}

struct Pool {
    entries: [Registration; POOL],
    buckets: [u32; BUCKETS],
    free: u32,
    high: u32,
    /// The foreign registrations of endpoints that are between the transports; 0: none.
    between: [u32; BETWEEN],
}

struct Shared(UnsafeCell<Pool>);

// SAFETY: every access goes through `Table`, which holds LOCK.
unsafe impl Sync for Shared {}

pub(crate) const EMPTY: Registration = Registration {
    epfd: 0,
    fd: 0,
    unix: Registered::NOT,
    events: 0,
    data: 0,
    endpoint: 0,
    generation: 0,
    armed: false,
    judged: false,
    foreign: false,
    used: false,
    batch: 0,
    next: 0,
    next_alike: 0,
};
static REGISTRATIONS: Shared = Shared(UnsafeCell::new(Pool {
    entries: [EMPTY; POOL],
    buckets: [0; BUCKETS],
    free: 0,
    high: 0,
    between: [0; BETWEEN],
}));
#[unsafe(link_section = ".data.fork")]
static LOCK: Lock = Lock::new();
#[unsafe(link_section = ".data.fork")]
static HELD_OVER_FORK: AtomicBool = AtomicBool::new(false);

/// The upper half of every tag; 0 until there was a registration.
static TAG: AtomicU32 = AtomicU32::new(0);

fn tag_base() -> u64 {
    u64::from(TAG.load(Relaxed)) << 32
}

/// A value that no program's data has in its upper half: not a pointer, not a small or negative number.
pub(crate) fn make_tag() {
    if in_use() {
        return;
    }
    let random = (sys::now() ^ u64::from(sys::getpid() as u32) << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 34;
    let _ = TAG.compare_exchange(0, 0x8000_0000 | random as u32 & 0x3fff_ffff, Relaxed, Relaxed);
}

/// Whether any endpoint was ever registered in this process.
pub(crate) fn in_use() -> bool {
    TAG.load(Relaxed) != 0
}

/// The low half of a tag, if `data` is a tag.
pub(crate) fn low_of_tag(data: u64) -> Option<u32> {
    let tag = TAG.load(Relaxed);
    (tag != 0 && (data >> 32) as u32 == tag).then_some(data as u32)
}

/// A tag that leads nowhere.
pub(crate) fn tag_of_nothing() -> u64 {
    make_tag();
    tag_base() | u64::from(u32::MAX)
}

/// The locked table. Fields drop in this order: signals come back after the lock is free.
pub(crate) struct Table {
    pool: &'static mut Pool,
    moves: bool,
    _held: Held<'static>,
    _no_signals: Option<NoSignals>,
}

/// Counts the times that the kernel's registrations began to move between two sockets, and were moved: odd in between.
static REVISION: AtomicU32 = AtomicU32::new(0);

/// How many foreign registrations are between the transports.
static FOREIGN: AtomicU32 = AtomicU32::new(0);

/// Whether there are any.
pub(crate) fn has_foreign() -> bool {
    FOREIGN.load(Relaxed) != 0
}

/// See [`await_moves`].
pub(crate) fn revision() -> u32 {
    REVISION.load(SeqCst)
}

/// Whether registrations may have been between two sockets since `before` was the revision: what the kernel reported
/// meanwhile may lack one that is ready. Waits until they are moved.
pub(crate) fn await_moves(before: u32) -> bool {
    let moved = before & 1 != 0 || revision() != before;
    if moved {
        drop(table());
    }
    moved
}

pub(crate) fn table() -> Option<Table> {
    locked(Some(NoSignals::hold()))
}

pub(crate) fn locked(no_signals: Option<NoSignals>) -> Option<Table> {
    let held = LOCK.lock()?;
    // SAFETY: the lock is held for the life of the reference.
    Some(Table { pool: unsafe { &mut *REGISTRATIONS.0.get() }, moves: false, _held: held, _no_signals: no_signals })
}

impl Drop for Table {
    fn drop(&mut self) {
        if self.moves {
            REVISION.fetch_add(1, SeqCst);
        }
    }
}

/// Keeps the table consistent for the child of a fork.
pub(crate) fn hold_over_fork() {
    if let Some(held) = LOCK.lock() {
        core::mem::forget(held);
        HELD_OVER_FORK.store(true, Relaxed);
    }
}

/// In both processes after a fork.
pub(crate) fn release_after_fork() {
    if HELD_OVER_FORK.swap(false, Relaxed) {
        LOCK.unlock();
    }
}

fn bucket(epfd: c_int, data: u64) -> usize {
    let mixed = (data ^ (epfd as u64) << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as usize % BUCKETS
}

/// Forgets the registrations in an epoll instance whose number the program has closed.
pub(crate) fn instance_closed(epfd: c_int) {
    let Some(mut t) = table() else { return };
    for i in t.all() {
        if let Some(endpoint) = t.at(i).filter(|r| r.used && r.epfd == epfd).map(|r| r.endpoint) {
            let id = Id { index: endpoint };
            t.forget_unix(i, id);
            t.remove(id, i);
        }
    }
}

impl Table {
    /// From here on until the table is unlocked, the kernel's registrations are not all in place.
    pub(crate) fn begin_moves(&mut self) {
        if !self.moves {
            self.moves = true;
            REVISION.fetch_add(1, SeqCst);
        }
    }

    pub(crate) fn at(&mut self, index: u32) -> Option<&mut Registration> {
        self.pool.entries.get_mut((index as usize).wrapping_sub(1))
    }

    /// The registrations of an endpoint, as indices plus one.
    pub(crate) fn of(&mut self, id: Id) -> impl Iterator<Item = u32> + use<> {
        let mut found = [0u32; 16];
        let mut next = id.local().registrations.load(Relaxed);
        for slot in &mut found {
            *slot = next;
            next = self.at(next).map_or(0, |r| r.next);
        }
        found.into_iter().take_while(|i| *i != 0)
    }

    pub(crate) fn find(&mut self, id: Id, epfd: c_int, fd: c_int) -> Option<u32> {
        self.of(id).find(|i| self.at(*i).is_some_and(|r| r.epfd == epfd && r.fd == fd))
    }

    pub(crate) fn insert(&mut self, id: Id, new: Registration) -> Option<u32> {
        if self.of(id).count() == 16 {
            return None;
        }
        let index = match self.pool.free {
            0 if (self.pool.high as usize) < POOL => {
                self.pool.high += 1;
                self.pool.high
            }
            0 => return None,
            free => {
                self.pool.free = self.at(free)?.next_alike;
                free
            }
        };
        let bucket = bucket(new.epfd, new.data);
        let next_alike = core::mem::replace(self.pool.buckets.get_mut(bucket)?, index);
        let next = id.local().registrations.swap(index, Relaxed);
        let entry = self.at(index)?;
        let generation = entry.generation.wrapping_add(1) & 0x7fff;
        *entry = Registration { generation, used: true, endpoint: id.index, next, next_alike, ..new };
        Some(index)
    }

    fn unlink_alike(&mut self, index: u32) -> Option<()> {
        let gone = *self.at(index)?;
        let bucket = bucket(gone.epfd, gone.data);
        let mut at = *self.pool.buckets.get(bucket)?;
        if at == index {
            *self.pool.buckets.get_mut(bucket)? = gone.next_alike;
            return Some(());
        }
        while at != 0 {
            let entry = self.at(at)?;
            if entry.next_alike == index {
                entry.next_alike = gone.next_alike;
                return Some(());
            }
            at = entry.next_alike;
        }
        Some(())
    }

    pub(crate) fn remove(&mut self, id: Id, index: u32) -> Option<()> {
        self.unwatch_foreign(index);
        self.unlink_alike(index)?;
        let gone = *self.at(index)?;
        let first = &id.local().registrations;
        if first.load(Relaxed) == index {
            first.store(gone.next, Relaxed);
        } else {
            for i in self.of(id) {
                if let Some(entry) = self.at(i).filter(|r| r.next == index) {
                    entry.next = gone.next;
                }
            }
        }
        let free = self.pool.free;
        let entry = self.at(index)?;
        *entry = Registration { generation: entry.generation, next_alike: free, ..EMPTY };
        self.pool.free = index;
        Some(())
    }

    /// Watches a foreign registration as long as its endpoint is between the transports; false if there are too many.
    pub(crate) fn watch_foreign(&mut self, index: u32) -> bool {
        let Some(slot) = self.pool.between.iter_mut().find(|slot| **slot == 0) else { return false };
        *slot = index;
        FOREIGN.fetch_add(1, Relaxed);
        true
    }

    pub(crate) fn unwatch_foreign(&mut self, index: u32) {
        if FOREIGN.load(Relaxed) == 0 {
            return;
        }
        for slot in self.pool.between.iter_mut().filter(|slot| **slot == index) {
            *slot = 0;
            FOREIGN.fetch_sub(1, Relaxed);
        }
    }

    /// The foreign registrations between the transports, as indices plus one.
    pub(crate) fn foreign(&self) -> [u32; BETWEEN] {
        self.pool.between
    }

    /// Every index that is or was in use.
    pub(crate) fn all(&self) -> impl Iterator<Item = u32> + use<> {
        1..=self.pool.high
    }

    /// The first of the registrations whose instance and data are like these (`next_alike` leads on).
    pub(crate) fn first_alike(&self, epfd: c_int, data: u64) -> u32 {
        self.pool.buckets.get(bucket(epfd, data)).copied().unwrap_or(0)
    }

    /// Gives a registration another mask and data, as EPOLL_CTL_MOD does.
    pub(crate) fn change(&mut self, index: u32, events: u32, data: u64) -> Option<()> {
        let old = self.at(index)?;
        if old.data == data {
            (old.events, old.armed, old.judged) = (events, true, false);
            return Some(());
        }
        let epfd = old.epfd;
        self.unlink_alike(index)?;
        let bucket = bucket(epfd, data);
        let next_alike = core::mem::replace(self.pool.buckets.get_mut(bucket)?, index);
        let entry = self.at(index)?;
        *entry = Registration { events, data, next_alike, armed: true, judged: false, ..*entry };
        Some(())
    }

    /// Registers the new transport beside a registration of the endpoint.
    pub(crate) fn add_unix(&mut self, index: u32, id: Id, events: u32) -> bool {
        let tag = self.tag(index);
        let Some(r) = self.at(index) else { return false };
        r.unix = id.local().unix.register(r.epfd, events, tag);
        r.unix.is_there()
    }

    /// Forgets the new transport's registration without touching the kernel's.
    pub(crate) fn forget_unix(&mut self, index: u32, id: Id) {
        let Some(r) = self.at(index) else { return };
        id.local().unix.forget(core::mem::replace(&mut r.unix, Registered::NOT));
    }

    /// Removes the new transport's registration.
    pub(crate) fn remove_unix(&mut self, index: u32, id: Id) {
        let Some(r) = self.at(index) else { return };
        id.local().unix.unregister(r.epfd, core::mem::replace(&mut r.unix, Registered::NOT));
    }

    /// The tag that identifies a registration while its endpoint is Dual.
    pub(crate) fn tag(&mut self, index: u32) -> u64 {
        let generation = self.at(index).map_or(0, |r| r.generation);
        tag_base() | u64::from(generation) << 17 | u64::from(index - 1)
    }
}
