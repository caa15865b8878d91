//! ioctl: what is about the descriptor is its own, what is about bytes goes to the socket that has them, and everything
//! else is TCP's to answer.

use core::sync::atomic::Ordering::*;

use libc::{c_int, c_ulong};

use crate::calls::connect::asked;
use crate::calls::descriptors::is_signal_driven;
use crate::endpoint::{Id, numbers, sides, tcp_fd};
use crate::fds::{self, Kind};
use crate::host::guard::Errno;
use crate::switch::drive;
use crate::symbols::real;
use crate::{offsets, sys};

const FIOCLEX: c_ulong = 0x5451;
const FIONCLEX: c_ulong = 0x5450;
const FIOASYNC: c_ulong = 0x5452;
const FIOQSIZE: c_ulong = 0x5460;
const FIOSETOWN: c_ulong = 0x8901;
const SIOCSPGRP: c_ulong = 0x8902;
const FIOGETOWN: c_ulong = 0x8903;
const SIOCGPGRP: c_ulong = 0x8904;
const SIOCATMARK: c_ulong = 0x8905;

/// Whether a request is about the descriptor, whatever it is.
fn is_of_the_descriptor(request: c_ulong) -> bool {
    matches!(
        request,
        libc::FIONBIO | FIOASYNC | FIOCLEX | FIONCLEX | FIOQSIZE | FIOSETOWN | SIOCSPGRP | FIOGETOWN | SIOCGPGRP
    )
}

pub unsafe fn ioctl(fd: c_int, request: c_ulong, arg: usize) -> c_int {
    // SAFETY: the program's own call.
    let ask = |fd| unsafe { real::ioctl()(fd, request, arg) };
    if !fds::is_ours(fd) || is_of_the_descriptor(request) {
        let r = ask(fd);
        if r == 0 && request == FIOASYNC && fds::needs_us(fd) {
            is_signal_driven(fd);
        }
        return r;
    }
    let about_bytes = matches!(request, libc::FIONREAD | SIOCATMARK);
    match numbers::lookup(fd) {
        Some((id, Kind::Active)) if about_bytes => {
            drive::pump(*id);
            if fds::kind(fd) == Kind::Final {
                return ask(fd);
            }
            let r = ask(readable_socket(*id, fd));
            if r == 0 && request == libc::FIONREAD {
                add_what_follows(*id, arg);
            }
            r
        }
        Some((id, Kind::Active)) => ask(tcp_fd(*id, fd)),
        Some((_, Kind::Final)) if !about_bytes => ask(asked(fd)),
        _ => ask(fd),
    }
}

/// How many bytes the program could read at once.
pub fn unread(fd: c_int) -> c_int {
    let mut count: c_int = 0;
    // SAFETY: FIONREAD writes one int.
    unsafe { ioctl(fd, libc::FIONREAD, &raw mut count as usize) };
    count
}

/// The same as TCP_INQ tells it (tcp(7)): the end of the stream counts as one more byte.
pub fn inquired(id: Id, fd: c_int) -> c_int {
    let last = match fds::kind(fd) {
        Kind::Final => fd,
        _ => readable_socket(id, fd),
    };
    // A reset leaves nothing, and no end.
    let ended = sys::poll_now(last, libc::POLLRDHUP) != 0 && !offsets::is_closed(tcp_fd(id, fd));
    unread(fd) + c_int::from(ended)
}

/// The socket that has the next bytes.
fn readable_socket(id: Id, fd: c_int) -> c_int {
    let unix = id.local().unix.load(Acquire);
    let on_unix = id.endpoint().sides() & sides::RX_UNIX != 0;
    if unix >= 0 && on_unix { unix } else { tcp_fd(id, fd) }
}

/// The answer to FIONREAD while the next bytes are on TCP and the peer writes to the new transport already.
fn add_what_follows(id: Id, answer: usize) {
    let unix = id.local().unix.load(Acquire);
    if unix < 0 || id.endpoint().sides() & (sides::RX_UNIX | sides::CONTROL) != 0 {
        return;
    }
    let _errno = Errno::keep();
    if let Ok(more) = sys::ioctl_int(unix, libc::FIONREAD as u32) {
        let at = answer as *mut c_int;
        // SAFETY: the kernel has just put an int there.
        unsafe { at.write_unaligned(at.read_unaligned().saturating_add(more)) };
    }
}
