//! A process that forbids itself system calls (seccomp(2)).
//!
//! Its endpoints that have not moved go on over TCP. What goes through them is counted and hashed still, in memory, so that
//! a process that shares the endpoint and is not confined can take it up when this one has let go (sshd does its key
//! exchange in a confined child).

use libc::{c_int, iovec};
use matcher::reason::Reason;
use matcher::wire::Direction;

use crate::endpoint::{self, numbers};
use crate::fds::Kind;
use crate::host::confine::{is_confined, set_confined};
use crate::host::guard::Errno;
use crate::host::process::is_announced;
use crate::ipcd::terms;
use crate::prefix::Prefix;
use crate::switch::stay::stay;
use crate::switch::{Phase, drive};

/// The program is about to install a filter.
pub fn begin() {
    if is_confined() {
        return;
    }
    let _errno = Errno::keep();
    if is_announced() {
        drive::land_all(|_| true, Reason::Confined);
        for id in endpoint::held() {
            match id.endpoint().phase() {
                Phase::Tracking | Phase::Waiting => numbers::turn(id, Kind::Active, Kind::Counted),
                Phase::Connecting => drop(stay(id, Reason::Confined)),
                _ => {}
            }
        }
    }
    set_confined(true);
}

/// It was not installed.
pub fn failed() {
    set_confined(false);
    for id in endpoint::held() {
        numbers::turn(id, Kind::Counted, Kind::Active);
    }
}

/// A reading call of the program on such a number gave `n` bytes.
pub fn took(fd: c_int, pieces: &[iovec], n: isize, flags: c_int) {
    let Some(id) = numbers::counted(fd).filter(|_| n > 0 && flags & libc::MSG_PEEK == 0) else { return };
    match id.endpoint().lock_rx() {
        Some(mut rx) => {
            rx.state.took(n as u64);
            id.endpoint().moved(Direction::Received, n as u64);
            feed(&mut rx.prefix, pieces, n as usize);
            id.endpoint().prefix_moved(Direction::Received, &rx.prefix);
        }
        None => id.endpoint().spoil(),
    }
}

/// A writing call of the program on such a number took `n` bytes.
pub fn gave(fd: c_int, pieces: &[iovec], n: isize) {
    let Some(id) = numbers::counted(fd).filter(|_| n > 0) else { return };
    match id.endpoint().lock_tx() {
        Some(mut tx) => {
            tx.state.wrote(n as u64);
            id.endpoint().moved(Direction::Sent, n as u64);
            feed(&mut tx.prefix, pieces, n as usize);
            id.endpoint().prefix_moved(Direction::Sent, &tx.prefix);
        }
        None => id.endpoint().spoil(),
    }
}

fn feed(prefix: &mut Prefix, pieces: &[iovec], n: usize) {
    let mut left = n;
    for piece in pieces {
        if !prefix.wants() {
            return;
        }
        let len = piece.iov_len.min(left);
        left -= len;
        if len > 0 {
            // SAFETY: the kernel has just read or written exactly these bytes of the program's buffer.
            prefix.feed(unsafe { core::slice::from_raw_parts(piece.iov_base.cast(), len) }, terms::prefix_bytes());
        }
    }
}
