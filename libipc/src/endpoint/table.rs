//! The table of endpoints: which memory belongs to which endpoint, and what this process knows of each.

use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering::*};

use libc::c_int;

use super::state::{Birth, Endpoint};
use crate::family::{self, Family, Holders, MAX_ENDPOINTS, Room, family};
use crate::pins::Pins;
use crate::symbols::real;
use crate::transport::unix::NewSocket;
use crate::{fds, sys};

/// See [`Local::tries`].
const TRIES: i32 = 64;
/// How much of the table is used at first.
const FEW: u32 = 256;

/// What this process knows of an endpoint. Descriptor numbers are -1 where there is none.
pub(crate) struct Local {
    /// Counts the descriptor numbers that are the endpoint, and the calls in progress on it.
    pub pins: Pins,
    /// How many descriptor numbers of the program are the endpoint.
    pub fds: AtomicU32,
    /// One of these numbers.
    pub fd: AtomicI32,
    /// The granted socket, not adopted yet.
    pub grant: NewSocket,
    /// The new transport, until final.
    pub unix: NewSocket,
    /// The TCP socket under a hidden number, from adoption on.
    pub tcp: AtomicI32,
    /// How many more calls put off the step to final, if ipcd has no room for the report of it.
    pub tries: AtomicI32,
    /// Reading calls that wait on TCP alone and cannot be woken by the shim. Only those of this process matter: a process
    /// adopts only as the sole holder.
    pub deaf_readers: AtomicU32,
    /// The connection to ipcd on which this process reported the endpoint; 0: none.
    pub claimed: AtomicU32,
    /// `SO_COOKIE` of the new socket, once final.
    pub unix_cookie: AtomicU64,
    /// ipcd was passed the TCP socket and has not answered: it may have a copy of it.
    pub lent: AtomicBool,
    /// The program has asked for ancillary data beside the bytes (`calls::control`).
    pub told_more: AtomicBool,
    /// A list of file actions names one of the numbers (posix_spawn_file_actions_adddup2(3)).
    pub named: AtomicBool,
    /// The program waits for the endpoint with poll or select.
    pub polled: AtomicBool,
    /// How many reads found nothing since one found something, or a mark that the last read waited (see `waits`).
    pub empty_reads: AtomicU32,
    /// This process has brought the endpoint between the transports, and it is still there.
    pub between: AtomicBool,
    /// How many reads in a row found bytes at once, and how often their thread had slept before (a hash of both).
    pub flow: AtomicU32,
    pub slept: AtomicU32,
    /// How often `waits::are_to_be_looked_at` was asked.
    pub looks: AtomicU32,
    /// The first epoll registration (an index of the pool in `readiness::registrations`), plus one.
    pub registrations: AtomicU32,
}

/// A reference to an endpoint, valid while the process pins it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id {
    pub index: u32,
}

#[cfg(not(all(test, loom)))]
const _: () = assert!(size_of::<Endpoint>() == size_of::<Room>() && align_of::<Endpoint>() == align_of::<Room>());

static TABLE: AtomicPtr<Room> = AtomicPtr::new(core::ptr::null_mut());
static HOLDERS: AtomicPtr<Holders> = AtomicPtr::new(core::ptr::null_mut());
static LOCALS: AtomicPtr<Local> = AtomicPtr::new(core::ptr::null_mut());

/// The function of a higher floor that is called with an endpoint that this process no longer has.
static RELEASED: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Called when nothing in this process uses the endpoint any more.
fn released(id: Id) {
    let at = RELEASED.load(Acquire);
    if !at.is_null() {
        // SAFETY: only `prepare` stores there, functions of this type.
        let call: fn(Id) = unsafe { core::mem::transmute(at) };
        call(id);
    }
}

/// Makes the tables if they are not there; false if there is no memory for them. `on_release` is called with each
/// endpoint that this process no longer has.
pub(crate) fn prepare(on_release: fn(Id)) -> bool {
    if !TABLE.load(Acquire).is_null() {
        return true;
    }
    let private = sys::map_memory(MAX_ENDPOINTS * size_of::<Local>(), false).cast::<Local>();
    let shared = family::found();
    if shared.is_null() || private.is_null() {
        return false;
    }
    // Two threads may come here at once: the table of the one that loses stays mapped, untouched.
    let _ = LOCALS.compare_exchange(core::ptr::null_mut(), private, AcqRel, Acquire);
    RELEASED.store(on_release as *mut (), Release);
    // SAFETY: just mapped.
    HOLDERS.store(unsafe { &raw mut (*shared).holders }.cast(), Release);
    // SAFETY: as above.
    TABLE.store(unsafe { &raw mut (*shared).endpoints }.cast(), Release);
    real::find_all();
    true
}

