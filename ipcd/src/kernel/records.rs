//! Reads several records from a socket of kind SOCK_SEQPACKET with one system call, and the descriptors that came with each.
//!
//! nix has a function for this system call, too, but it loses the descriptors of a record that carries too many.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::null_mut;

use matcher::wire::MAX_MESSAGE;

/// How many records one call reads at most.
pub const MANY: usize = 16;
/// Room for one byte more than any message has, so that a longer one shows.
const ROOM: usize = MAX_MESSAGE + 1;
/// Room for a head and two descriptors, one more than any message carries.
const CONTROL: usize = size_of::<libc::cmsghdr>() + 2 * size_of::<i32>();

const _: () = assert!(size_of::<libc::cmsghdr>() == 16 && CONTROL == size_of::<[u64; 3]>());

/// One record, as the kernel gives it.
pub struct Record<'a> {
    /// Its bytes, or the first of them if it is longer than any message.
    pub bytes: &'a [u8],
    /// The descriptors that came with it; two stands for two or more.
    pub fds: Vec<OwnedFd>,
    /// Whether it is longer than any message.
    pub cut: bool,
}

/// Reads what is there, up to `limit` and [`MANY`] records, without waiting. Gives the number of records; fewer than
/// were asked for means that the socket is empty now.
pub fn receive(socket: BorrowedFd<'_>, limit: usize, mut take: impl FnMut(Record<'_>)) -> io::Result<usize> {
    let limit = limit.min(MANY);
    let (mut bytes, mut control) = ([[0u8; ROOM]; MANY], [[0u64; 3]; MANY]);
    // SAFETY: both are plain data, valid if all bits are zero.
    let (mut parts, mut heads): ([libc::iovec; MANY], [libc::mmsghdr; MANY]) = unsafe { zeroed() };
    for (((head, part), bytes), control) in heads.iter_mut().zip(&mut parts).zip(&mut bytes).zip(&mut control) {
        *part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: ROOM };
        head.msg_hdr.msg_iov = part;
        head.msg_hdr.msg_iovlen = 1;
        head.msg_hdr.msg_control = control.as_mut_ptr().cast();
        head.msg_hdr.msg_controllen = CONTROL as _;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: `limit` heads are there, and each describes memory that is its own and outlives the call.
    let count = unsafe { libc::recvmmsg(socket.as_raw_fd(), heads.as_mut_ptr(), limit as u32, flags, null_mut()) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    for ((head, bytes), control) in heads.iter().zip(&bytes).zip(&control).take(count) {
        let len = (head.msg_len as usize).min(ROOM);
        let fds = descriptors(control, head.msg_hdr.msg_controllen);
        let cut = head.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 || len == ROOM;
        take(Record { bytes: bytes.get(..len).unwrap_or_default(), fds, cut });
    }
    Ok(count)
}

/// The descriptors in the control part of a record that the kernel has just filled: a length, level and type, and the numbers.
fn descriptors(control: &[u64; 3], filled: usize) -> Vec<OwnedFd> {
    let [len, kind, numbers] = control.map(u64::to_ne_bytes);
    let (len, numbers) = (usize::from_ne_bytes(len).min(filled), [&numbers[..4], &numbers[4..]]);
    let is_rights = kind == [libc::SOL_SOCKET.to_ne_bytes(), libc::SCM_RIGHTS.to_ne_bytes()].concat()[..];
    let count = if is_rights { len.saturating_sub(size_of::<libc::cmsghdr>()) / size_of::<i32>() } else { 0 };
    let own = |number: &[u8]| {
        let number = number.try_into().map(i32::from_ne_bytes).unwrap_or(-1);
        // SAFETY: the kernel has made this descriptor for us with the record; nobody else has it.
        unsafe { OwnedFd::from_raw_fd(number) }
    };
    numbers.into_iter().take(count).map(own).collect()
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::os::fd::AsFd;

    use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    fn send(socket: &OwnedFd, bytes: &[u8], fds: &[i32]) {
        let rights = [ControlMessage::ScmRights(fds)];
        let rights = if fds.is_empty() { &rights[..0] } else { &rights[..] };
        let sent = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], rights, MsgFlags::empty(), None);
        assert_eq!(sent, Ok(bytes.len()));
    }

    fn all(socket: &OwnedFd, limit: usize) -> Vec<(usize, usize, bool)> {
        let mut all = Vec::new();
        receive(socket.as_fd(), limit, |r| all.push((r.bytes.len(), r.fds.len(), r.cut))).unwrap();
        all
    }

    #[test]
    fn records_come_in_order_with_what_belongs_to_them() {
        let (a, b) = pair();
        let fd = a.as_raw_fd();
        send(&a, &[1], &[]);
        send(&a, &[1; 2], &[fd]);
        send(&a, &[1; MAX_MESSAGE], &[]);
        assert_eq!(all(&b, 2), [(1, 0, false), (2, 1, false)]);
        send(&a, &[1; MAX_MESSAGE + 1], &[fd]);
        assert_eq!(all(&b, MANY), [(MAX_MESSAGE, 0, false), (ROOM, 1, true)]);
        let empty = receive(b.as_fd(), MANY, |_| ()).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        drop(a);
        assert_eq!(all(&b, 1), [(0, 0, false)], "the end");
    }

    #[test]
    fn of_too_many_descriptors_none_is_lost() {
        let (a, b) = pair();
        let (kept, passed) = pair();
        send(&a, &[1], &[passed.as_raw_fd(); 60]);
        drop(passed);
        assert_eq!(all(&b, 1), [(1, 2, false)]);
        assert_eq!(all(&kept, 1), [(0, 0, false)], "no copy is left");
    }
}
