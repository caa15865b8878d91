//! The descriptor table: one word for every descriptor number of this process, and the numbers the shim keeps for
//! itself.
//!
//! ```text
//!   31            16 15         3 2    0
//!   ┌───────────────┬────────────┬──────┐
//!   │ endpoint index│ generation │ kind │   0: not ours
//!   └───────────────┴────────────┴──────┘
//! ```
//!
//! The fast path of every call is one load and one comparison (see [`needs_us`]).

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};

use libc::c_int;

use crate::endpoint::{Id, Pinned};
use crate::host::guard::NoSignals;
use crate::host::process;
use crate::sys;

/// Descriptor numbers that the table knows; higher ones are never ours.
pub const FD_SLOTS: usize = 1 << 20;

/// What a descriptor number is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u32)]
pub enum Kind {
    /// Not ours.
    Other = 0,
    /// An endpoint that stays on TCP.
    Stay = 1,
    /// A descriptor of the shim, invisible to the program.
    Hidden = 2,
    /// An epoll instance that has registrations of endpoints.
    Epoll = 3,
    /// An endpoint that is a Unix-domain socket now.
    Final = 4,
    /// An endpoint in any phase before that.
    Active = 5,
    /// An endpoint whose descriptor is being replaced.
    Busy = 6,
    /// An endpoint on TCP of a process that may make no other calls than the program's: what it moves is counted.
    Counted = 7,
}

impl Kind {
    fn of(entry: u32) -> Kind {
        match entry & 7 {
            1 => Kind::Stay,
            2 => Kind::Hidden,
            3 => Kind::Epoll,
            4 => Kind::Final,
            5 => Kind::Active,
            6 => Kind::Busy,
            7 => Kind::Counted,
            _ => Kind::Other,
        }
    }
}

static FDS: [AtomicU32; FD_SLOTS] = [const { AtomicU32::new(0) }; FD_SLOTS];
/// One more than the highest number that ever had an entry.
static HIGH: AtomicU32 = AtomicU32::new(0);

fn slot(fd: c_int) -> Option<&'static AtomicU32> {
    FDS.get(fd as u32 as usize)
}

/// Whether reading and writing the descriptor needs more than the real function: it is an endpoint, and not final.
#[inline(always)]
pub fn needs_us(fd: c_int) -> bool {
    slot(fd).is_some_and(|s| s.load(Relaxed) & 7 >= Kind::Active as u32)
}

/// Whether the descriptor is an endpoint that does not simply stay on TCP.
#[inline(always)]
pub fn is_ours(fd: c_int) -> bool {
    slot(fd).is_some_and(|s| s.load(Relaxed) & 7 >= Kind::Final as u32)
}

/// What the descriptor number is.
pub fn kind(fd: c_int) -> Kind {
    slot(fd).map_or(Kind::Other, |s| Kind::of(s.load(Acquire)))
}

/// Whether the program made or was given this number as one of its connections (in any state).
pub fn is_endpoint(fd: c_int) -> bool {
    matches!(kind(fd), Kind::Stay | Kind::Final | Kind::Active | Kind::Busy | Kind::Counted)
}

/// The endpoint of a number that is only counted.
pub fn counted(fd: c_int) -> Option<Id> {
    let entry = slot(fd)?.load(Acquire);
    (Kind::of(entry) == Kind::Counted).then_some(Id { index: entry >> 16 })
}

/// The endpoint of an active number, not pinned: it may be another one by the time that it is looked at.
pub fn hint(fd: c_int) -> Option<Id> {
    let entry = slot(fd)?.load(Acquire);
    (Kind::of(entry) == Kind::Active).then_some(Id { index: entry >> 16 })
}

fn word(id: Id, kind: Kind) -> u32 {
    id.index << 16 | (id.generation_bits() & 0x1fff) << 3 | kind as u32
}

