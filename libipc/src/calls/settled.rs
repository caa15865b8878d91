//! A call in progress whose endpoint has settled, on the new transport or on TCP.

use core::sync::atomic::Ordering::*;

use libc::{c_int, pollfd};

use crate::endpoint::{Id, tcp_fd};
use crate::fds::{self, Kind};
use crate::park::{self, Woken};
use crate::switch::Phase;
use crate::sys;

const EAGAIN: sys::Ret = -(libc::EAGAIN as sys::Ret);
const EINTR: sys::Ret = -(libc::EINTR as sys::Ret);

/// The socket that a call goes on with once the endpoint is settled: the program's number, or, if that has been closed or
/// replaced since, another number of the endpoint, or what was kept of it.
pub fn settled_socket(id: Id, fd: c_int) -> (c_int, Kind) {
    let unix = id.local().unix.load(Acquire);
    match fds::is_number_of(fd, id).then_some(fd).or_else(|| fds::numbers_of(id).next()) {
        Some(number) => (number, fds::kind(number)),
        None if unix >= 0 && id.endpoint().phase() == Phase::Final => (unix, Kind::Final),
        None => (tcp_fd(id, fd), Kind::Stay),
    }
}

/// A call that began to block goes on blocking when another thread makes the descriptor non-blocking. `Err` is how it
/// ends.
pub fn await_settled(id: Id, fd: c_int, events: i16, deadline: Option<u64>) -> Result<(), sys::Ret> {
    let left = park::left_until(deadline);
    let Some(parked) = park::announce(Some(id)).filter(|_| left != Some(0) && sys::is_nonblocking(fd)) else {
        return Err(EAGAIN);
    };
    match parked.wait(&[pollfd { fd, events, revents: 0 }], left) {
        Woken::Look | Woken::Signal { restarts: true } => Ok(()),
        Woken::TimedOut => Err(EAGAIN),
        Woken::Signal { restarts: false } => Err(EINTR),
    }
}
