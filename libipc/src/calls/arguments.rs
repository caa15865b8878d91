//! The arguments of reading and writing calls.

use core::ptr::null_mut;

use libc::{c_int, iovec, msghdr};

/// MSG_CMSG_COMPAT: recv and send ignore it; recvmsg and sendmsg, which the shim makes in their place, refuse it.
pub(crate) const COMPAT: c_int = c_int::MIN;

/// A header that asks for nothing but bytes.
pub(crate) fn header(pieces: &[iovec]) -> msghdr {
    msghdr {
        msg_name: null_mut(),
        msg_namelen: 0,
        msg_iov: pieces.as_ptr().cast_mut(),
        msg_iovlen: pieces.len() as _,
        msg_control: null_mut(),
        msg_controllen: 0,
        msg_flags: 0,
    }
}

/// Whether a pointer may lead to memory. One that leads to where nothing is ever mapped is left to the kernel to refuse.
pub(crate) fn is_place<T>(at: *const T) -> bool {
    const PAGE: usize = 4096;
    const END: usize = 1 << 47;
    (PAGE..END).contains(&(at as usize))
}

/// Whether the kernel may take the list. One that it would refuse is left to the kernel to refuse.
pub(crate) fn is_list(iov: *const iovec, count: usize) -> bool {
    is_place(iov) && count <= libc::UIO_MAXIOV as usize
}

/// The program's list; `None` if the kernel refuses it.
pub(crate) unsafe fn list<'a>(iov: *const iovec, count: usize) -> Option<&'a [iovec]> {
    // SAFETY: the program's list, which the kernel takes too.
    is_list(iov, count).then(|| unsafe { core::slice::from_raw_parts(iov, count) })
}

/// The buffers of the program's header; empty if the kernel refuses the header.
pub(crate) unsafe fn list_of<'a>(msg: *const msghdr) -> &'a [iovec] {
    // SAFETY: null, or the program's header and its list.
    unsafe { msg.as_ref().filter(|m| is_place(*m)).and_then(|m| list(m.msg_iov, m.msg_iovlen)).unwrap_or(&[]) }
}

/// The shortest path of a call: if the descriptor does not need the shim, a jump to the real function; anything else out
/// of line, so that this stays a look-up (`bench instructions` counts).
macro_rules! short {
    ($name:ident, $slow:ident($fd:ident $(, $arg:ident: $ty:ty)*)) => {
        pub(crate) unsafe fn $name($fd: c_int $(, $arg: $ty)*) -> ssize_t {
            if !is_ours($fd)
                && let Some(real) = known::$name()
            {
                // SAFETY: the program's own call.
                return unsafe { real($fd $(, $arg)*) };
            }
            // SAFETY: as above.
            unsafe { $slow($fd $(, $arg)*) }
        }
    };
}

pub(super) use short;
