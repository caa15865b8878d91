//! Processes and limits.

use libc::{c_int, c_long, pid_t, rlimit64};

use crate::guard::Errno;
use crate::hooks::real;
use crate::{fds, process};

pub unsafe fn fork() -> pid_t {
    // The handlers that `process::watch_forks` registered do the work; only they cannot see that fork failed.
    // SAFETY: the program's own call.
    let r = unsafe { real::fork()() };
    if r < 0 {
        let _errno = Errno::keep();
        process::fork_failed();
    }
    r
}

/// A thread that waits on behalf of a call is in no cancellation point: it is woken, and from now on calls that block
/// on TCP block in the real function.
pub unsafe fn pthread_cancel(thread: libc::pthread_t) -> c_int {
    process::expect_cancellation();
    // SAFETY: the program's own call.
    let r = unsafe { real::pthread_cancel()(thread) };
    crate::park::kick_all();
    r
}

/// Shows the program its own limit instead of the one that the shim has raised.
fn correct(resource: c_int, limit: *mut rlimit64) {
    // SAFETY: null or the place where the kernel has just written a limit.
    if let (Some(limit), Some(soft)) = (unsafe { limit.as_mut() }, fds::program_soft_limit())
        && resource == libc::RLIMIT_NOFILE as c_int
    {
        limit.rlim_cur = soft.min(limit.rlim_max);
    }
}

pub unsafe fn getrlimit(resource: c_int, limit: *mut rlimit64) -> c_int {
    // SAFETY: the program's own call; rlimit and rlimit64 are the same on 64-bit platforms.
    let r = unsafe { real::getrlimit()(resource, limit) };
    if r == 0 {
        correct(resource, limit);
    }
    r
}

pub unsafe fn setrlimit(resource: c_int, limit: *const rlimit64) -> c_int {
    // SAFETY: null or the program's limit.
    match unsafe { limit.as_ref() } {
        Some(new) if resource == libc::RLIMIT_NOFILE as c_int && fds::program_soft_limit().is_some() => {
            if new.rlim_cur > new.rlim_max {
                crate::guard::set_errno(libc::EINVAL);
                return -1;
            }
            // The kernel's soft limit stays above the program's: the numbers between are the shim's.
            let raised = rlimit64 { rlim_cur: new.rlim_max, rlim_max: new.rlim_max };
            // SAFETY: the program's own call with our soft limit.
            let r = unsafe { real::setrlimit()(resource, &raised) };
            if r == 0 {
                fds::set_program_soft_limit(new.rlim_cur);
            }
            r
        }
        // SAFETY: the program's own call.
        _ => unsafe { real::setrlimit()(resource, limit) },
    }
}

pub unsafe fn prlimit(pid: pid_t, resource: c_int, new: *const rlimit64, old: *mut rlimit64) -> c_int {
    if pid != 0 || resource != libc::RLIMIT_NOFILE as c_int {
        // SAFETY: the program's own call.
        return unsafe { real::prlimit()(pid, resource, new, old) };
    }
    // SAFETY: the program's own arguments.
    unsafe {
        if !old.is_null() && getrlimit(resource, old) != 0 {
            return -1;
        }
        if new.is_null() { 0 } else { setrlimit(resource, new) }
    }
}

pub unsafe fn sysconf(name: c_int) -> c_long {
    match (name, fds::program_soft_limit()) {
        (libc::_SC_OPEN_MAX, Some(soft)) => soft as c_long,
        // SAFETY: the program's own call.
        _ => unsafe { real::sysconf()(name) },
    }
}

pub unsafe fn getdtablesize() -> c_int {
    match fds::program_soft_limit() {
        Some(soft) => soft as c_int,
        // SAFETY: the program's own call.
        None => unsafe { real::getdtablesize()() },
    }
}

/// syscall(2): the numbers that matter go where their libc functions go; everything else passes unchanged.
pub unsafe fn syscall(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long {
    // SAFETY: the program's own arguments, of the types that the system call takes.
    unsafe {
        match number {
            libc::SYS_close => super::descriptors::close(a as c_int) as c_long,
            libc::SYS_close_range => super::descriptors::close_range(a as u32, b as u32, c as c_int) as c_long,
            libc::SYS_dup => super::descriptors::dup(a as c_int) as c_long,
            libc::SYS_dup3 => super::descriptors::dup3(a as c_int, b as c_int, c as c_int) as c_long,
            libc::SYS_read if fds::needs_us(a as c_int) => super::io::read(a as c_int, b as _, c) as c_long,
            libc::SYS_write if fds::needs_us(a as c_int) => super::io::write(a as c_int, b as _, c) as c_long,
            _ => real::syscall()(number, a, b, c, d, e, f),
        }
    }
}
