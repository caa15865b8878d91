//! A process that forbids itself system calls (seccomp(2)).
//!
//! Its endpoints that have not moved go on over TCP. The bytes that go through them are still counted and hashed, in
//! memory, so that a process that shares the endpoint and is not confined can go on with it when this one has released it
//! (sshd does its key exchange in a confined child).

use libc::{c_int, iovec};
use matcher::reason::Reason;

use crate::endpoint::{self, Half, Id, numbers};
use crate::fds::Kind;
use crate::host::confine::{is_confined, set_confined};
use crate::host::guard::Errno;
use crate::host::process::is_announced;
use crate::stream::buffers::Buffers;
use crate::stream::tally::{Side, tally};
use crate::switch::stay::stay;
use crate::switch::{Phase, drive};

/// Called when the program is about to install a filter.
pub(crate) fn begin() {
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

/// Called when the filter could not be installed.
pub(crate) fn failed() {
    set_confined(false);
    for id in endpoint::held() {
        numbers::turn(id, Kind::Counted, Kind::Active);
    }
}

/// Counts the `n` bytes that a reading call of the program has read, if its number is a counted one.
pub(crate) fn took(fd: c_int, pieces: &[iovec], n: isize, flags: c_int) {
    let Some(id) = numbers::counted(fd).filter(|_| n > 0 && flags & libc::MSG_PEEK == 0) else { return };
    match id.endpoint().lock_rx() {
        Some(mut rx) => counted(id, &mut rx, pieces, n as usize),
        None => id.endpoint().spoil(),
    }
}

/// Counts the `n` bytes that a writing call of the program has written, if its number is a counted one.
pub(crate) fn gave(fd: c_int, pieces: &[iovec], n: isize) {
    let Some(id) = numbers::counted(fd).filter(|_| n > 0) else { return };
    match id.endpoint().lock_tx() {
        Some(mut tx) => counted(id, &mut tx, pieces, n as usize),
        None => id.endpoint().spoil(),
    }
}

fn counted<S: Side>(id: Id, half: &mut Half<'_, S>, pieces: &[iovec], n: usize) {
    tally(id, half, n, |prefix, of| Buffers(pieces).each_piece(0, n, |bytes| prefix.feed(bytes, of)));
}
