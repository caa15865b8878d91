//! Socket options and ioctl. Before the move they are TCP's by themselves; after it TCP goes on answering, and what acts
//! on the data path is set on both sockets. [`table`] says what is done with which.

use core::sync::atomic::Ordering::*;

use libc::{c_int, c_void, socklen_t};
use matcher::reason::Reason;

use super::connect::asked;
use super::control;
use super::reset::{is_news, take_error};
use crate::endpoint::{self, Id, tcp_fd};
use crate::fds::{self, Kind};
use crate::host::guard::{Errno, NoSignals, set_errno};
use crate::switch::Phase;
use crate::symbols::real;
use crate::sys;

pub mod ioctl;
mod table;

use table::{After, Before, Row, Usual, class};

/// getsockopt(2) with it takes bytes from TCP's queue.
const TCP_ZEROCOPY_RECEIVE: c_int = 35;
const SO_PEEK_OFF: c_int = 42;
/// Which buffer sizes the program has chosen: bit 0 the sending one.
const SO_BUF_LOCK: c_int = 72;
/// The longest value of an option that is copied: a timeval.
const VALUE: usize = 16;

/// The value of an option.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Value {
    bytes: [u8; VALUE],
    len: socklen_t,
}

impl Value {
    /// Up to `room` bytes of what a socket answers.
    fn get(fd: c_int, level: c_int, number: c_int, room: usize) -> Result<Value, sys::Ret> {
        let mut value = Value { bytes: [0; VALUE], len: room.min(VALUE) as socklen_t };
        let (at, len) = (value.bytes.as_mut_ptr() as usize, &raw mut value.len as usize);
        let r = sys::forward(libc::SYS_getsockopt, [fd as usize, level as usize, number as usize, at, len, 0]);
        if r < 0 { Err(r) } else { Ok(value) }
    }

    fn set(&self, fd: c_int, level: c_int, number: c_int) {
        let (at, len) = (self.bytes.as_ptr() as usize, self.len as usize);
        sys::forward(libc::SYS_setsockopt, [fd as usize, level as usize, number as usize, at, len, 0]);
    }

    fn int(&self) -> c_int {
        let [a, b, c, d, ..] = self.bytes;
        c_int::from_ne_bytes([a, b, c, d])
    }
}

/// Whether an option has the value that every socket has. What the kernel does not know or tell is not set.
fn is_usual(fd: c_int, level: c_int, number: c_int, usual: Usual) -> bool {
    if usual == Usual::Untold {
        return false;
    }
    // A filter's length is counted in instructions, and it is only asked whether there is one, of whichever kind.
    let (number, room) = if usual == Usual::NoFilter { (libc::SO_GET_FILTER, 0) } else { (number, VALUE) };
    let value = match Value::get(fd, level, number, room) {
        Ok(value) => value,
        // A filter of the kind that cannot be read.
        Err(r) => return usual != Usual::NoFilter || r != -(libc::EACCES as sys::Ret),
    };
    match usual {
        Usual::Int(expected) => value.int() == expected,
        Usual::Unlimited => value.bytes.iter().take(value.len as usize).all(|byte| *byte == 0xff),
        Usual::NoFilter | Usual::NoName => value.len == 0,
        // Answered above.
        Usual::Untold => false,
    }
}

/// Whether something is set on a TCP socket that keeps its connection there, by whatever way it came to be set: the
/// listening socket passes options on, and so does whoever passes a socket on.
pub fn keep_on_tcp(tcp: c_int) -> bool {
    let set = |row: &Row| match row.before {
        Before::Moves | Before::Stays(Usual::Untold) => false,
        Before::Stays(usual) => !is_usual(tcp, row.level, row.number, usual),
    };
    table::special().any(set)
}

/// Adoption: what the program has set on its TCP socket, as far as it acts on the new one.
pub fn carry_over(tcp: c_int, unix: c_int) {
    for row in table::special() {
        match row.after {
            After::Both | After::New => {
                if let Ok(value) = Value::get(tcp, row.level, row.number, VALUE)
                    && Value::get(unix, row.level, row.number, VALUE) != Ok(value)
                {
                    value.set(unix, row.level, row.number);
                }
            }
            _ => {}
        }
    }
    make_room(tcp, unix);
}

/// A sending buffer that the program has chosen is at least as large on the new socket. Not smaller than it is: each
/// write costs more of it than on TCP.
fn make_room(tcp: c_int, unix: c_int) {
    let int = |fd, number| sys::getsockopt::<c_int>(fd, libc::SOL_SOCKET, number);
    if int(tcp, SO_BUF_LOCK).is_ok_and(|locked| locked & 1 != 0)
        && let (Ok(wanted), Ok(has)) = (int(tcp, libc::SO_SNDBUF), int(unix, libc::SO_SNDBUF))
        && wanted > has
    {
        // The kernel doubles what it is given (socket(7)).
        let half = wanted / 2;
        if sys::setsockopt(unix, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &half) < 0 {
            sys::setsockopt(unix, libc::SOL_SOCKET, libc::SO_SNDBUF, &half);
        }
    }
}

