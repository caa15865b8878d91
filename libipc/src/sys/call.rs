//! One system call, by number.

use libc::c_long;

/// What a system call returned: 0 or more, or a negated errno.
pub(crate) type Ret = isize;

/// Errors that decide what the shim does next, as a system call returns them.
pub(crate) const EAGAIN: Ret = -(libc::EAGAIN as Ret);
pub(crate) const EINTR: Ret = -(libc::EINTR as Ret);
pub(crate) const EPIPE: Ret = -(libc::EPIPE as Ret);
pub(crate) const ECONNRESET: Ret = -(libc::ECONNRESET as Ret);

/// A system call: its number, and up to six arguments.
macro_rules! call {
    ($nr:expr $(, $arg:expr)*) => { call!(@ $nr, [$($arg as usize),*]) };
    (@ $nr:expr, [$($arg:expr),*]) => {{
        let a = $crate::sys::call::pad([$($arg),*]);
        // SAFETY: the wrapper that expands this passes pointers that are valid for what the kernel does with them, or
        // passes on pointers of the host program, which the kernel checks (EFAULT).
        unsafe { syscalls::raw::syscall6($nr as usize, a[0], a[1], a[2], a[3], a[4], a[5]) as $crate::sys::call::Ret }
    }};
}

pub(super) use call;

/// The arguments of a call, with zeroes behind them.
pub(super) fn pad<const K: usize>(args: [usize; K]) -> [usize; 6] {
    let mut all = [0; 6];
    for (to, from) in all.iter_mut().zip(args) {
        *to = from;
    }
    all
}

/// A system call with the host program's own arguments, passed on unchecked.
pub(crate) fn forward(nr: c_long, args: [usize; 6]) -> Ret {
    call!(nr, args[0], args[1], args[2], args[3], args[4], args[5])
}
