//! Records in, records out: the only place where the control socket is read and written. Nothing waits.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::kernel::records;

/// What was in the socket.
pub enum Received<'a> {
    /// A record, and the descriptor that came with it.
    Record(&'a [u8], Option<OwnedFd>),
    /// A record that no sender of this protocol writes: too long, or with too many descriptors.
    Oversized(Vec<OwnedFd>),
    /// The other end is gone.
    End,
}

/// Reads what is in the socket, up to a number of records. True if it may hold more.
pub fn receive(socket: impl AsFd, limit: usize, mut take: impl FnMut(Received<'_>)) -> io::Result<bool> {
    let count = records::receive(socket.as_fd(), limit, |mut record| {
        take(match record.fds.len() {
            // A descriptor that is missing is not the sender's fault: ipcd may have none left.
            0 | 1 if record.cut => Received::Oversized(record.fds),
            // An empty record looks the same; no message is empty.
            0 if record.bytes.is_empty() => Received::End,
            0 | 1 => Received::Record(record.bytes, record.fds.pop()),
            _ => Received::Oversized(record.fds),
        });
    })?;
    Ok(count == limit.min(records::MANY))
}

/// Puts one record into the socket, or says `EAGAIN` if it is full.
pub fn send(socket: impl AsFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> nix::Result<()> {
    let fds = fd.map(|fd| [fd.as_raw_fd()]);
    let rights = fds.as_ref().map(|fds| [ControlMessage::ScmRights(fds)]);
    let rights = rights.as_ref().map_or(&[][..], |rights| &rights[..]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_fd().as_raw_fd(), &[IoSlice::new(bytes)], rights, flags, None).map(|_| ())
}
