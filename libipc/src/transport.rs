//! The seam: what carries the bytes of a direction. The switch moves a direction from one transport to another; no module
//! outside of this one touches the descriptor of the new transport.

pub(crate) mod ancillary;
pub(crate) mod settings;
pub(crate) mod unix;

use libc::{c_int, msghdr};

use crate::endpoint::{Id, tcp_fd};
use crate::switch::Transport;
use crate::sys;
use unix::NewSocket;

/// The transport of one direction of one endpoint, as a call uses it.
#[derive(Clone, Copy)]
pub(crate) enum Carrier {
    /// The TCP socket.
    Tcp(c_int),
    Unix(&'static NewSocket),
}

impl Carrier {
    /// The carrier of a direction that is on `on`; `fd` is the program's number.
    pub(crate) fn of(id: Id, fd: c_int, on: Transport) -> Carrier {
        match on {
            Transport::Tcp => Carrier::Tcp(tcp_fd(id, fd)),
            Transport::Unix => Carrier::Unix(&id.local().unix),
        }
    }

    /// Whether the next thing to read is the end, or an error.
    pub(crate) fn has_ended(self) -> bool {
        match self {
            Carrier::Tcp(tcp) => sys::has_ended(tcp),
            Carrier::Unix(socket) => socket.has_ended(),
        }
    }

    /// How many bytes are there to read.
    pub(crate) fn unread(self) -> usize {
        match self {
            Carrier::Tcp(tcp) => sys::unread(tcp),
            Carrier::Unix(socket) => socket.unread(),
        }
    }

    /// Which of `events` hold now, and ERR and HUP.
    pub(crate) fn poll(self, events: i16) -> i16 {
        match self {
            Carrier::Tcp(tcp) => sys::poll_now(tcp, events),
            Carrier::Unix(socket) => socket.by_number(|number| sys::poll_now(number, events)),
        }
    }

    /// recvmsg(2), past libc.
    pub(crate) fn receive(self, msg: &mut msghdr, flags: c_int) -> sys::Ret {
        match self {
            Carrier::Tcp(tcp) => sys::recvmsg(tcp, msg, flags),
            Carrier::Unix(socket) => socket.receive(msg, flags),
        }
    }

    /// recv(2), past libc.
    pub(crate) fn read(self, room: &mut [u8], flags: c_int) -> sys::Ret {
        match self {
            Carrier::Tcp(tcp) => sys::recv(tcp, room, flags),
            Carrier::Unix(socket) => socket.read(room, flags),
        }
    }

    /// Makes a call that takes nothing but a number (splice).
    pub(crate) fn by_number<R>(self, call: impl FnOnce(c_int) -> R) -> R {
        match self {
            Carrier::Tcp(tcp) => call(tcp),
            Carrier::Unix(socket) => socket.by_number(call),
        }
    }
}
