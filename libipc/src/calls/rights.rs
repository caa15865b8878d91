//! Descriptors that the program passes to another process in a message (unix(7), SCM_RIGHTS).

use libc::{c_int, cmsghdr, msghdr};
use matcher::reason::Reason;

use crate::fds::{self, Kind};
use crate::guard::Errno;
use crate::{dual, endpoint};

/// Before a message goes out: the receiver gets what is behind the number, and knows nothing of what is hidden. So an
/// endpoint stays on TCP, or if it has left it is the new socket first.
pub fn passing(msg: &msghdr) {
    if msg.msg_control.is_null() || msg.msg_controllen < size_of::<cmsghdr>() as _ {
        return;
    }
    let _errno = Errno::keep();
    // SAFETY: the program's header, whose control messages are as many bytes as it says.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(msg) };
    // SAFETY: as above; CMSG_NXTHDR stays within them.
    while let Some(head) = unsafe { at.as_ref() } {
        if head.cmsg_level == libc::SOL_SOCKET && head.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: the data of such a message is a list of descriptors, of the length that its head says (cmsg(3)).
            let (data, empty) = unsafe { (libc::CMSG_DATA(at).cast::<c_int>(), libc::CMSG_LEN(0) as usize) };
            let count = head.cmsg_len.saturating_sub(empty) / size_of::<c_int>();
            for i in 0..count {
                // SAFETY: as above; the data need not be aligned.
                leaves(unsafe { data.add(i).read_unaligned() });
            }
        }
        // SAFETY: as above.
        at = unsafe { libc::CMSG_NXTHDR(msg, at) };
    }
}

fn leaves(fd: c_int) {
    fds::note_written(fd);
    let Some((id, kind)) = fds::lookup(fd) else { return };
    id.endpoint().handed.store(true, core::sync::atomic::Ordering::Relaxed);
    if kind == Kind::Active && !endpoint::stay(*id, Reason::Passed) {
        dual::land(*id, Reason::Passed);
    }
}
