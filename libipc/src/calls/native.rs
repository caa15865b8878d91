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
fn only_buffer(msg: &msghdr) -> Option<iovec> {
    let plain = msg.msg_iovlen == 1 && msg.msg_control.is_null() && msg.msg_name.is_null();
    // SAFETY: null or the header's list.
    unsafe { msg.msg_iov.as_ref() }.copied().filter(|_| plain)
}

/// A read into all of the program's buffers. Of one buffer by the shorter call, which filters of system calls allow sooner.
pub fn whole(fd: c_int, msg: &mut msghdr, flags: c_int) -> sys::Ret {
    match only_buffer(msg) {
        Some(iov) => {
            msg.msg_flags = 0;
            let (at, len) = (iov.iov_base as usize, iov.iov_len);
            sys::forward(libc::SYS_recvfrom, [fd as usize, at, len, flags as usize, 0, 0])
        }
        _ => sys::recvmsg(fd, msg, flags),
    }
}
