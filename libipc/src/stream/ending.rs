//! How a stream has ended: what the new socket reports, and what TCP reports.
//!
//! A side that closes a stream resets the TCP connection in the cases in which a stream on TCP would be reset
//! (`calls::descriptors`). So TCP knows how the stream ended, and keeps the error for the call that must report it. Only a
//! process that ends without a close call can leave a reset that the new socket alone knows of.

use core::sync::atomic::Ordering::*;

use libc::{c_int, pollfd};

use crate::endpoint::{Id, numbers, tcp_fd};
use crate::host::confine;
use crate::offsets;
use crate::switch::{Sender, drive};
use crate::sys::{self, EAGAIN, ECONNRESET};
use crate::transport::unix::takes_nothing;

/// Whether the next read from a descriptor would return an error.
pub(crate) fn has_error(fd: c_int) -> bool {
    let Some((id, _)) = numbers::lookup(fd) else { return false };
    let mut both = [fd, tcp_fd(*id, fd)].map(|fd| pollfd { fd, events: 0, revents: 0 });
    sys::ppoll(&mut both, Some(0), None);
    both.iter().any(|p| p.revents & libc::POLLERR != 0) && sys::unread(fd) == 0
}

/// Whether a reset that the new socket has reported must be reported to the program. Not if TCP knows of it, or if the reset
/// did not happen to the stream itself. If it must, TCP is ended, so that it answers from then on as it would after a
/// reset.
pub(crate) fn is_news(id: Id) -> bool {
    !drive::is_false_reset(id) && tcp_learns(id)
}

/// The same for a reset that did happen to the stream. False if TCP knows of it.
fn tcp_learns(id: Id) -> bool {
    let tcp = id.local().tcp.load(Acquire);
    let news = !offsets::is_closed(tcp);
    if news && tcp >= 0 {
        sys::shutdown(tcp, libc::SHUT_WR);
    }
    news
}

/// What the end of the new transport means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    OfStream,
    /// The connection was reset, or has failed otherwise: a negated errno.
    Error(sys::Ret),
    /// The stream goes on over TCP: this side has shut the new socket's reading half, and no more bytes come there.
    GoesOn,
}

impl End {
    /// The result of a read that does not go on over TCP.
    pub(crate) fn told(self) -> sys::Ret {
        match self {
            End::Error(error) => error,
            End::OfStream | End::GoesOn => 0,
        }
    }
}

/// The end of the new transport is the end of the stream, unless TCP says otherwise. TCP is drained, so the shim asks it by
/// a read, as the program would: a read does not report errors that are for writers.
pub(crate) fn end_of_stream(id: Id) -> End {
    let tcp = id.local().tcp.load(Acquire);
    match sys::recv(tcp, &mut [0], libc::MSG_PEEK | libc::MSG_DONTWAIT) {
        1 => End::GoesOn,
        r if r < 0 && r != EAGAIN && tcp >= 0 => End::Error(r),
        _ => End::OfStream,
    }
}

/// The result of a read to which the new socket has reported a reset. TCP's error is taken, too, because a reset is
/// reported only once.
pub(crate) fn read_reset(id: Id) -> sys::Ret {
    let tcp = end_of_stream(id);
    if is_news(id) { ECONNRESET } else { tcp.told() }
}

/// Called when the program writes and the peer does not read from the new transport any more: the direction goes back to
/// TCP. `Err` is what the write returns instead.
pub(crate) fn writes_after_the_end(id: Id, tx: &mut Sender) -> Result<(), sys::Ret> {
    tx.returns();
    drive::note_tx(id, tx);
    // If no byte of the program was sent there, the peer has left only a control message unread.
    let reset = id.local().unix.take_error() == libc::ECONNRESET && tx.used;
    if reset && tcp_learns(id) { Err(ECONNRESET) } else { Ok(()) }
}

/// The socket for bytes that are written to `fd` after the new transport has ended: TCP, which learns from the peer's
/// answer that it has closed. `Err` is what the write returns instead. `told`: the new socket has reported a reset already.
pub(crate) fn after_the_end(id: Id, fd: c_int, told: bool) -> Result<c_int, sys::Ret> {
    let tcp = id.local().tcp.load(Acquire);
    if tcp < 0 || !numbers::is_final_now(fd, id) {
        return if told { Err(ECONNRESET) } else { Ok(fd) };
    }
    let reset = told || sys::take_error(fd) == libc::ECONNRESET;
    if reset && is_news(id) { Err(ECONNRESET) } else { Ok(tcp) }
}

/// The socket for bytes that the kernel moves to a number that is the new socket: TCP, if the peer has closed. That is
/// asked before the bytes move, because the new socket would raise SIGPIPE at once. `Err` is how the call ends.
pub(crate) fn taker(id: Id, fd: c_int) -> Result<c_int, sys::Ret> {
    if !confine::is_confined() && takes_nothing(fd) {
        return after_the_end(id, fd, false);
    }
    numbers::note_written(fd);
    Ok(fd)
}
