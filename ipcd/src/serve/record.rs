//! One record in, one record out: the only place where the control socket is read and written. Nothing waits.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use matcher::wire::MAX_MESSAGE;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

/// No message carries more descriptors than this; the buffer holds one more to notice.
const MAX_FDS: usize = 1;

/// What was in the socket.
pub enum Received {
    /// A record, and the descriptors that came with it.
    Record(Vec<OwnedFd>, usize),
    /// A record that no sender of this protocol writes: too long, or with too many descriptors.
    Oversized(Vec<OwnedFd>),
    /// The other end is gone.
    End,
}

/// Reads one record into `buffer`.
pub fn receive(socket: impl AsFd, buffer: &mut [u8; MAX_MESSAGE + 1]) -> rustix::io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS + 1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags)?;
    let mut fds = Vec::new();
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = part {
            fds.extend(more);
        }
    }
    // CTRUNC alone may also mean that ipcd has no descriptor left, which is not the sender's fault.
    if message.flags.contains(ReturnFlags::TRUNC) || message.bytes > MAX_MESSAGE || fds.len() > MAX_FDS {
        return Ok(Received::Oversized(fds));
    }
    if message.bytes == 0 && fds.is_empty() {
        // An empty record looks the same; no message is empty.
        return Ok(Received::End);
    }
    Ok(Received::Record(fds, message.bytes))
}

/// Puts one record into the socket, or says `AGAIN` if it is full.
pub fn send(socket: impl AsFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(|fd| [fd]);
    if let Some(fds) = &fds
        && !ancillary.push(SendAncillaryMessage::ScmRights(fds))
    {
        return Err(Errno::NOBUFS);
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags).map(|_| ())
}
