//! ioctl: a request about the descriptor goes to the descriptor itself, a request about bytes to the socket that has them,
//! and every other request to TCP.

use libc::{c_int, c_ulong};

use crate::calls::connect::asked;
use crate::calls::descriptors::heed_signals;
use crate::endpoint::{numbers, tcp_fd};
use crate::fds::{self, Kind};
use crate::host::guard::Errno;
use crate::stream::unread;
use crate::switch::drive;
use crate::symbols::real;

const FIOCLEX: c_ulong = 0x5451;
const FIONCLEX: c_ulong = 0x5450;
const FIOASYNC: c_ulong = 0x5452;
const FIOQSIZE: c_ulong = 0x5460;
const FIOSETOWN: c_ulong = 0x8901;
const SIOCSPGRP: c_ulong = 0x8902;
const FIOGETOWN: c_ulong = 0x8903;
const SIOCGPGRP: c_ulong = 0x8904;
const SIOCATMARK: c_ulong = 0x8905;

/// Whether a request is about the descriptor, whatever file that is.
fn is_of_the_descriptor(request: c_ulong) -> bool {
    matches!(
        request,
        libc::FIONBIO | FIOASYNC | FIOCLEX | FIONCLEX | FIOQSIZE | FIOSETOWN | SIOCSPGRP | FIOGETOWN | SIOCGPGRP
    )
}

pub(crate) unsafe fn ioctl(fd: c_int, request: c_ulong, arg: usize) -> c_int {
    // SAFETY: the program's own call.
    let ask = |fd| unsafe { real::ioctl()(fd, request, arg) };
    if !fds::is_ours(fd) || is_of_the_descriptor(request) {
        let r = ask(fd);
        if r == 0 && request == FIOASYNC && fds::needs_us(fd) {
            heed_signals(fd);
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
            let r = unread::carrier(*id, fd).by_number(ask);
            if r == 0 && request == libc::FIONREAD {
                let _errno = Errno::keep();
                let (at, more) = (arg as *mut c_int, unread::what_follows(*id) as c_int);
                // SAFETY: the kernel has just put an int there.
                unsafe { at.write_unaligned(at.read_unaligned().saturating_add(more)) };
            }
            r
        }
        Some((id, Kind::Active)) => ask(tcp_fd(*id, fd)),
        Some((_, Kind::Final)) if !about_bytes => ask(asked(fd)),
        _ => ask(fd),
    }
}
