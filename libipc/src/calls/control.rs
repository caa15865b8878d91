//! What recvmsg(2) returns beside the bytes: the ancillary data that the program has asked its TCP socket for and the new
//! socket does not have.

use core::sync::atomic::Ordering::*;

use libc::{c_int, cmsghdr, msghdr};

use crate::endpoint::{numbers, tcp_fd};
use crate::stream::unread::inquired;
use crate::sys;
use crate::transport::ancillary::{TCP_INQ, TIMES, is_set};

const SECOND: u64 = 1_000_000_000;

/// Adds the ancillary data for `n` bytes to the program's header, whose room for such data is unused so far.
pub(crate) fn tell(fd: c_int, msg: &mut msghdr, n: isize) {
    let mut out = Room { at: msg.msg_control.cast(), len: msg.msg_controllen, used: 0, cut: false };
    msg.msg_controllen = 0;
    let Some((id, _)) = numbers::lookup(fd).filter(|(id, _)| id.local().told_more.load(Relaxed)) else { return };
    if out.at.is_null() {
        out.len = 0;
    }
    let tcp = tcp_fd(*id, fd);
    for (number, unit) in TIMES.iter().filter(|_| n > 0) {
        if is_set(tcp, libc::SOL_SOCKET, *number) {
            // The time at which the bytes came is not known: it was a moment ago.
            let now = sys::realtime();
            let time = [now / SECOND, now % SECOND / *unit].map(u64::to_ne_bytes);
            out.put(libc::SOL_SOCKET, *number, time.as_flattened());
        }
    }
    if is_set(tcp, libc::IPPROTO_TCP, TCP_INQ) {
        out.put(libc::IPPROTO_TCP, TCP_INQ, &inquired(*id, fd).to_ne_bytes());
    }
    msg.msg_controllen = out.used as _;
    if out.cut {
        msg.msg_flags |= libc::MSG_CTRUNC;
    }
}

/// The program's room for ancillary data.
struct Room {
    at: *mut u8,
    len: usize,
    used: usize,
    cut: bool,
}

impl Room {
    /// Adds an item as cmsg(3) lays it out; what does not fit is cut off.
    fn put(&mut self, level: c_int, kind: c_int, data: &[u8]) {
        const HEAD: usize = size_of::<cmsghdr>();
        let left = self.len - self.used;
        if left < HEAD {
            self.cut = true;
            return;
        }
        self.cut |= left < HEAD + data.len();
        let data = data.get(..(left - HEAD).min(data.len())).unwrap_or(&[]);
        // SAFETY: cmsghdr is plain data, valid when zeroed.
        let mut head: cmsghdr = unsafe { core::mem::zeroed() };
        (head.cmsg_len, head.cmsg_level, head.cmsg_type) = ((HEAD + data.len()) as _, level, kind);
        // SAFETY: the program's buffer has `left` bytes from here, and both parts together are no longer.
        unsafe {
            let at = self.at.add(self.used);
            at.cast::<cmsghdr>().write_unaligned(head);
            at.add(HEAD).copy_from_nonoverlapping(data.as_ptr(), data.len());
        }
        self.used += (HEAD + data.len()).next_multiple_of(align_of::<cmsghdr>()).min(left);
    }
}
