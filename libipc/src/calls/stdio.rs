//! The C library's own input and output: it reads and writes with calls of its own that no hook sees.
//!
//! Before the promise such bytes are noticed, because the kernel counts them. After it they would go over a transport
//! that the direction may have left. So an endpoint that stdio uses makes no promise.

use core::ffi::c_char;

use libc::{FILE, c_int};
use matcher::reason::Reason;

use crate::endpoint::numbers;
use crate::fds::{self, Kind};
use crate::host::guard::Errno;
use crate::host::process;
use crate::switch::drive;
use crate::switch::stay::stay;
use crate::symbols::real;
use crate::symbols::table::Arguments;

/// From here on the C library may act on the descriptor by itself.
pub(crate) extern "C" fn takes(fd: c_int) {
    numbers::note_written(fd);
    if !fds::needs_us(fd) || !process::is_announced() {
        return;
    }
    let _errno = Errno::keep();
    if let Some((id, Kind::Active)) = numbers::lookup(fd)
        && !stay(*id, Reason::Stdio)
    {
        drive::land(*id, Reason::Stdio);
    }
}

pub(crate) unsafe fn fdopen(fd: c_int, mode: *const c_char) -> *mut FILE {
    takes(fd);
    // SAFETY: the program's own call.
    unsafe { real::fdopen()(fd, mode) }
}

pub(crate) unsafe fn vdprintf(fd: c_int, format: *const c_char, arguments: Arguments) -> c_int {
    takes(fd);
    // SAFETY: the program's own call.
    unsafe { real::vdprintf()(fd, format, arguments) }
}

pub(crate) unsafe fn vdprintf_chk(fd: c_int, flag: c_int, format: *const c_char, arguments: Arguments) -> c_int {
    takes(fd);
    // SAFETY: the program's own call.
    unsafe { real::__vdprintf_chk()(fd, flag, format, arguments) }
}