/// One more than the largest index ever used in the family.
fn used() -> u32 {
    family().map_or(0, |f| f.used.load(Relaxed))
}

impl Id {
    /// The endpoint. Callers hold a pin or have just found it in the descriptor table.
    pub(crate) fn endpoint(self) -> &'static Endpoint {
        let at = self.index as usize % MAX_ENDPOINTS;
        // SAFETY: an Id exists only after `prepare` mapped the tables, which are never unmapped; an
        // Endpoint is made of atomics, for each of which every value in the memory is valid.
        unsafe { &*TABLE.load(Relaxed).add(at).cast::<Endpoint>() }
    }

    /// The processes that hold descriptors of the endpoint. None: its memory is free.
    pub(crate) fn holders(self) -> &'static Holders {
        let at = self.index as usize % MAX_ENDPOINTS;
        // SAFETY: as above; Holders is made of atomics.
        unsafe { &*HOLDERS.load(Relaxed).add(at) }
    }

    pub(crate) fn local(self) -> &'static Local {
        let at = self.index as usize % MAX_ENDPOINTS;
        // SAFETY: as above; Local is made of atomics.
        unsafe { &*LOCALS.load(Relaxed).add(at) }
    }

    /// The handle that ipcd echoes: index and generation.
    pub(crate) fn token(self) -> u64 {
        u64::from(self.generation()) << 32 | u64::from(self.index)
    }

    /// The endpoint of a token, if this process still holds the same one; pinned.
    pub(crate) fn from_token(token: u64) -> Option<Pinned> {
        let id = Id { index: token as u32 };
        if id.index >= used() {
            return None;
        }
        let pinned = id.pin()?;
        (id.token() == token && id.local().fds.load(Relaxed) > 0).then_some(pinned)
    }

    /// Keeps the entry from being reused while a call works with it; `None` if this process does not hold it.
    pub(crate) fn pin(self) -> Option<Pinned> {
        self.local().pins.pin().then_some(Pinned(self))
    }

    /// Takes a pin away; with the last one this process releases the endpoint.
    pub(crate) fn unpin(self) {
        if self.local().pins.unpin() {
            released(self);
        }
    }

    /// See [`Endpoint::receive`]; `tcp` is the hidden number of the TCP socket.
    pub(crate) fn receive(self, birth: Birth, tcp: c_int) -> bool {
        self.endpoint().receive(birth, || self.local().tcp.store(tcp, SeqCst))
    }

    /// How often the endpoint's memory was used before.
    pub(crate) fn generation(self) -> u32 {
        self.endpoint().generation()
    }
}

/// A pinned endpoint.
pub(crate) struct Pinned(Id);

impl core::ops::Deref for Pinned {
    type Target = Id;
    fn deref(&self) -> &Id {
        &self.0
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.0.unpin();
    }
}

/// A new endpoint in phase Connecting, held by this process, with no descriptor yet.
pub(crate) fn allocate(on_release: fn(Id)) -> Option<Pinned> {
    if !prepare(on_release) {
        return None;
    }
    let family = family()?;
    loop {
        let limit = family.limit.load(Relaxed).max(FEW);
        if let Some(id) = claim_below(limit, family) {
            reset(id);
            return Some(Pinned(id));
        }
        if limit as usize == MAX_ENDPOINTS {
            return None;
        }
        widen(family, limit);
    }
}

/// Takes free memory among the first `limit`, round robin.
fn claim_below(limit: u32, family: &Family) -> Option<Id> {
    let start = family.next.load(Relaxed);
    for step in 0..limit {
        let id = Id { index: (start + step) % limit };
        if step == 64 {
            family::reclaim_dead();
        }
        if !id.holders().claim(family::slot()) {
            continue;
        }
        family.next.store(id.index + 1, Relaxed);
        family.used.fetch_max(id.index + 1, Relaxed);
        // The search has come around. As long as half of this part is free, it is not made larger: the next free entry is
        // found soon, and fork, which looks through the table, has little to look through.
        let live = || (0..limit).filter(|index| Id { index: *index }.holders().is_any()).count();
        if start % limit + step + 1 >= limit && live() as u32 > limit / 2 {
            widen(family, limit);
        }
        return Some(id);
    }
    None
}

