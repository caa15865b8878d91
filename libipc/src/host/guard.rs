//! What a hook must keep for the program: errno as it was, and no signal handler in the middle of a step of the switch.

use libc::c_int;

use crate::sys;

/// Restores errno when dropped.
pub(crate) struct Errno(c_int);

impl Errno {
    pub(crate) fn keep() -> Errno {
        Errno(errno())
    }
}

impl Drop for Errno {
    fn drop(&mut self) {
        // Not written if the value is already right: after a fork the page would have to be copied.
        if errno() != self.0 {
            set_errno(self.0);
        }
    }
}

/// libc's errno of the calling thread.
pub(crate) fn errno() -> c_int {
    // SAFETY: libc gives each thread one.
    unsafe { *libc::__errno_location() }
}

pub(crate) fn set_errno(value: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = value };
}

/// The result of a libc function for the kernel's result `r`; sets errno.
pub(crate) fn as_libc(r: sys::Ret) -> isize {
    if r >= 0 {
        return r;
    }
    set_errno(-r as c_int);
    -1
}

/// Holds signals back until dropped, so that no handler meets a half-made step or a lock of its own thread.
pub(crate) struct NoSignals(u64);

impl NoSignals {
    pub(crate) fn hold() -> NoSignals {
        NoSignals(sys::set_sigmask(sys::ALL_SIGNALS))
    }
}

impl Drop for NoSignals {
    fn drop(&mut self) {
        sys::set_sigmask(self.0);
    }
}