pub unsafe fn setsockopt(fd: c_int, level: c_int, number: c_int, value: *const c_void, len: socklen_t) -> c_int {
    // SAFETY: the program's own arguments.
    let set = |fd| unsafe { real::setsockopt()(fd, level, number, value, len) };
    let (id, tcp) = match fds::lookup(fd) {
        Some((id, Kind::Active)) => {
            let tcp = tcp_fd(*id, fd);
            (id, tcp)
        }
        Some((id, Kind::Final)) if asked(fd) != fd => {
            let tcp = asked(fd);
            (id, tcp)
        }
        _ => return set(fd),
    };
    let (before, after) = class(level, number);
    let r = match before {
        Before::Moves => set(tcp),
        Before::Stays(usual) => set_on_tcp_only(*id, tcp, (level, number), (usual, after), set),
    };
    if r == 0 {
        let _errno = Errno::keep();
        if control::is_about(level, number) {
            control::note(*id, tcp);
        }
        follow(*id, fd, tcp, after, set);
    }
    r
}

/// Sets an option that a connection cannot move with. Too late, after the promise, it is refused where the new socket has
/// nothing like it: TCP is asked first, for an error of its own.
fn set_on_tcp_only(
    id: Id,
    tcp: c_int,
    (level, number): (c_int, c_int),
    (usual, after): (Usual, After),
    set: impl Fn(c_int) -> c_int,
) -> c_int {
    let phase = id.endpoint().phase();
    let promised = matches!(phase, Phase::Adopting | Phase::Dual | Phase::Final);
    if let (After::Refused(error), Usual::NoName, true) = (after, usual, promised) {
        // There is no way to take it back.
        set_errno(error);
        return -1;
    }
    let old = Value::get(tcp, level, number, VALUE);
    let r = set(tcp);
    if r != 0 || is_usual(tcp, level, number, usual) {
        return r;
    }
    // Not connected yet: it may be set otherwise once more, and is looked for when the grant is taken up.
    let later = phase == Phase::Connecting && usual != Usual::Untold;
    if later || endpoint::stay(id, Reason::Option) {
        return r;
    }
    let After::Refused(error) = after else { return r };
    match old {
        _ if usual == Usual::NoFilter => drop(sys::setsockopt(tcp, level, libc::SO_DETACH_FILTER, &0)),
        Ok(old) => old.set(tcp, level, number),
        Err(_) => {}
    }
    set_errno(error);
    -1
}

/// An option has been set on the TCP socket: the new one gets it, too, if there is one by now and it acts there.
fn follow(id: Id, fd: c_int, tcp: c_int, after: After, set: impl Fn(c_int) -> c_int) {
    let (e, l) = (id.endpoint(), id.local());
    if tcp == fd && fds::kind(fd) == Kind::Final {
        // The descriptor has been replaced meanwhile.
        set(l.tcp.load(Acquire));
    }
    if matches!(after, After::Tcp | After::Refused(_)) || e.phase() < Phase::Adopting {
        return;
    }
    // No step of the move comes between; one that is under way has carried over what was set before.
    let _no_signals = NoSignals::hold();
    let Some(_tx) = e.lock_tx() else { return };
    let new = match fds::kind(fd) {
        Kind::Final => fd,
        _ => l.unix.load(Acquire),
    };
    if new < 0 {
        return;
    }
    match after {
        After::Room => make_room(l.tcp.load(Acquire), new),
        _ => drop(set(new)),
    }
}

pub unsafe fn getsockopt(fd: c_int, level: c_int, number: c_int, value: *mut c_void, len: *mut socklen_t) -> c_int {
    // SAFETY: the program's own call.
    let get = |fd| unsafe { real::getsockopt()(fd, level, number, value, len) };
    let option = (level, number);
    let active = match fds::lookup(fd) {
        Some((id, Kind::Active)) => Some(id),
        Some((_, Kind::Final)) => None,
        _ => return get(fd),
    };
    if option == (libc::IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE) && fds::is_ours(fd) {
        let stays = active.as_ref().is_some_and(|id| endpoint::stay(**id, Reason::Option));
        if !stays {
            // What a kernel without it says (before 4.18).
            set_errno(libc::ENOPROTOOPT);
            return -1;
        }
    }
    let pending = option == (libc::SOL_SOCKET, libc::SO_ERROR);
    if let Some(id) = active {
        let r = get(tcp_fd(*id, fd));
        // A program that asks after a non-blocking connect (connect(2)) has learnt that it is complete.
        if r == 0 && pending && id.endpoint().phase() == Phase::Connecting {
            super::connect::completed(*id, fd);
        }
        return r;
    }
    let tcp = asked(fd);
    if option == (libc::SOL_SOCKET, SO_PEEK_OFF) || tcp == fd {
        return get(fd);
    }
    let r = get(tcp);
    if r == 0 && pending {
        // An error of the new socket counts as well, and goes with TCP's: it is told once.
        let own = take_error(fd);
        let reset = || fds::lookup(fd).is_some_and(|(id, _)| is_news(*id));
        if own != 0 && is_zero(value, len) && (own != libc::ECONNRESET || reset()) {
            // SAFETY: where the kernel has just put an int.
            unsafe { value.cast::<c_int>().write_unaligned(own) };
        }
    }
    r
}

/// Whether the kernel has answered with an int that is 0.
fn is_zero(value: *const c_void, len: *const socklen_t) -> bool {
    // SAFETY: where the kernel has just put its answer and the length of it.
    unsafe { *len as usize == size_of::<c_int>() && value.cast::<c_int>().read_unaligned() == 0 }
}
