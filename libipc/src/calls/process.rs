//! Processes and limits.

use libc::{c_int, c_long, c_ulong, pid_t, rlimit64};
use matcher::reason::Reason;

use super::seccomp;
use crate::fds::Kind;
use crate::fork;
use crate::host::guard::{Errno, as_libc};
use crate::host::{confine, process, threads};
use crate::symbols::real;
use crate::{dual, fds, sys};

pub unsafe fn fork() -> pid_t {
    // The handlers that `fork::watch_forks` registered do the work; only they cannot see what fork returns.
    // SAFETY: the program's own call.
    let r = unsafe { real::fork()() };
    if r != 0 {
        let _errno = Errno::keep();
        fork::forked(r);
    }
    r
}

/// A thread that waits on behalf of a call is in no cancellation point: it is woken, and looks whether it is meant. From now
/// on calls that block on TCP block in the real function.
pub unsafe fn pthread_cancel(thread: libc::pthread_t) -> c_int {
    threads::count_cancellation();
    // SAFETY: the program's own call.
    let r = unsafe { real::pthread_cancel()(thread) };
    threads::count_cancellation();
    crate::park::kick_all();
    r
}

pub unsafe fn setrlimit(resource: c_int, limit: *const rlimit64) -> c_int {
    let _turn = (resource == libc::RLIMIT_NOFILE as c_int).then(fds::Turn::take);
    // SAFETY: the program's own call; rlimit and rlimit64 are the same on 64-bit platforms.
    unsafe { real::setrlimit()(resource, limit) }
}

pub unsafe fn prlimit(pid: pid_t, resource: c_int, new: *const rlimit64, old: *mut rlimit64) -> c_int {
    let _turn = (resource == libc::RLIMIT_NOFILE as c_int).then(fds::Turn::take);
    // SAFETY: the program's own call.
    unsafe { real::prlimit()(pid, resource, new, old) }
}

/// A thread is about to have descriptor numbers of its own. What is put over a number from now on is put there for some
/// threads only: so nothing is.
pub fn threads_part() {
    if threads::has_one_thread() || !process::is_announced() {
        return;
    }
    let _errno = Errno::keep();
    threads::set_apart();
    dual::land_all(|_| true, Reason::UnseenIo);
}

pub unsafe fn unshare(flags: c_int) -> c_int {
    if flags & libc::CLONE_FILES != 0 {
        threads_part();
    }
    // SAFETY: the program's own call.
    unsafe { real::unshare()(flags) }
}

/// Runs a call that confines the process.
fn confining(call: impl FnOnce() -> c_long) -> c_long {
    let already = confine::is_confined();
    seccomp::begin();
    let r = call();
    if r < 0 && !already {
        let _errno = Errno::keep();
        seccomp::failed();
    }
    r
}

pub unsafe fn prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int {
    // SAFETY: the program's own call.
    let call = || unsafe { real::prctl()(option, a, b, c, d) };
    if option == libc::PR_SET_SECCOMP { confining(|| c_long::from(call())) as c_int } else { call() }
}

/// syscall(2): the numbers that matter go where their libc functions go; everything else passes unchanged.
pub unsafe fn syscall(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long {
    // SAFETY: the program's own arguments, of the types that the system call takes.
    unsafe {
        match number {
            libc::SYS_close if fds::kind(a as c_int) != Kind::Other => super::descriptors::close(a as c_int) as c_long,
            libc::SYS_close_range => super::descriptors::close_range(a as u32, b as u32, c as c_int) as c_long,
            libc::SYS_unshare => c_long::from(unshare(a as c_int)),
            libc::SYS_dup => super::descriptors::dup(a as c_int) as c_long,
            libc::SYS_dup3 => super::descriptors::dup3(a as c_int, b as c_int, c as c_int) as c_long,
            libc::SYS_seccomp if matches!(a as u32, libc::SECCOMP_SET_MODE_STRICT | libc::SECCOMP_SET_MODE_FILTER) => {
                confining(|| as_libc(sys::forward(number, [a, b, c, d, e, f])) as c_long)
            }
            libc::SYS_read if fds::needs_us(a as c_int) => super::io::read(a as c_int, b as _, c) as c_long,
            libc::SYS_write if fds::is_ours(a as c_int) => super::io::write(a as c_int, b as _, c) as c_long,
            libc::SYS_epoll_ctl => {
                c_long::from(super::epoll::epoll_ctl(a as c_int, b as c_int, c as c_int, d as *mut libc::epoll_event))
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_wait => {
                c_long::from(super::epoll::epoll_wait(a as c_int, b as *mut libc::epoll_event, c as c_int, d as c_int))
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_poll => c_long::from(super::wait::poll(a as *mut libc::pollfd, b as libc::nfds_t, c as c_int)),
            libc::SYS_epoll_pwait => c_long::from(super::epoll::epoll_pwait(
                a as c_int,
                b as *mut libc::epoll_event,
                c as c_int,
                d as c_int,
                e as *const libc::sigset_t,
            )),
            libc::SYS_writev | libc::SYS_sendto | libc::SYS_sendmsg | libc::SYS_sendmmsg | libc::SYS_sendfile
                if fds::is_ours(a as c_int) =>
            {
                fds::note_written(a as c_int);
                as_libc(sys::forward(number, [a, b, c, d, e, f])) as c_long
            }
            // Not by the real function: an allocator calls this one under its lock, and before glibc 2.34 finding the real
            // one allocates.
            _ => as_libc(sys::forward(number, [a, b, c, d, e, f])) as c_long,
        }
    }
}