fn widen(family: &Family, limit: u32) {
    family.limit.fetch_max((2 * limit).min(MAX_ENDPOINTS as u32), Relaxed);
}

fn reset(id: Id) {
    id.endpoint().reset();
    begin_local(id);
    id.endpoint().begin();
}

/// This process begins to hold the endpoint, with no descriptor yet.
fn begin_local(id: Id) {
    let l = id.local();
    for fd in [&l.fd, &l.tcp] {
        fd.store(-1, Relaxed);
    }
    for socket in [&l.grant, &l.unix] {
        socket.reset();
    }
    l.fds.store(0, Relaxed);
    l.registrations.store(0, Relaxed);
    l.polled.store(false, Relaxed);
    l.lent.store(false, Relaxed);
    l.empty_reads.store(0, Relaxed);
    l.between.store(false, Relaxed);
    l.looks.store(0, Relaxed);
    l.flow.store(0, Relaxed);
    l.slept.store(0, Relaxed);
    l.named.store(false, Relaxed);
    l.told_more.store(false, Relaxed);
    l.tries.store(TRIES, Relaxed);
    l.unix_cookie.store(0, Relaxed);
    l.claimed.store(0, Relaxed);
    l.deaf_readers.store(0, Relaxed);
    l.pins.hold();
}

/// The endpoint of an index, if this process's slot is among the holders of this generation: so a program finds the
/// endpoints of the program before it (exec). Locks that threads of that program held are freed.
pub(crate) fn resume(index: u32, generation: u32) -> Option<Pinned> {
    let id = Id { index };
    if index >= used() || id.generation() != generation || !id.holders().has(family::slot()) {
        return None;
    }
    begin_local(id);
    id.endpoint().free_own_locks();
    Some(Pinned(id))
}

/// Every endpoint that this process holds.
pub(crate) fn held() -> impl Iterator<Item = Id> + Clone {
    let slot = family::slot();
    (0..used()).map(|index| Id { index }).filter(move |id| id.holders().has(slot))
}

/// Every endpoint of the table, held or not.
pub(super) fn all() -> impl Iterator<Item = Id> {
    (0..used()).map(|index| Id { index })
}

/// The TCP socket of an endpoint: hidden once adopted, before that the program's own descriptor.
pub(crate) fn tcp_fd(id: Id, fd: c_int) -> c_int {
    match id.local().tcp.load(Acquire) {
        -1 => fd,
        hidden => hidden,
    }
}

/// Closes the hidden TCP socket.
pub(crate) fn close_tcp(id: Id) {
    let tcp = id.local().tcp.swap(-1, SeqCst);
    if tcp >= 0 {
        fds::close_hidden(tcp);
    }
}

/// Called in the child of a fork, which is among the holders already: it has the numbers that its copy of the tables
/// says, and no call is in progress.
pub(crate) fn adopt_in_child() {
    // Only what changes is written: the child shares each page with the parent until one of them writes to it.
    for l in all().map(Id::local) {
        if l.deaf_readers.load(Relaxed) != 0 {
            l.deaf_readers.store(0, Relaxed);
        }
        let fds = l.fds.load(Relaxed);
        if fds > 0 && l.pins.users() != fds {
            l.pins.hold();
            for _ in 1..fds {
                l.pins.pin();
            }
        }
    }
}

/// Called in a child that found no slot in the family: it starts a family of its own, and the descriptors that it has
/// inherited stay as they are.
pub(crate) fn abandon() {
    fds::clear();
    TABLE.store(core::ptr::null_mut(), SeqCst);
    HOLDERS.store(core::ptr::null_mut(), SeqCst);
    LOCALS.store(core::ptr::null_mut(), SeqCst);
    family::leave();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> Pinned {
        fn released(id: Id) {
            id.holders().remove(family::slot());
        }
        allocate(released).expect("free memory")
    }

    #[test]
    fn the_table_grows_with_what_is_live_and_not_with_what_was() {
        let mut live: Vec<Pinned> = (0..100).map(|_| new()).collect();
        for i in 0..10_000 {
            live[i % 100] = new();
        }
        assert!(used() <= FEW, "{} entries for 101 endpoints", used());
        live.extend((0..1000).map(|_| new()));
        for i in 0..10_000 {
            live[i % 1100] = new();
        }
        assert!(used() <= 4096, "{} entries for 1101 endpoints", used());
        let indices: std::collections::HashSet<u32> = live.iter().map(|id| id.index).collect();
        assert_eq!(indices.len(), live.len(), "each its own");
    }
}
