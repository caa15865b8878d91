//! A program's scatter/gather list, and the parts of it that one attempt of a call is made with.

use libc::{iovec, msghdr};

/// How many pieces an attempt passes to the kernel at most, unless it passes the whole list; longer lists take several
/// attempts. The pieces lie on the program's stack, which may be small.
const WINDOW: usize = 8;

/// The buffers of one call.
#[derive(Clone, Copy)]
pub(crate) struct Buffers<'a>(pub &'a [iovec]);

/// A part of the buffers, ready to pass to the kernel.
pub(crate) struct Window {
    pieces: [iovec; WINDOW],
    count: usize,
}

impl<'a> Buffers<'a> {
    /// The buffers that a message header names.
    ///
    /// # Safety
    /// `msg` must be what the program passed to a libc call, or made here; its list must stay in place for `'a`.
    pub(crate) unsafe fn of(msg: &msghdr) -> Buffers<'a> {
        Buffers(match msg.msg_iov.is_null() {
            true => &[][..],
            // SAFETY: the caller vouches for the list.
            false => unsafe { core::slice::from_raw_parts(msg.msg_iov, msg.msg_iovlen) },
        })
    }

    /// Bytes in all.
    pub(crate) fn len(self) -> usize {
        self.0.iter().fold(0usize, |sum, b| sum.saturating_add(b.iov_len))
    }

    /// What comes after the first `done` bytes: at most `limit` bytes, in at most [`WINDOW`] pieces.
    pub(crate) fn window(self, done: usize, limit: usize) -> Window {
        let none = iovec { iov_base: core::ptr::null_mut(), iov_len: 0 };
        let mut window = Window { pieces: [none; WINDOW], count: 0 };
        let (mut skip, mut room) = (done, limit);
        let mut slots = window.pieces.iter_mut();
        for b in self.0 {
            if skip >= b.iov_len {
                skip -= b.iov_len;
                continue;
            }
            let len = (b.iov_len - skip).min(room);
            let Some(slot) = slots.next().filter(|_| len > 0) else { break };
            *slot = iovec { iov_base: b.iov_base.wrapping_byte_add(skip), iov_len: len };
            window.count += 1;
            room -= len;
            skip = 0;
        }
        window
    }

    /// Calls `visit` with the pieces of the `n` bytes after the first `done`, which the kernel has just read or written.
    pub(crate) fn each_piece(self, done: usize, n: usize, mut visit: impl FnMut(&[u8])) {
        let (mut skip, mut left) = (done, n);
        for b in self.0 {
            if skip >= b.iov_len {
                skip -= b.iov_len;
                continue;
            }
            let len = (b.iov_len - skip).min(left);
            if len == 0 {
                return;
            }
            // SAFETY: the kernel has just read or written these bytes for the program: they are mapped and readable.
            visit(unsafe { core::slice::from_raw_parts(b.iov_base.cast::<u8>().add(skip), len) });
            left -= len;
            skip = 0;
        }
    }
}

impl Window {
    /// The header of the program with these pieces as its list.
    pub(crate) fn header(&mut self, msg: &msghdr) -> msghdr {
        msghdr { msg_iov: self.pieces.as_mut_ptr(), msg_iovlen: self.count as _, ..*msg }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(buffers: &mut [Vec<u8>]) -> Vec<iovec> {
        buffers.iter_mut().map(|b| iovec { iov_base: b.as_mut_ptr().cast(), iov_len: b.len() }).collect()
    }

    #[test]
    fn windows_cover_every_byte_once_for_any_limit() {
        let mut buffers: Vec<Vec<u8>> = (0..100).map(|i| vec![i as u8; i % 7]).collect();
        let whole: Vec<u8> = buffers.concat();
        let iov = list(&mut buffers);
        for limit in [1, 3, 50, 10_000] {
            let (buffers, mut done) = (Buffers(&iov), 0);
            let mut seen = Vec::new();
            while done < buffers.len() {
                let w = buffers.window(done, limit);
                let n: usize = w.pieces[..w.count].iter().map(|p| p.iov_len).sum();
                assert!(n > 0 && n <= limit);
                buffers.each_piece(done, n, |bytes| seen.extend_from_slice(bytes));
                done += n;
            }
            assert_eq!(seen, whole);
        }
    }
}
