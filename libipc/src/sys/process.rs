//! Processes and threads: which ones they are, sleep, limits.

use core::mem::MaybeUninit;
use core::ptr::null;

use libc::{c_int, pollfd, timespec};

use super::call::{Ret, call};
use super::files::{close, ppoll};

pub(crate) fn getpid() -> c_int {
    call!(libc::SYS_getpid) as c_int
}

pub(crate) fn geteuid() -> u32 {
    call!(libc::SYS_geteuid) as u32
}

pub(crate) fn yield_now() {
    call!(libc::SYS_sched_yield);
}

/// The calling thread's thread pointer, free to ask for.
pub(crate) fn thread() -> usize {
    let thread: usize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: on x86-64 the word at fs:0 is the thread control block's own address (System V ABI, TLS variant II).
    unsafe {
        core::arch::asm!("mov {}, fs:0", out(reg) thread, options(nostack, preserves_flags, readonly));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads the thread pointer register.
    unsafe {
        core::arch::asm!("mrs {}, tpidr_el0", out(reg) thread, options(nostack, nomem, preserves_flags));
    }
    thread
}

/// A number that changes whenever the calling thread has gone to sleep (getrusage(2), voluntary context switches), and
/// from thread to thread.
pub(crate) fn sleeps_of_thread() -> u32 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    call!(libc::SYS_getrusage, libc::RUSAGE_THREAD, usage.as_mut_ptr());
    // SAFETY: zeroed, and rusage is valid for any bit pattern.
    let slept = unsafe { usage.assume_init() }.ru_nvcsw as u32;
    slept ^ (thread() >> 6) as u32
}

/// Sleeps while the word is `expected`; true if no thread woke this one for 20 ms.
pub(crate) fn futex_wait(word: &core::sync::atomic::AtomicU64, expected: u32) -> bool {
    let t = timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    call!(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, &raw const t) == -(libc::ETIMEDOUT as Ret)
}

pub(crate) fn futex_wake(word: &core::sync::atomic::AtomicU64) {
    call!(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1);
}

/// Reads and, if `new` is given, sets RLIMIT_NOFILE: (soft, hard).
pub(crate) fn nofile(new: Option<(u64, u64)>) -> Result<(u64, u64), Ret> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let new = new.map(|(rlim_cur, rlim_max)| libc::rlimit64 { rlim_cur, rlim_max });
    let at = new.as_ref().map_or(null(), |n| &raw const *n);
    let r = call!(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, at, &raw mut old);
    if r < 0 { Err(r) } else { Ok((old.rlim_cur, old.rlim_max)) }
}

/// Whether the process has ended (a zombie has): its descriptors are closed.
pub(crate) fn process_ended(pid: c_int) -> bool {
    let fd = call!(libc::SYS_pidfd_open, pid, 0);
    if fd < 0 {
        return fd == -(libc::ESRCH as Ret);
    }
    let mut p = [pollfd { fd: fd as c_int, events: libc::POLLIN, revents: 0 }];
    let ended = ppoll(&mut p, Some(0), None) > 0;
    close(fd as c_int);
    ended
}
