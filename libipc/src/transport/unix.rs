//! The new socket: the end of a Unix-domain socketpair that ipcd granted. No other module knows its descriptor.
//!
//! The descriptor lies above the program's numbers from the grant to final. Then the program's numbers become the new
//! socket, the program's calls go straight to the kernel, and the hidden descriptor is closed.

use core::sync::atomic::{AtomicI32, Ordering::*};

use libc::{c_int, msghdr, pollfd};

use crate::fds::{self, Kind};
use crate::switch::{CONTROL_LEN, Control};
use crate::sys::{self, EAGAIN, EINTR, EPIPE};

/// Where the descriptor is kept; -1 where there is none.
pub(crate) struct NewSocket(AtomicI32);

/// What a look for a control message found.
pub(crate) enum Heard {
    Message(Control),
    /// None is there yet.
    Nothing,
    /// The socket has ended, or has bytes that are no control message.
    Lost,
}

impl NewSocket {
    fn number(&self) -> c_int {
        self.0.load(Acquire)
    }

    /// The memory becomes that of a new endpoint: there is no descriptor.
    pub(crate) fn reset(&self) {
        self.0.store(-1, Relaxed);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.number() >= 0
    }

    /// Keeps a hidden descriptor here, in place of the one before, which is closed.
    pub(crate) fn keep(&self, hidden: c_int) {
        close(self.0.swap(hidden, SeqCst));
    }

    /// Takes over the descriptor that another place has.
    pub(crate) fn take_from(&self, other: &NewSocket) {
        self.0.store(other.0.swap(-1, SeqCst), SeqCst);
    }

    pub(crate) fn close(&self) {
        self.keep(-1);
    }

    // What the switch does with it.

    /// Sends a control message; false if it cannot be sent whole.
    pub(crate) fn say(&self, message: Control) -> bool {
        let record = message.encode();
        sys::send(self.number(), &record, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) == record.len() as isize
    }

    /// Takes a control message.
    pub(crate) fn hear(&self) -> Heard {
        let mut bytes = [0u8; CONTROL_LEN];
        match sys::recv(self.number(), &mut bytes, libc::MSG_DONTWAIT) {
            n if n == CONTROL_LEN as isize => Control::decode(&bytes).map_or(Heard::Lost, Heard::Message),
            EAGAIN | EINTR => Heard::Nothing,
            _ => Heard::Lost,
        }
    }

    /// Takes the control messages off a socket that is about to be closed; after this no more arrive. Left unread, they
    /// would look to the peer like bytes that the program did not want (unix(7): a reset).
    pub(crate) fn discard_control(&self) {
        if !self.is_open() {
            return;
        }
        self.shutdown(libc::SHUT_RD);
        let mut bytes = [0u8; CONTROL_LEN];
        while sys::recv(self.number(), &mut bytes, libc::MSG_DONTWAIT | libc::MSG_PEEK) == CONTROL_LEN as isize
            && Control::decode(&bytes).is_some()
        {
            sys::recv(self.number(), &mut bytes, libc::MSG_DONTWAIT);
        }
    }

    pub(crate) fn shutdown(&self, how: c_int) {
        if self.is_open() {
            sys::shutdown(self.number(), how);
        }
    }

    /// `SO_COOKIE`.
    pub(crate) fn cookie(&self) -> Option<u64> {
        sys::getsockopt(self.number(), libc::SOL_SOCKET, libc::SO_COOKIE).ok()
    }

    /// Final: one of the program's numbers becomes this socket.
    pub(crate) fn replace(&self, fd: c_int) {
        let cloexec = sys::fcntl(fd, libc::F_GETFD, 0) & libc::FD_CLOEXEC as isize != 0;
        sys::dup3(self.number(), fd, if cloexec { libc::O_CLOEXEC } else { 0 });
    }

    // What calls do with it.

    /// How many bytes are there to read.
    pub(crate) fn unread(&self) -> usize {
        sys::unread(self.number())
    }

    /// Whether the next thing to read is the end, or an error. It is not read: that would take an error from the program.
    pub(crate) fn has_ended(&self) -> bool {
        sys::has_ended(self.number())
    }

