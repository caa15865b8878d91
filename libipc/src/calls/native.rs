//! The real reading call.

use libc::{c_int, iovec, msghdr};

use crate::symbols::real;
use crate::sys;

/// The real call, with the kernel's convention for its result.
pub fn native(fd: c_int, msg: &mut msghdr, flags: c_int) -> sys::Ret {
    let r = match only_buffer(msg) {
        // The shorter way into the kernel.
        Some(iov) if flags & !(libc::MSG_DONTWAIT | libc::MSG_PEEK | libc::MSG_WAITALL) == 0 => {
            msg.msg_flags = 0;
            // SAFETY: the program's buffer.
            unsafe { real::recv()(fd, iov.iov_base, iov.iov_len, flags) }
        }
        // SAFETY: the program's own arguments, or a header made of them.
        _ => unsafe { real::recvmsg()(fd, msg, flags) },
    };
    // SAFETY: libc's errno of this thread, just set.
    if r < 0 { -(unsafe { *libc::__errno_location() } as sys::Ret) } else { r }
}

/// The only buffer of a header that asks for nothing but bytes.
pub fn only_buffer(msg: &msghdr) -> Option<iovec> {
    let plain = msg.msg_iovlen == 1 && msg.msg_control.is_null() && msg.msg_name.is_null();
    // SAFETY: null or the header's list.
    unsafe { msg.msg_iov.as_ref() }.copied().filter(|_| plain)
}
