//! Processes and limits.

use libc::{c_int, c_long, c_ulong, pid_t, rlimit64};
use matcher::reason::Reason;

use super::seccomp;
use crate::family::fork;
use crate::fds;
use crate::host::guard::Errno;
use crate::host::{confine, process, threads};
use crate::readiness::park;
use crate::switch::drive;
use crate::symbols::real;

pub(crate) unsafe fn fork() -> pid_t {
    // The handlers that `fork::watch_forks` registered do the work; but they cannot see what fork returns.
    // SAFETY: the program's own call.
    let r = unsafe { real::fork()() };
    if r != 0 {
        let _errno = Errno::keep();
        fork::forked(r);
    }
    r
}

/// A thread that waits on behalf of a call is not at a cancellation point: it is woken, and looks whether it is the one to
/// be cancelled. From now on calls that block on TCP block in the real function.
pub(crate) unsafe fn pthread_cancel(thread: libc::pthread_t) -> c_int {
    threads::count_cancellation();
    // SAFETY: the program's own call.
    let r = unsafe { real::pthread_cancel()(thread) };
    threads::count_cancellation();
    park::kick_all();
    r
}

pub(crate) unsafe fn setrlimit(resource: c_int, limit: *const rlimit64) -> c_int {
    let _turn = (resource == libc::RLIMIT_NOFILE as c_int).then(fds::Turn::take);
    // SAFETY: the program's own call; rlimit and rlimit64 are the same on 64-bit platforms.
    unsafe { real::setrlimit()(resource, limit) }
}

pub(crate) unsafe fn prlimit(pid: pid_t, resource: c_int, new: *const rlimit64, old: *mut rlimit64) -> c_int {
    let _turn = (resource == libc::RLIMIT_NOFILE as c_int).then(fds::Turn::take);
    // SAFETY: the program's own call.
    unsafe { real::prlimit()(pid, resource, new, old) }
}

/// Called when a thread is about to get a table of descriptors of its own. A number that is replaced from now on is
/// replaced for some threads only: so none is replaced.
pub(crate) fn threads_part() {
    if threads::has_one_thread() || !process::is_announced() {
        return;
    }
    let _errno = Errno::keep();
    threads::set_apart();
    drive::land_all(|_| true, Reason::UnseenIo);
}

pub(crate) unsafe fn unshare(flags: c_int) -> c_int {
    if flags & libc::CLONE_FILES != 0 {
        threads_part();
    }
    // SAFETY: the program's own call.
    unsafe { real::unshare()(flags) }
}

/// Runs a call that confines the process.
pub(crate) fn confining(call: impl FnOnce() -> c_long) -> c_long {
    let already = confine::is_confined();
    seccomp::begin();
    let r = call();
    if r < 0 && !already {
        let _errno = Errno::keep();
        seccomp::failed();
    }
    r
}

pub(crate) unsafe fn prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int {
    // SAFETY: the program's own call.
    let call = || unsafe { real::prctl()(option, a, b, c, d) };
    if option == libc::PR_SET_SECCOMP { confining(|| c_long::from(call())) as c_int } else { call() }
}