/// The endpoint behind a descriptor, pinned, and what the descriptor is at the moment.
pub fn lookup(fd: c_int) -> Option<(Pinned, Kind)> {
    let slot = slot(fd)?;
    loop {
        let entry = slot.load(Acquire);
        let kind = Kind::of(entry);
        match kind {
            Kind::Stay | Kind::Final | Kind::Active => {}
            Kind::Busy => {
                sys::yield_now();
                continue;
            }
            _ => return None,
        }
        let id = Id { index: entry >> 16 };
        let Some(pinned) = id.pin() else {
            if slot.load(Acquire) == entry {
                // The endpoint ended while its number was closed by another thread.
                return None;
            }
            continue;
        };
        if slot.load(SeqCst) != entry {
            continue;
        }
        if kind == Kind::Active && pinned.endpoint().phase() == crate::switch::Phase::Stay {
            // Decided by another process of the family, which has entries of its own.
            let _ = slot.compare_exchange(entry, word(*pinned, Kind::Stay), SeqCst, SeqCst);
            return Some((pinned, Kind::Stay));
        }
        return Some((pinned, kind));
    }
}

/// Puts a new descriptor number of the endpoint into the table. The number is a pin of its own, so that the endpoint
/// lasts as long as any number does; the caller has one, too.
pub fn bind(fd: c_int, id: Id, kind: Kind) -> bool {
    let Some(slot) = slot(fd) else { return false };
    let l = id.local();
    l.pins.pin();
    l.fds.fetch_add(1, SeqCst);
    l.fd.store(fd, SeqCst);
    HIGH.fetch_max(fd as u32 + 1, Relaxed);
    slot.store(word(id, kind), SeqCst);
    true
}

/// Puts a number into the table that nobody may use before it is known what it is ([`publish`] says so).
pub fn bind_reserved(fd: c_int, id: Id) -> bool {
    bind(fd, id, Kind::Busy)
}

/// Marks a number that is not an endpoint (a hidden descriptor, an epoll instance).
pub fn mark(fd: c_int, kind: Kind) {
    if let Some(slot) = slot(fd) {
        HIGH.fetch_max(fd as u32 + 1, Relaxed);
        slot.store(kind as u32, SeqCst);
    }
}

/// Beside [`Kind::Epoll`]: the program was seen to wait for its events, and to register endpoints with it.
const WAITED_FOR: u32 = 1 << 3;
const REGISTERED: u32 = 1 << 4;

/// The program has waited for events of an epoll instance.
#[inline]
pub fn note_wait(epfd: c_int) {
    if !instance_has(epfd, WAITED_FOR) {
        note_instance(epfd, WAITED_FOR);
    }
}

/// The program has registered an endpoint with an epoll instance.
pub fn note_registration(epfd: c_int) {
    note_instance(epfd, REGISTERED);
}

#[cold]
fn note_instance(epfd: c_int, what: u32) {
    let Some(slot) = slot(epfd).filter(|_| matches!(kind(epfd), Kind::Other | Kind::Epoll)) else { return };
    HIGH.fetch_max(epfd as u32 + 1, Relaxed);
    slot.fetch_or(Kind::Epoll as u32 | what, SeqCst);
}

fn instance_has(epfd: c_int, what: u32) -> bool {
    let wanted = Kind::Epoll as u32 | what;
    slot(epfd).is_some_and(|slot| slot.load(Relaxed) & (7 | what) == wanted)
}

/// Whether the program was seen to wait for events of an epoll instance.
pub fn is_waited_for(epfd: c_int) -> bool {
    instance_has(epfd, WAITED_FOR)
}

/// Whether the program was seen to register endpoints with an epoll instance.
pub fn is_registered_with(epfd: c_int) -> bool {
    instance_has(epfd, REGISTERED)
}

/// Takes a number out of the table, because the program closes it or the kernel has handed it out anew. If it was the
/// endpoint's last in this process, the endpoint is let go.
pub fn forget(fd: c_int) {
    if slot(fd).is_some_and(|slot| slot.load(Relaxed) != 0) && process::is_announced() {
        forget_ours(fd);
    }
}

