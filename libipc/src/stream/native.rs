//! The real calls, with the kernel's convention for their results.

use libc::{c_int, iovec, msghdr, ssize_t};

use crate::host::guard::errno;
use crate::symbols::real;
use crate::sys;

/// The result of a libc call that has just returned.
pub(crate) fn kernel(r: ssize_t) -> sys::Ret {
    if r < 0 { -(errno() as sys::Ret) } else { r }
}

/// The buffer of a header that has only one, and asks for nothing but bytes.
fn only_buffer(msg: &msghdr) -> Option<iovec> {
    let plain = msg.msg_iovlen == 1 && msg.msg_control.is_null() && msg.msg_name.is_null();
    // SAFETY: null or the header's list.
    unsafe { msg.msg_iov.as_ref() }.copied().filter(|_| plain)
}

/// recvmsg(2), or recv(2), the shorter way into the kernel, where that does the same.
pub(crate) fn receive(fd: c_int, msg: &mut msghdr, flags: c_int) -> sys::Ret {
    kernel(match only_buffer(msg) {
        Some(iov) if flags & !(libc::MSG_DONTWAIT | libc::MSG_PEEK | libc::MSG_WAITALL) == 0 => {
            msg.msg_flags = 0;
            // SAFETY: the program's buffer.
            unsafe { real::recv()(fd, iov.iov_base, iov.iov_len, flags) }
        }
        // SAFETY: the program's own arguments, or a header made of them.
        _ => unsafe { real::recvmsg()(fd, msg, flags) },
    })
}

/// sendmsg(2), or send(2) in the same way.
pub(crate) fn send(fd: c_int, msg: &msghdr, flags: c_int) -> sys::Ret {
    kernel(match only_buffer(msg) {
        // SAFETY: the program's buffer.
        Some(iov) => unsafe { real::send()(fd, iov.iov_base, iov.iov_len, flags) },
        // SAFETY: the program's own arguments, or a header made of them.
        _ => unsafe { real::sendmsg()(fd, msg, flags) },
    })
}

/// A read into all of the program's buffers, past libc. For one buffer it is recvfrom(2), which a seccomp filter is more
/// likely to allow.
pub(crate) fn whole(fd: c_int, msg: &mut msghdr, flags: c_int) -> sys::Ret {
    match only_buffer(msg) {
        Some(iov) => {
            msg.msg_flags = 0;
            let (at, len) = (iov.iov_base as usize, iov.iov_len);
            sys::forward(libc::SYS_recvfrom, [fd as usize, at, len, flags as usize, 0, 0])
        }
        _ => sys::recvmsg(fd, msg, flags),
    }
}
