//! Descriptors that the program passes to another process in a message, or receives (unix(7), SCM_RIGHTS).

use core::sync::atomic::Ordering::*;

use libc::{c_int, cmsghdr, msghdr};
use matcher::reason::Reason;

use crate::endpoint::{self, numbers};
use crate::fds::Kind;
use crate::host::guard::Errno;
use crate::host::{confine, process};
use crate::ipcd::{inbox, link, report};
use crate::switch::stay::stay;
use crate::switch::{Phase, drive, land};
use crate::sys::{self, Deadline};
use crate::transport::ancillary;

/// Whether a socket takes descriptors from its peer (Linux 6.16).
const SO_PASSRIGHTS: c_int = 83;
/// How long a call that has received a descriptor waits for ipcd to say what it knows of the descriptor.
const ANSWER_NS: u64 = 100_000_000;

/// Called before a message is sent: the receiver gets the file behind the number, and knows nothing of the hidden socket.
/// So an endpoint stays on TCP or, if it has left TCP, the number becomes the new socket first.
pub(crate) fn passing(msg: &msghdr) {
    if msg.msg_control.is_null() || msg.msg_controllen < size_of::<cmsghdr>() as _ {
        return;
    }
    let _errno = Errno::keep();
    each_descriptor(msg, leaves);
}

/// Called after a message was received: a connection that the libipc of another process has moved becomes an endpoint here.
pub(crate) fn arrived(msg: &msghdr) {
    if msg.msg_control.is_null() || msg.msg_controllen < size_of::<cmsghdr>() as _ || confine::is_confined() {
        return;
    }
    let _errno = Errno::keep();
    each_descriptor(msg, |fd| {
        numbers::forget(fd);
        if may_be_a_new_socket(fd) && process::is_announced() {
            comes(fd);
        }
    });
}

/// Calls `visit` with the descriptors in a message.
fn each_descriptor(msg: &msghdr, visit: impl Fn(c_int)) {
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
                visit(unsafe { data.add(i).read_unaligned() });
            }
        }
        // SAFETY: as above.
        at = unsafe { libc::CMSG_NXTHDR(msg, at) };
    }
}

/// A stream socket of the Unix domain without a name that takes no descriptors: as ipcd makes them.
fn may_be_a_new_socket(fd: c_int) -> bool {
    let is = |option, value| sys::getsockopt::<c_int>(fd, libc::SOL_SOCKET, option) == Ok(value);
    is(libc::SO_DOMAIN, libc::AF_UNIX) && is(libc::SO_TYPE, libc::SOCK_STREAM) && is(SO_PASSRIGHTS, 0)
}

/// Asks ipcd which connection a received descriptor is. No call uses the number meanwhile: the program does not know it yet.
fn comes(fd: c_int) {
    let Some(cookie) = sys::getsockopt::<u64>(fd, libc::SOL_SOCKET, libc::SO_COOKIE).ok() else { return };
    let Some(id) = endpoint::allocate(land::released).filter(|id| numbers::bind_reserved(fd, **id)) else { return };
    let deadline = Deadline::after(Some(ANSWER_NS));
    if report::received(*id, fd) {
        while id.endpoint().phase() == Phase::Connecting && !deadline.is_over() && !link::is_gone() {
            link::await_answer(deadline.left().unwrap_or(0));
            inbox::collect();
        }
    }
    // From here on an answer is too late.
    id.endpoint().spoil();
    if id.endpoint().phase() == Phase::Final {
        id.local().unix_cookie.store(cookie, SeqCst);
        ancillary::note(*id, id.local().tcp.load(Acquire));
        numbers::publish(fd, *id, Kind::Final);
    } else {
        numbers::publish(fd, *id, Kind::Stay);
        numbers::forget(fd);
    }
}

fn leaves(fd: c_int) {
    numbers::note_written(fd);
    let Some((id, kind)) = numbers::lookup(fd) else { return };
    id.endpoint().handed.raise();
    if kind == Kind::Active && !stay(*id, Reason::Passed) {
        drive::land(*id, Reason::Passed);
    }
    if id.endpoint().phase() == Phase::Final {
        report::deposit(*id);
    }
}
