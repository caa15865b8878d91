//! What the shim knows of the threads of the process: how many there are, whether they share their descriptors, and
//! whether any of them is being cancelled.

use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::*};

use libc::{c_int, c_void};

use crate::symbols::real::symbol;
use crate::sys;

/// Threads of the process have descriptor tables of their own.
static APART: AtomicBool = AtomicBool::new(false);

pub(crate) fn set_apart() {
    APART.store(true, SeqCst);
}

/// Whether a number that is replaced is not replaced for all threads.
pub(crate) fn is_apart() -> bool {
    APART.load(Relaxed)
}

/// libc's `__libc_single_threaded` (glibc 2.32): not 0 while the process has one thread.
static SINGLE_THREADED: AtomicPtr<libc::c_char> = AtomicPtr::new(core::ptr::null_mut());

/// Looks up libc's variable that says whether the process has threads, and its functions for cancellation.
pub(crate) fn remember_threads() {
    let at = symbol(libc::RTLD_DEFAULT, c"__libc_single_threaded");
    SINGLE_THREADED.store(at.cast(), Relaxed);
    for (slot, name) in [
        (&CLEANUP_PUSH, c"_pthread_cleanup_push"),
        (&CLEANUP_POP, c"_pthread_cleanup_pop"),
        (&TEST_CANCEL, c"pthread_testcancel"),
    ] {
        slot.store(symbol(libc::RTLD_DEFAULT, name) as usize, Relaxed);
    }
}

/// Counts each cancellation of a thread twice, before and after it: 0 if the program never cancels one.
static CANCELLATIONS: AtomicUsize = AtomicUsize::new(0);

/// Called when the program is about to cancel a thread, and when it has just done so.
pub(crate) fn count_cancellation() {
    CANCELLATIONS.fetch_add(1, SeqCst);
}

/// What libc runs if the thread is cancelled in the call that it guards: the layout of `struct
/// _pthread_cleanup_buffer`, part of libc's binary interface since 2.2.5.
#[repr(C)]
pub(crate) struct Cleanup {
    routine: usize,
    argument: usize,
    cancel_type: c_int,
    previous: usize,
}

/// `_pthread_cleanup_push` and `_pthread_cleanup_pop`; 0 where libc has none.
static CLEANUP_PUSH: AtomicUsize = AtomicUsize::new(0);
static CLEANUP_POP: AtomicUsize = AtomicUsize::new(0);
/// `pthread_testcancel`.
static TEST_CANCEL: AtomicUsize = AtomicUsize::new(0);

/// Makes a call that is a cancellation point; should the thread be cancelled in it, `undo(argument)` runs.
pub(crate) fn cancellable<R>(undo: extern "C" fn(*mut c_void), argument: *mut c_void, call: impl FnOnce() -> R) -> R {
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

/// How many cancellations a thread that is about to wait knows of.
#[derive(PartialEq, Eq)]
pub(crate) struct Cancellations(usize);

impl Cancellations {
    /// A cancellation point in a call that waits in the shim: should the thread be cancelled, `undo(argument)` runs.
    pub(crate) fn heed(undo: extern "C" fn(*mut c_void), argument: *mut c_void) -> Cancellations {
        let known = CANCELLATIONS.load(SeqCst);
        let test = TEST_CANCEL.load(Relaxed);
        if known != 0 && test != 0 {
            // SAFETY: libc's function of this name has this type.
            let test = unsafe { core::mem::transmute::<usize, unsafe extern "C" fn()>(test) };
            // SAFETY: nothing is held here that `undo` does not give back.
            cancellable(undo, argument, || unsafe { test() });
        }
        Cancellations(known)
    }

    /// Whether there was no cancellation since. Asked once the thread is announced: later cancellations wake it.
    pub(crate) fn are_all(&self) -> bool {
        CANCELLATIONS.load(SeqCst) == self.0
    }
}

/// Whether a blocking call on TCP is to block in the real function: no other thread needs to wake it, or one may want
/// to cancel it.
pub(crate) fn blocks_natively() -> bool {
    is_single_threaded() || CANCELLATIONS.load(SeqCst) != 0
}

/// Whether the process has one thread, asked of the kernel where libc does not know it any more
/// (docs/kernel-notes/single-threaded.md): /proc counts threads as links.
pub(crate) fn has_one_thread() -> bool {
    const ONE: libc::nlink_t = 3;
    let links = || sys::lstat(c"/proc/self/task/".to_bytes_with_nul().as_ptr()).map(|task| task.st_nlink);
    is_single_threaded() || links() == Some(ONE)
}

/// Whether no thread but the calling one can act on an endpoint. False if that is not known.
pub(crate) fn is_single_threaded() -> bool {
    // SAFETY: null, or a variable of libc that is always readable.
    unsafe { SINGLE_THREADED.load(Relaxed).as_ref() }.is_some_and(|single| *single != 0)
}