/// The same where it is known that the tables are this process's own.
pub fn forget_ours(fd: c_int) {
    let Some(slot) = slot(fd) else { return };
    let entry = loop {
        let entry = slot.load(Acquire);
        if entry == 0 {
            return;
        } else if Kind::of(entry) == Kind::Busy {
            sys::yield_now();
        } else if slot.compare_exchange(entry, 0, SeqCst, SeqCst).is_ok() {
            break entry;
        }
    };
    match Kind::of(entry) {
        Kind::Stay | Kind::Final | Kind::Active | Kind::Counted => drop_number(Id { index: entry >> 16 }),
        Kind::Epoll => crate::epoll::instance_closed(fd),
        _ => {}
    }
}

fn drop_number(id: Id) {
    id.local().fds.fetch_sub(1, SeqCst);
    id.unpin();
}

/// Every number of the program that is this endpoint.
pub fn numbers_of(id: Id) -> impl Iterator<Item = c_int> {
    let l = id.local();
    let single = l.fds.load(SeqCst) == 1;
    let first = l.fd.load(SeqCst);
    let known = single && first >= 0 && is_number_of(first, id);
    let range = if known { first..first + 1 } else { 0..HIGH.load(Relaxed) as c_int };
    range.filter(move |fd| is_number_of(*fd, id))
}

pub fn is_number_of(fd: c_int, id: Id) -> bool {
    slot(fd).is_some_and(|s| {
        let entry = s.load(SeqCst);
        entry & !7 == word(id, Kind::Other) && is_endpoint(fd)
    })
}

/// Gives every number of the endpoint another kind.
pub fn settle(id: Id, kind: Kind) {
    for fd in numbers_of(id) {
        if let Some(slot) = slot(fd) {
            let _ = slot.compare_exchange(word(id, Kind::Active), word(id, kind), SeqCst, SeqCst);
        }
    }
}

/// Makes numbers of that kind active ones again.
pub fn unsettle(id: Id, kind: Kind) {
    for fd in numbers_of(id) {
        if let Some(slot) = slot(fd) {
            let _ = slot.compare_exchange(word(id, kind), word(id, Kind::Active), SeqCst, SeqCst);
        }
    }
}

/// Reserves a number of the endpoint for replacement, so that no close of it can come between; false if it is not an
/// active number of the endpoint any more.
pub fn reserve(fd: c_int, id: Id) -> bool {
    slot(fd).is_some_and(|s| s.compare_exchange(word(id, Kind::Active), word(id, Kind::Busy), SeqCst, SeqCst).is_ok())
}

/// Ends a reservation.
pub fn publish(fd: c_int, id: Id, kind: Kind) {
    if let Some(slot) = slot(fd) {
        slot.store(word(id, kind), SeqCst);
    }
}

/// The numbers from `from` to `to` (inclusive) that have an entry.
pub fn marked(from: c_int, to: c_int) -> impl Iterator<Item = c_int> {
    let end = to.saturating_add(1).min(HIGH.load(Relaxed) as c_int);
    (from..end).filter(|fd| kind(*fd) != Kind::Other)
}

/// Moves a descriptor of the shim to a number the program does not see. The old number is closed.
pub fn hide(fd: c_int) -> Option<c_int> {
    let hidden = duplicate_hidden(fd);
    sys::close(fd);
    hidden
}

/// A hidden duplicate of a descriptor: at or above the program's own limit, which is lifted up to the hard one for just
/// this call. Where there is nothing between the two, the upper quarter of the numbers is used.
pub fn duplicate_hidden(fd: c_int) -> Option<c_int> {
    let turn = Turn::take();
    let (soft, hard) = sys::nofile(None).ok()?;
    let reachable = hard.min(FD_SLOTS as u64);
    let hidden = if reachable > soft && sys::nofile(Some((reachable, hard))).is_ok() {
        let hidden = sys::dup_above(fd, soft as c_int);
        let _ = sys::nofile(Some((soft, hard)));
        hidden
    } else {
        sys::dup_above(fd, (soft.min(reachable) / 4 * 3) as c_int)
    } as c_int;
    drop(turn);
    if hidden < 0 {
        return None;
    }
    if hidden as usize >= FD_SLOTS {
        sys::close(hidden);
        return None;
    }
    mark(hidden, Kind::Hidden);
    Some(hidden)
}

