//! What the program uses an io_uring for, as its requests tell: a request that was served stays in its slot until the slot
//! is used again (docs/kernel-notes/io-uring-slots.md). Databases read and write files by an io_uring, and wait for
//! connections by other calls.

use core::sync::atomic::{AtomicU64, Ordering::*};

use libc::c_int;

use super::fdinfo;
use crate::sys;

/// struct io_uring_sqe, in words (io_uring_enter(2)).
const WORDS: usize = 8;
/// enum io_uring_op and IOSQE_FIXED_FILE, of linux/io_uring.h.
const NOP: u8 = 0;
const READV: u8 = 1;
const WRITEV: u8 = 2;
const FSYNC: u8 = 3;
const READ_FIXED: u8 = 4;
const WRITE_FIXED: u8 = 5;
const SYNC_FILE_RANGE: u8 = 8;
const FALLOCATE: u8 = 17;
const OPENAT: u8 = 18;
const CLOSE: u8 = 19;
const STATX: u8 = 21;
const READ: u8 = 22;
const WRITE: u8 = 23;
const FADVISE: u8 = 24;
const OPENAT2: u8 = 28;
const FIXED_FILE: u8 = 1;

/// A request, by its first two words: opcode, flags, priority and number; offset.
#[derive(Clone, Copy)]
struct Request {
    opcode: u8,
    flags: u8,
    number: c_int,
    offset: u64,
}

impl Request {
    fn of([head, offset, ..]: &[AtomicU64; WORDS]) -> Request {
        let [opcode, flags, _, _, number @ ..] = head.load(Relaxed).to_ne_bytes();
        Request { opcode, flags, number: c_int::from_ne_bytes(number), offset: offset.load(Relaxed) }
    }

    /// Whether the request reads or writes at an offset: a stream has none.
    fn has_place(self) -> bool {
        self.moves() && self.offset != 0 && self.offset != u64::MAX
    }

    fn moves(self) -> bool {
        matches!(self.opcode, READV | WRITEV | READ_FIXED | WRITE_FIXED | READ | WRITE)
    }

    fn is_of_a_file(self) -> bool {
        self.has_place()
            || matches!(self.opcode, FSYNC | SYNC_FILE_RANGE | FALLOCATE | OPENAT | CLOSE | STATX | FADVISE | OPENAT2)
    }
}

/// Whether the ring has served requests, and all that can still be seen were for files; `is_socket` tells which numbers may
/// be sockets. False if that cannot be found out.
pub(crate) fn is_for_files(ring: c_int, is_socket: impl Fn(c_int) -> bool) -> bool {
    let Some(slots) = fdinfo::slots(ring) else { return false };
    let len = slots * WORDS * size_of::<u64>();
    let at = sys::map_requests(ring, len);
    if at.is_null() {
        return false;
    }
    // A ring may be made smaller (io_uring_register(2)), and then a part of the mapping has no pages: none is looked at.
    let slots = if fdinfo::slots(ring) == Some(slots) { slots } else { 0 };
    // SAFETY: mapped for so many requests, page-aligned; the program may write each at any time.
    let words = unsafe { core::slice::from_raw_parts(at.cast::<[AtomicU64; WORDS]>(), slots) };
    let are = are_for_files(|| words.iter().map(Request::of), is_socket);
    sys::unmap(at, len);
    are
}

fn are_for_files<I: Iterator<Item = Request>>(requests: impl Fn() -> I, is_socket: impl Fn(c_int) -> bool) -> bool {
    // A socket may have the number of a file that was read and closed.
    let was_a_file = |number| requests().any(|r| r.number == number && r.has_place());
    let is_of_a_file = |r: Request| {
        r.is_of_a_file() || r.moves() && r.flags & FIXED_FILE == 0 && (!is_socket(r.number) || was_a_file(r.number))
    };
    let mut used = requests().filter(|r| r.opcode != NOP).peekable();
    used.peek().is_some() && used.all(is_of_a_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL_ADD: u8 = 6;
    const RECV: u8 = 27;
    const NOTHING: Request = request(NOP, 0, 0);
    const SOCKET: c_int = 7;

    const fn request(opcode: u8, number: c_int, offset: u64) -> Request {
        Request { opcode, flags: 0, number, offset }
    }

    fn are(requests: &[Request]) -> bool {
        are_for_files(|| requests.iter().copied(), |number| number == SOCKET)
    }

    #[test]
    fn a_ring_that_reads_and_writes_files() {
        assert!(are(&[request(READV, 5, 0), request(WRITE, 5, 16384), NOTHING]));
        assert!(are(&[request(OPENAT, libc::AT_FDCWD, 0), request(FSYNC, 5, 0)]));
        let reused = "the socket has the number of a file that was closed";
        assert!(are(&[request(READ, SOCKET, 0), request(READ, SOCKET, 16384)]), "{reused}");
    }

    #[test]
    fn a_ring_that_may_be_for_sockets() {
        assert!(!are(&[NOTHING, NOTHING]), "not used yet");
        assert!(!are(&[request(READ, 5, 0), request(POLL_ADD, 5, 0)]));
        assert!(!are(&[request(READ, 5, 0), request(RECV, 5, 0)]));
        assert!(!are(&[request(READ, SOCKET, 0)]));
        assert!(!are(&[request(READ, SOCKET, u64::MAX)]), "at the place where the file is");
        assert!(!are(&[Request { flags: FIXED_FILE, ..request(READ, 5, 0) }]), "from the ring's own table");
    }
}