    /// An entry to poll the socket with; nothing is polled if the socket is closed.
    pub(crate) fn pollfd(&self, events: i16) -> pollfd {
        pollfd { fd: self.number(), events, revents: 0 }
    }

    pub(crate) fn receive(&self, msg: &mut msghdr, flags: c_int) -> sys::Ret {
        sys::recvmsg(self.number(), msg, flags)
    }

    pub(crate) fn read(&self, room: &mut [u8], flags: c_int) -> sys::Ret {
        sys::recv(self.number(), room, flags)
    }

    /// Writes without the parts of the header that TCP ignores and this socket would not.
    pub(crate) fn send(&self, msg: &msghdr, flags: c_int) -> sys::Ret {
        sys::sendmsg(self.number(), &plain(msg), flags & !libc::MSG_ZEROCOPY)
    }

    /// Whether the peer has closed its end, or shut its reading half: a write of 0 bytes tells
    /// (docs/kernel-notes/questions-by-calls.md).
    pub(crate) fn takes_nothing(&self) -> bool {
        takes_nothing(self.number())
    }

    /// Takes the pending error off the socket; 0: none.
    pub(crate) fn take_error(&self) -> c_int {
        sys::take_error(self.number())
    }

    /// Makes a call that only takes a number: splice(2), or an option that the program sets.
    pub(crate) fn by_number<R>(&self, call: impl FnOnce(c_int) -> R) -> R {
        call(self.number())
    }

    // Readiness.

    /// Registers the socket with epoll, under a second number if the instance has the first already (the program has
    /// registered a duplicate, too).
    pub(crate) fn register(&self, epfd: c_int, events: u32, data: u64) -> Registered {
        let add = |number| sys::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, number, events, data);
        match add(self.number()) {
            r if r >= 0 => Registered(self.number()),
            r if r == -(libc::EEXIST as sys::Ret) => match fds::duplicate_hidden(self.number()) {
                Some(other) if add(other) >= 0 => Registered(other),
                other => {
                    if let Some(other) = other {
                        fds::close_hidden(other);
                    }
                    Registered::NOT
                }
            },
            _ => Registered::NOT,
        }
    }

    /// Removes a registration.
    pub(crate) fn unregister(&self, epfd: c_int, registered: Registered) {
        if registered.is_there() {
            sys::epoll_ctl(epfd, libc::EPOLL_CTL_DEL, registered.0, 0, 0);
            self.forget(registered);
        }
    }

    /// Forgets a registration without touching the kernel's, which other processes have, too.
    pub(crate) fn forget(&self, registered: Registered) {
        if registered.is_there() && registered.0 != self.number() {
            fds::close_hidden(registered.0);
        }
    }

    // The way through exec.

    /// Leaves its number in `to` for the next program.
    pub(crate) fn leave_to(&self, to: &AtomicI32) {
        to.store(self.number(), Relaxed);
    }

    /// Takes up the number that the program before this one has left.
    pub(crate) fn resume(&self, from: c_int) {
        fds::mark(from, Kind::Hidden);
        self.0.store(from, SeqCst);
    }
}

/// Under which number the new socket is registered in an epoll instance.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registered(c_int);

impl Registered {
    pub(crate) const NOT: Registered = Registered(0);

    pub(crate) fn is_there(self) -> bool {
        self.0 > 0
    }

    pub(crate) fn modify(self, epfd: c_int, events: u32, data: u64) {
        if self.is_there() {
            sys::epoll_modify(epfd, self.0, events, data);
        }
    }
}

/// [`NewSocket::takes_nothing`] of a number that may be the new socket.
pub(crate) fn takes_nothing(number: c_int) -> bool {
    sys::send(number, &[], libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) == EPIPE
}

/// The header without what TCP ignores and a Unix-domain socket would not: an address, ancillary data.
pub(crate) fn plain(msg: &msghdr) -> msghdr {
    let none = core::ptr::null_mut();
    msghdr { msg_name: none, msg_namelen: 0, msg_control: none, msg_controllen: 0, ..*msg }
}

fn close(number: c_int) {
    if number >= 0 {
        fds::close_hidden(number);
    }
}
