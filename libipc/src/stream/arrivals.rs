//! Waiting for more bytes than are there already, as TCP does for MSG_PEEK with MSG_WAITALL. A socket that has bytes is
//! readable all the time; only an edge-triggered registration reports that more have come. A call that makes the
//! registration first and looks for the bytes after that misses no later byte.

use libc::{c_int, c_void, pollfd};

use super::wait::{left, outcome};
use crate::endpoint::{Id, tcp_fd};
use crate::fds;
use crate::host::threads::Cancellations;
use crate::readiness::park;
use crate::sys::{self, Deadline, EAGAIN};

const EDGES: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET) as u32;

/// A hidden epoll instance with edge-triggered registrations of some sockets; -1 if it could not be made.
pub(crate) struct Arrivals(c_int);

impl Arrivals {
    pub(crate) fn on(sockets: &[c_int]) -> Arrivals {
        let made = sys::epoll_create() as c_int;
        let edges = if made < 0 { -1 } else { fds::hide(made).unwrap_or(-1) };
        for socket in sockets.iter().filter(|socket| **socket >= 0) {
            sys::epoll_ctl(edges, libc::EPOLL_CTL_ADD, *socket, EDGES, 0);
        }
        Arrivals(edges)
    }

    /// The same for both sockets of an endpoint; `fd` is the program's number.
    pub(crate) fn of(id: Id, fd: c_int) -> Arrivals {
        id.local().unix.by_number(|unix| Arrivals::on(&[tcp_fd(id, fd), unix]))
    }

    /// Waits for an edge, a change of the endpoint or a signal, until a deadline. `Err` is how the call ends.
    pub(crate) fn wait(&self, id: Id, deadline: Deadline) -> Result<(), sys::Ret> {
        let known = Cancellations::heed(left, id.index as *mut c_void);
        let time = deadline.left();
        if time == Some(0) {
            return Err(EAGAIN);
        }
        let watched = [pollfd { fd: self.0, events: libc::POLLIN, revents: 0 }];
        let r = match park::announce(Some(id)).filter(|_| self.0 >= 0) {
            Some(_) if !known.are_all() => Ok(()),
            Some(parked) => outcome(parked.wait(&watched, time), true),
            None => outcome(park::doze(&watched, time), true),
        };
        // Takes the edges that have been reported.
        sys::epoll_now(self.0, &mut [libc::epoll_event { events: 0, u64: 0 }; 2]);
        r
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        if self.0 >= 0 {
            fds::close_hidden(self.0);
        }
    }
}
