//! Processes: who holds an endpoint. A family of forked processes shares the endpoint table; each has a slot in it.

use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};

use libc::{c_int, c_void};

use crate::endpoint;
use crate::hooks::symbol;
use crate::{daemon, epoll, fds, park, sys};

const WORDS: usize = 4;
/// Processes of one family that can hold endpoints at the same time.
pub const SLOTS: usize = WORDS * 64;
/// A slot that a parent took for the child of a fork in progress.
const PENDING: i32 = -1;

/// The processes that hold an endpoint, a bit per slot.
#[repr(C)]
pub struct Holders([AtomicU64; WORDS]);

struct Slots([AtomicI32; SLOTS]);

/// Shared by fork; null before the first endpoint.
static SLOT_PIDS: AtomicPtr<Slots> = AtomicPtr::new(core::ptr::null_mut());
/// This process's slot, and the one its next child gets.
static SLOT: AtomicUsize = AtomicUsize::new(0);
static CHILD_SLOT: AtomicUsize = AtomicUsize::new(SLOTS);
/// The process that the statics describe: another one is a child that no hook announced.
static OWNER: AtomicI32 = AtomicI32::new(0);

/// This process's slot in the family.
pub fn slot() -> usize {
    SLOT.load(Relaxed)
}

/// Whether the statics describe the calling process. Not so in the child of a raw clone or of `_Fork`, and not in the
/// child of vfork, which runs in its parent's memory with descriptors of its own: what it closes there, its parent
/// still has.
pub fn is_announced() -> bool {
    OWNER.load(Relaxed) == sys::getpid()
}

fn slots() -> Option<&'static Slots> {
    // SAFETY: null or mapped by `register`, never unmapped, and made of atomics.
    unsafe { SLOT_PIDS.load(Acquire).as_ref() }
}

/// Gives the first process of a family its slot. False if there is no memory for it.
pub fn register() -> bool {
    let at = sys::map_memory(size_of::<Slots>(), true).cast::<Slots>();
    if at.is_null() {
        return false;
    }
    let _ = SLOT_PIDS.compare_exchange(core::ptr::null_mut(), at, AcqRel, Acquire);
    if let Some(pid) = slots().and_then(|s| s.0.first()) {
        pid.store(sys::getpid(), Relaxed);
    }
    true
}

impl Holders {
    fn word(&self, slot: usize) -> (&AtomicU64, u64) {
        (&self.0[slot / 64 % WORDS], 1 << (slot % 64))
    }

    /// Takes free memory for `slot`; false if it is not free.
    pub fn claim(&self, slot: usize) -> bool {
        if self.0.iter().any(|w| w.load(Relaxed) != 0) {
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

fn is_dead(slot: usize) -> bool {
    match slots().and_then(|s| s.0.get(slot)).map(|pid| pid.load(Acquire)) {
        Some(0) | None => true,
        Some(PENDING) => false,
        Some(pid) => sys::process_ended(pid),
    }
}

/// Frees the slots of dead processes, and what only they held. False if nothing was found.
pub fn reclaim_dead() -> bool {
    let Some(slots) = slots() else { return false };
    let mut found = false;
    for (slot, pid) in slots.0.iter().enumerate() {
        if pid.load(Relaxed) != 0 && slot != self::slot() && is_dead(slot) {
            endpoint::all().for_each(|id| {
                id.endpoint().holders.remove(slot);
            });
            pid.store(0, Release);
            found = true;
        }
    }
    found
}

fn take_slot() -> usize {
    let Some(slots) = slots() else { return SLOTS };
    let free = |pid: &AtomicI32| pid.compare_exchange(0, PENDING, AcqRel, Relaxed).is_ok();
    if let Some(slot) = slots.0.iter().position(free) {
        return slot;
    }
    reclaim_dead();
    slots.0.iter().position(free).unwrap_or(SLOTS)
}

/// Before fork: whatever this process holds, the child will hold too. From here on nobody may adopt it alone.
pub extern "C" fn before_fork() {
    epoll::hold_over_fork();
    if slots().is_none() {
        return;
    }
    let child = take_slot();
    CHILD_SLOT.store(child, SeqCst);
    for id in endpoint::held() {
        match child {
            SLOTS => drop(endpoint::stay(id, matcher::reason::Reason::TableFull)),
            _ => id.endpoint().holders.add(child),
        }
    }
}

/// After fork, in the parent.
pub extern "C" fn after_fork_in_parent() {
    epoll::release_after_fork();
}

/// After fork, in the child.
pub extern "C" fn after_fork_in_child() {
    epoll::release_after_fork();
    let me = sys::getpid();
    OWNER.store(me, SeqCst);
    fds::Turn::reset();
    daemon::forget_connection();
    park::forget_parkers();
    let Some(slots) = slots() else { return };
    let slot = CHILD_SLOT.swap(SLOTS, SeqCst);
    match slots.0.get(slot) {
        Some(pid) => {
            SLOT.store(slot, SeqCst);
            pid.store(me, SeqCst);
            endpoint::adopt_in_child();
        }
        None => {
            SLOT_PIDS.store(core::ptr::null_mut(), SeqCst);
            SLOT.store(0, SeqCst);
            endpoint::abandon();
        }
    }
}

/// fork failed: the child that was announced does not exist.
pub fn fork_failed() {
    let child = CHILD_SLOT.swap(SLOTS, SeqCst);
    if child < SLOTS {
        endpoint::all().for_each(|id| {
            id.endpoint().holders.remove(child);
        });
        if let Some(pid) = slots().and_then(|s| s.0.get(child)) {
            pid.store(0, SeqCst);
        }
    }
}

unsafe extern "C" {
    fn __register_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
        dso: *const c_void,
    ) -> c_int;
}

/// Asks libc to call us around fork() and daemon().
pub fn watch_forks() {
    OWNER.store(sys::getpid(), SeqCst);
    // SAFETY: the handlers are functions of this object, which is never unloaded (linked with -z nodelete).
    unsafe {
        __register_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_in_child), core::ptr::null())
    };
}

