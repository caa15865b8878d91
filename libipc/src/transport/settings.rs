//! What the program has set on its TCP socket, as far as it acts on the new one, and what keeps a connection on TCP.

use libc::{c_int, socklen_t};

use super::unix::NewSocket;
use crate::sys;

mod table;

use table::Row;
pub(crate) use table::{After, Before, Usual, class};

/// Which buffer sizes the program has chosen: bit 0 the sending one.
const SO_BUF_LOCK: c_int = 72;
/// fcntl(2): the signal that reports readiness, and its receiver: a kind (thread, process, group) and a number.
const F_SETSIG: c_int = 10;
const F_GETSIG: c_int = 11;
const F_SETOWN_EX: c_int = 15;
const F_GETOWN_EX: c_int = 16;
/// The longest value of an option that is copied: a timeval.
const VALUE: usize = 16;

/// The value of an option.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value {
    bytes: [u8; VALUE],
    len: socklen_t,
}

impl Value {
    /// The value that a socket answers.
    pub(crate) fn get(fd: c_int, level: c_int, number: c_int) -> Result<Value, sys::Ret> {
        Value::part(fd, level, number, VALUE)
    }

    /// Up to `room` bytes of it.
    fn part(fd: c_int, level: c_int, number: c_int, room: usize) -> Result<Value, sys::Ret> {
        let mut value = Value { bytes: [0; VALUE], len: room.min(VALUE) as socklen_t };
        let (at, len) = (value.bytes.as_mut_ptr() as usize, &raw mut value.len as usize);
        let r = sys::forward(libc::SYS_getsockopt, [fd as usize, level as usize, number as usize, at, len, 0]);
        if r < 0 { Err(r) } else { Ok(value) }
    }

    pub(crate) fn set(&self, fd: c_int, level: c_int, number: c_int) {
        let (at, len) = (self.bytes.as_ptr() as usize, self.len as usize);
        sys::forward(libc::SYS_setsockopt, [fd as usize, level as usize, number as usize, at, len, 0]);
    }

    fn int(&self) -> c_int {
        let [a, b, c, d, ..] = self.bytes;
        c_int::from_ne_bytes([a, b, c, d])
    }
}

/// Whether an option has the value that every socket has. An option that the kernel does not know counts as not set; one
/// of which the kernel does not tell the value ([`Usual::Untold`]) counts as set.
pub(crate) fn is_usual(fd: c_int, level: c_int, number: c_int, usual: Usual) -> bool {
    if usual == Usual::Untold {
        return false;
    }
    // A filter's length is counted in instructions; here it matters only whether there is a filter, of either kind.
    let (number, room) = if usual == Usual::NoFilter { (libc::SO_GET_FILTER, 0) } else { (number, VALUE) };
    let value = match Value::part(fd, level, number, room) {
        Ok(value) => value,
        // EACCES: there is a filter, of the kind that cannot be read.
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

/// Whether an option is set on a TCP socket that keeps its connection there, in whatever way it came to be set: a
/// listening socket passes options on, and a process that passes a socket on passes its options, too.
pub(crate) fn keep_on_tcp(tcp: c_int) -> bool {
    let set = |row: &Row| match row.before {
        Before::Moves | Before::Stays(Usual::Untold) => false,
        Before::Stays(usual) => !is_usual(tcp, row.level, row.number, usual),
    };
    table::special().any(set)
}

/// Adoption: the new socket gets what the program has set on its TCP socket, as far as it acts there.
pub(crate) fn carry_over(tcp: c_int, unix: &NewSocket) {
    unix.by_number(|unix| copy_options(tcp, unix));
}

/// Final: the same for settings that belong to the open file and not to the socket.
pub(crate) fn complete(tcp: c_int, unix: &NewSocket) {
    unix.by_number(|unix| copy_file(tcp, unix));
}

fn copy_file(tcp: c_int, unix: c_int) {
    sys::fcntl(unix, libc::F_SETFL, (sys::status_flags(tcp) & !libc::O_ASYNC) as usize);
    let (mut owner, signal) = ([0 as c_int; 2], sys::fcntl(tcp, F_GETSIG, 0));
    let place = owner.as_mut_ptr() as usize;
    if sys::fcntl(tcp, F_GETOWN_EX, place) == 0 && owner != [0; 2] {
        sys::fcntl(unix, F_SETOWN_EX, place);
    }
    if signal > 0 {
        sys::fcntl(unix, F_SETSIG, signal as usize);
    }
}

fn copy_options(tcp: c_int, unix: c_int) {
    for row in table::special() {
        match row.after {
            After::Both | After::New => {
                if let Ok(value) = Value::get(tcp, row.level, row.number)
                    && Value::get(unix, row.level, row.number) != Ok(value)
                {
                    value.set(unix, row.level, row.number);
                }
            }
            _ => {}
        }
    }
    make_room(tcp, unix);
}

/// Makes the new socket's sending buffer at least as large as the one that the program has chosen. It is never made
/// smaller: each write takes more of it than on TCP.
pub(crate) fn make_room(tcp: c_int, unix: c_int) {
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