/// One thread at a time changes the limit, the program's own changes included; signals wait.
pub struct Turn {
    _no_signals: NoSignals,
}

static CHANGING: AtomicBool = AtomicBool::new(false);

impl Turn {
    pub fn take() -> Turn {
        let signals = NoSignals::hold();
        while CHANGING.swap(true, SeqCst) {
            sys::yield_now();
        }
        Turn { _no_signals: signals }
    }

    /// In the child of a fork: the thread whose turn it was may not exist here.
    pub fn reset() {
        if CHANGING.load(Relaxed) {
            CHANGING.store(false, SeqCst);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        CHANGING.store(false, SeqCst);
    }
}

/// Closes a descriptor of the shim.
pub fn close_hidden(fd: c_int) {
    if let Some(slot) = slot(fd) {
        slot.store(0, SeqCst);
    }
    sys::close(fd);
}

/// Forgets every number except the hidden ones.
pub fn clear() {
    for slot in FDS.iter().take(HIGH.load(Relaxed) as usize) {
        if Kind::of(slot.load(Relaxed)) != Kind::Hidden {
            slot.store(0, SeqCst);
        }
    }
}

/// Whether a call on the number may go to the endpoint. Where a hidden descriptor stands for it, only if the number is the
/// endpoint's socket still; otherwise the call goes to the number itself, and to whatever that is by now.
#[cold]
pub fn is_callable(fd: c_int) -> bool {
    hint(fd).is_some_and(|id| id.local().tcp.load(Acquire) < 0) || still_socket(fd)
}

/// Notes that the program writes to a number that is the new socket, or gives it to somebody who may. Not pinned: at worst
/// an endpoint that has just begun in the same memory is said to have been written to, and a reset of it is believed.
#[inline]
pub fn note_written(fd: c_int) {
    if let Some(entry) = slot(fd).map(|s| s.load(Relaxed)).filter(|e| Kind::of(*e) == Kind::Final) {
        let wrote = &Id { index: entry >> 16 }.endpoint().wrote;
        if !wrote.load(Relaxed) {
            wrote.store(true, Relaxed);
        }
    }
}

/// Whether an active number is the endpoint's socket still. Where a descriptor was closed unseen (fclose, a raw system
/// call) and the number is another file by now, the entry is forgotten.
#[cold]
pub fn still_socket(fd: c_int) -> bool {
    let Some((id, kind)) = lookup(fd) else { return false };
    if kind != Kind::Active {
        return true;
    }
    let birth = id.endpoint().phase() > crate::switch::Phase::Connecting;
    match sys::getsockopt::<u64>(fd, libc::SOL_SOCKET, libc::SO_COOKIE) {
        Ok(cookie) if !birth || cookie == id.endpoint().birth().cookie => true,
        // Another thread has replaced it since.
        Ok(_) if id.endpoint().phase() == crate::switch::Phase::Final => true,
        _ => {
            forget_exact(fd, word(*id, Kind::Active));
            false
        }
    }
}

/// Whether a final number is the endpoint's new socket still. If not, its entry is forgotten.
pub fn still_final(fd: c_int, id: Id) -> bool {
    let is = is_final_now(fd, id);
    if !is {
        forget_exact(fd, word(id, Kind::Final));
    }
    is
}

/// The same, without forgetting.
pub fn is_final_now(fd: c_int, id: Id) -> bool {
    let cookie = sys::getsockopt::<u64>(fd, libc::SOL_SOCKET, libc::SO_COOKIE);
    cookie == Ok(id.local().unix_cookie.load(Relaxed))
}

/// Forgets a number only if its entry is this one: another thread may have moved on meanwhile.
fn forget_exact(fd: c_int, entry: u32) {
    if let Some(slot) = slot(fd)
        && process::is_announced()
        && slot.compare_exchange(entry, 0, SeqCst, SeqCst).is_ok()
    {
        drop_number(Id { index: entry >> 16 });
    }
}