/// libc's `__libc_single_threaded` (glibc 2.32): not 0 while the process has one thread.
static SINGLE_THREADED: AtomicPtr<libc::c_char> = AtomicPtr::new(core::ptr::null_mut());

/// Looks for what says whether the process has threads.
pub fn remember_threads() {
    let at = symbol(libc::RTLD_DEFAULT, c"__libc_single_threaded");
    SINGLE_THREADED.store(at.cast(), Relaxed);
    for (slot, name) in [(&CLEANUP_PUSH, c"_pthread_cleanup_push"), (&CLEANUP_POP, c"_pthread_cleanup_pop")] {
        slot.store(symbol(libc::RTLD_DEFAULT, name) as usize, Relaxed);
    }
}

static CANCELS: AtomicBool = AtomicBool::new(false);

/// The program cancels threads.
pub fn expect_cancellation() {
    CANCELS.store(true, SeqCst);
}

/// What libc runs if the thread is cancelled in the call that it guards: the layout of `struct
/// _pthread_cleanup_buffer`, part of libc's binary interface since 2.2.5.
#[repr(C)]
pub struct Cleanup {
    routine: usize,
    argument: usize,
    cancel_type: c_int,
    previous: usize,
}

/// `_pthread_cleanup_push` and `_pthread_cleanup_pop`; 0 where libc has none.
static CLEANUP_PUSH: AtomicUsize = AtomicUsize::new(0);
static CLEANUP_POP: AtomicUsize = AtomicUsize::new(0);

/// Makes a call that is a cancellation point; should the thread be cancelled in it, `undo(argument)` runs.
pub fn cancellable<R>(undo: extern "C" fn(*mut c_void), argument: *mut c_void, call: impl FnOnce() -> R) -> R {
    let (push, pop) = (CLEANUP_PUSH.load(Relaxed), CLEANUP_POP.load(Relaxed));
    if push == 0 || pop == 0 {
        return call();
    }
    let mut buffer = Cleanup { routine: 0, argument: 0, cancel_type: 0, previous: 0 };
    // SAFETY: libc's functions of these names have these types.
    let (push, pop) = unsafe {
        (
            core::mem::transmute::<usize, unsafe extern "C" fn(*mut Cleanup, extern "C" fn(*mut c_void), *mut c_void)>(
                push,
            ),
            core::mem::transmute::<usize, unsafe extern "C" fn(*mut Cleanup, c_int)>(pop),
        )
    };
    // SAFETY: the buffer outlives the call, and is taken off the thread's list before it goes.
    unsafe { push(&raw mut buffer, undo, argument) };
    let r = call();
    // SAFETY: as above.
    unsafe { pop(&raw mut buffer, 0) };
    r
}

/// Whether a blocking call on TCP is to block in the real function: no other thread needs to wake it, or one may want
/// to cancel it.
pub fn blocks_natively() -> bool {
    is_single_threaded() || CANCELS.load(SeqCst)
}

/// Whether nobody but the calling thread can act on an endpoint. False where that is not known.
pub fn is_single_threaded() -> bool {
    // SAFETY: null, or a variable of libc that is always readable.
    unsafe { SINGLE_THREADED.load(Relaxed).as_ref() }.is_some_and(|single| *single != 0)
}
