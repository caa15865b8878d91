//! The descriptor table: one word for every descriptor number of this process.
//!
//! ```text
//!   31            16 15         3 2    0
//!   ┌───────────────┬────────────┬──────┐
//!   │ endpoint index│ generation │ kind │   0: no entry
//!   └───────────────┴────────────┴──────┘
//! ```
//!
//! The fast path of every call is one load and one comparison (see [`needs_us`]).

use core::sync::atomic::{AtomicU32, Ordering::*};

use libc::c_int;

use crate::sys;

/// How many descriptor numbers the table has; higher ones never have an entry.
pub(crate) const FD_SLOTS: usize = 1 << 20;

/// What a descriptor number is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u32)]
pub(crate) enum Kind {
    /// A number without an entry.
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
    /// An endpoint on TCP of a confined process, in which only the program makes calls: the bytes they move are counted.
    Counted = 7,
}

/// What the table says of a number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(u32);

impl Word {
    /// Of a number without an entry.
    pub(crate) const NONE: Word = Word(0);

    /// The number is the endpoint at `index` of the endpoints' table; `generation` counts the uses of that place.
    pub(crate) fn of_endpoint(index: u32, generation: u32, kind: Kind) -> Word {
        Word(index << 16 | (generation & 0x1fff) << 3 | kind as u32)
    }

    /// What the number is.
    pub(crate) fn kind(self) -> Kind {
        match self.0 & 7 {
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

    /// The endpoint's place in the endpoints' table, if the number is an endpoint.
    pub(crate) fn index(self) -> u32 {
        self.0 >> 16
    }

    /// Whether both name the same use of the same place.
    pub(crate) fn is_same_endpoint(self, other: Word) -> bool {
        self.0 & !7 == other.0 & !7
    }
}

static FDS: [AtomicU32; FD_SLOTS] = [const { AtomicU32::new(0) }; FD_SLOTS];
/// One more than the highest number that ever had an entry.
static HIGH: AtomicU32 = AtomicU32::new(0);

fn slot(fd: c_int) -> Option<&'static AtomicU32> {
    FDS.get(fd as u32 as usize)
}

/// What the table says of a number.
pub(crate) fn word(fd: c_int) -> Word {
    slot(fd).map_or(Word::NONE, |s| Word(s.load(SeqCst)))
}

/// Makes an entry; false if the number is above all that the table knows.
pub(crate) fn put(fd: c_int, word: Word) -> bool {
    let Some(slot) = slot(fd) else { return false };
    HIGH.fetch_max(fd as u32 + 1, Relaxed);
    slot.store(word.0, SeqCst);
    true
}

/// Puts `to` in the place of `from`; false if the entry is another one.
pub(crate) fn change(fd: c_int, from: Word, to: Word) -> bool {
    slot(fd).is_some_and(|s| s.compare_exchange(from.0, to.0, SeqCst, SeqCst).is_ok())
}

/// Takes an entry out. If the number is being replaced, this waits until it has been.
pub(crate) fn take(fd: c_int) -> Word {
    loop {
        let word = word(fd);
        if word == Word::NONE || word.kind() != Kind::Busy && change(fd, word, Word::NONE) {
            return word;
        }
        if word.kind() == Kind::Busy {
            sys::yield_now();
        }
    }
}

/// One more than the highest number that ever had an entry.
pub(crate) fn used() -> c_int {
    HIGH.load(Relaxed) as c_int
}

/// Whether reading and writing the descriptor needs more than the real function: it is an endpoint, and not final.
#[inline(always)]
pub(crate) fn needs_us(fd: c_int) -> bool {
    slot(fd).is_some_and(|s| s.load(Relaxed) & 7 >= Kind::Active as u32)
}

/// Whether the descriptor is an endpoint that does not simply stay on TCP.
#[inline(always)]
pub(crate) fn is_ours(fd: c_int) -> bool {
    slot(fd).is_some_and(|s| s.load(Relaxed) & 7 >= Kind::Final as u32)
}

/// What the descriptor number is.
pub(crate) fn kind(fd: c_int) -> Kind {
    slot(fd).map_or(Kind::Other, |s| Word(s.load(Acquire)).kind())
}

/// Whether the program made or was given this number as one of its connections (in any state).
pub(crate) fn is_endpoint(fd: c_int) -> bool {
    matches!(kind(fd), Kind::Stay | Kind::Final | Kind::Active | Kind::Busy | Kind::Counted)
}

/// Marks a number that is not an endpoint (a hidden descriptor, an epoll instance).
pub(crate) fn mark(fd: c_int, kind: Kind) {
    put(fd, Word(kind as u32));
}

/// Bits beside [`Kind::Epoll`]: the program was seen to wait for the instance's events; to register endpoints with it.
const WAITED_FOR: u32 = 1 << 3;
const REGISTERED: u32 = 1 << 4;

/// The program has waited for events of an epoll instance.
#[inline]
pub(crate) fn note_wait(epfd: c_int) {
    if !instance_has(epfd, WAITED_FOR) {
        note_instance(epfd, WAITED_FOR);
    }
}

/// The program has registered an endpoint with an epoll instance.
pub(crate) fn note_registration(epfd: c_int) {
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
pub(crate) fn is_waited_for(epfd: c_int) -> bool {
    instance_has(epfd, WAITED_FOR)
}

/// Whether the program was seen to register endpoints with an epoll instance.
pub(crate) fn is_registered_with(epfd: c_int) -> bool {
    instance_has(epfd, REGISTERED)
}

/// The numbers from `from` to `to` (inclusive) that have an entry.
pub(crate) fn marked(from: c_int, to: c_int) -> impl Iterator<Item = c_int> {
    let end = to.saturating_add(1).min(used());
    (from..end).filter(|fd| kind(*fd) != Kind::Other)
}

/// Forgets every number except the hidden ones.
pub(crate) fn clear() {
    for slot in FDS.iter().take(HIGH.load(Relaxed) as usize) {
        if Word(slot.load(Relaxed)).kind() != Kind::Hidden {
            slot.store(0, SeqCst);
        }
    }
}
