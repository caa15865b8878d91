//! Signals: masks, handlers, pending signals.

use core::mem::MaybeUninit;
use core::ptr::null;

use libc::{c_int, timespec};

use super::call::{Ret, call};
use super::process::getpid;

/// All signals, as the kernel's 64-bit set.
pub(crate) const ALL_SIGNALS: u64 = !0;

/// Whether the calling thread is in a signal handler on its alternate stack (sigaltstack(2)).
pub(crate) fn is_on_alternate_stack() -> bool {
    let mut now = MaybeUninit::<libc::stack_t>::zeroed();
    let r = call!(libc::SYS_sigaltstack, null::<u8>(), now.as_mut_ptr());
    // SAFETY: zeroed, and stack_t is valid for any bit pattern.
    r == 0 && unsafe { now.assume_init() }.ss_flags & libc::SS_ONSTACK != 0
}

/// Replaces the calling thread's signal mask and returns the old one.
pub(crate) fn set_sigmask(mask: u64) -> u64 {
    let mut old = 0u64;
    call!(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, &raw mut old, 8);
    old
}

pub(crate) fn signalfd(fd: c_int, mask: u64) -> Ret {
    call!(libc::SYS_signalfd4, fd, &raw const mask, 8, libc::O_CLOEXEC | libc::O_NONBLOCK)
}

/// The flags (SA_…) and handler of a signal's disposition.
pub(crate) fn sigaction(signo: c_int) -> Option<(usize, u64)> {
    #[repr(C)]
    struct Kernel {
        handler: usize,
        flags: u64,
        restorer: usize,
        mask: u64,
    }
    let mut old = Kernel { handler: 0, flags: 0, restorer: 0, mask: 0 };
    let r = call!(libc::SYS_rt_sigaction, signo, null::<u8>(), &raw mut old, 8);
    (r == 0).then_some((old.handler, old.flags))
}

/// Queues a signal to the calling thread with the siginfo of one that was taken from a signalfd.
pub(crate) fn requeue_signal(signo: c_int, info: &libc::siginfo_t) -> Ret {
    let tid = call!(libc::SYS_gettid);
    call!(libc::SYS_rt_tgsigqueueinfo, getpid(), tid, signo, &raw const *info)
}

/// Takes one pending signal out of `set`, with its siginfo; none is -EAGAIN.
pub(crate) fn take_signal(set: u64, info: &mut libc::siginfo_t) -> Ret {
    let zero = timespec { tv_sec: 0, tv_nsec: 0 };
    call!(libc::SYS_rt_sigtimedwait, &raw const set, &raw mut *info, &raw const zero, 8)
}

/// What the kernel does to a thread that writes to a closed stream.
pub(crate) fn raise_sigpipe() {
    let tid = call!(libc::SYS_gettid);
    call!(libc::SYS_tgkill, getpid(), tid, libc::SIGPIPE);
}
