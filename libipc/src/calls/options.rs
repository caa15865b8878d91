//! Socket options. Before final they are TCP's by themselves; after it TCP goes on answering, and what acts on the data
//! path is set on both sockets.

use libc::{c_int, c_void, socklen_t};
use matcher::reason::Reason;

use super::connect::asked;
use crate::endpoint;
use crate::fds::{self, Kind};
use crate::guard::set_errno;
use crate::hooks::real;
use crate::switch::Phase;

const TCP_ULP: c_int = 31;
const TCP_FASTOPEN_CONNECT: c_int = 30;
const TCP_ZEROCOPY_RECEIVE: c_int = 35;

/// Options whose meaning no Unix-domain socket has.
fn only_tcp(level: c_int, name: c_int) -> bool {
    match level {
        libc::SOL_SOCKET => matches!(
            name,
            libc::SO_ZEROCOPY
                | libc::SO_ATTACH_FILTER
                | libc::SO_ATTACH_BPF
                | libc::SO_TIMESTAMPING
                | libc::SO_TIMESTAMP
                | libc::SO_TIMESTAMPNS
                | libc::SO_OOBINLINE
                | libc::SO_TXTIME
                | libc::SO_RCVLOWAT
        ),
        libc::IPPROTO_TCP => {
            matches!(name, TCP_ULP | libc::TCP_REPAIR | TCP_FASTOPEN_CONNECT | TCP_ZEROCOPY_RECEIVE)
        }
        _ => false,
    }
}

/// Options that act where the bytes are.
fn acts_on_data(level: c_int, name: c_int) -> bool {
    level == libc::SOL_SOCKET && matches!(name, libc::SO_RCVTIMEO | libc::SO_SNDTIMEO | libc::SO_RCVLOWAT)
}

pub unsafe fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t) -> c_int {
    // SAFETY: the program's own arguments.
    let set = |fd| unsafe { real::setsockopt()(fd, level, name, value, len) };
    let Some((id, kind)) = fds::lookup(fd) else { return set(fd) };
    match kind {
        Kind::Active if only_tcp(level, name) && !is_default(name, value, len) => {
            if !endpoint::stay(*id, Reason::Option)
                && let Some(mut tx) = id.endpoint().lock_tx()
            {
                tx.state.barred = true;
            }
            set(fd)
        }
        Kind::Final if only_tcp(level, name) && name != libc::SO_RCVLOWAT && !is_zero(value, len) => {
            // The error that makes programs do without: no such ULP, not for this kind of socket.
            set_errno(if name == TCP_ULP { libc::ENOENT } else { libc::EOPNOTSUPP });
            -1
        }
        Kind::Final => {
            let tcp = asked(fd);
            let r = set(tcp);
            if r == 0 && tcp != fd && acts_on_data(level, name) {
                set(fd);
            }
            r
        }
        _ => set(fd),
    }
}

/// Whether an option is set to what it is anyway: an int of 0, or 1 for the low-water mark.
fn is_default(name: c_int, value: *const c_void, len: socklen_t) -> bool {
    is_int(value, len, c_int::from(name == libc::SO_RCVLOWAT))
}

fn is_zero(value: *const c_void, len: socklen_t) -> bool {
    is_int(value, len, 0)
}

fn is_int(value: *const c_void, len: socklen_t, expected: c_int) -> bool {
    // SAFETY: the program's option value of `len` bytes.
    len as usize >= size_of::<c_int>()
        && !value.is_null()
        && unsafe { value.cast::<c_int>().read_unaligned() } == expected
}

pub unsafe fn getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t) -> c_int {
    if let Some((id, Kind::Active)) = fds::lookup(fd) {
        // SAFETY: the program's own call.
        let r = unsafe { real::getsockopt()(fd, level, name, value, len) };
        // A program that asks after a non-blocking connect (connect(2)) has learnt that it is complete.
        if r == 0 && (level, name) == (libc::SOL_SOCKET, libc::SO_ERROR) && id.endpoint().phase() == Phase::Connecting {
            super::connect::completed(*id, fd);
        }
        return r;
    }
    let tcp = asked(fd);
    // SAFETY: the program's own call, on the socket that has the answer.
    let r = unsafe { real::getsockopt()(tcp, level, name, value, len) };
    let pending = (level, name) == (libc::SOL_SOCKET, libc::SO_ERROR);
    if r == 0 && tcp != fd && pending && is_zero(value, size_of::<c_int>() as socklen_t) {
        // SAFETY: as above: an error of the new socket counts as well.
        return unsafe { real::getsockopt()(fd, level, name, value, len) };
    }
    r
}
