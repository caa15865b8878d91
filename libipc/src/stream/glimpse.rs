//! A look at bytes that sendfile and splice are about to move: the ones that belong to a prefix.

use libc::{c_int, off_t};

use crate::ipcd::terms;
use crate::prefix::Prefix;
use crate::sys;

/// The most bytes that a look can copy; a longer prefix is lost if it moves this way.
const GLIMPSE: usize = 256;

/// A look at bytes that will move without passing through the program, as far as they belong to the prefix.
pub(super) struct Glimpse {
    bytes: [u8; GLIMPSE],
    len: usize,
}

impl Glimpse {
    /// Nothing was looked at.
    pub(super) const NONE: Glimpse = Glimpse { bytes: [0; GLIMPSE], len: 0 };

    /// The bytes that `prefix` still misses, as far as `look` finds them.
    pub(super) fn of(prefix: &Prefix, look: impl FnOnce(&mut [u8]) -> sys::Ret) -> Glimpse {
        let mut g = Glimpse::NONE;
        let missing = prefix.missing(terms::prefix_bytes()).min(GLIMPSE);
        if let Some(room) = g.bytes.get_mut(..missing).filter(|room| !room.is_empty()) {
            g.len = look(room).max(0) as usize;
        }
        g
    }

    /// Gives the prefix, which is `of` bytes long, its bytes among the `moved` ones.
    pub(super) fn tell(&self, prefix: &mut Prefix, moved: usize, of: u32) {
        prefix.feed_glimpse(self.bytes.get(..self.len).unwrap_or(&[]), moved, of);
    }
}

/// The bytes of a file that sendfile is about to send. Should the file change in between, the hashes of both ends
/// differ and the stream stays on TCP.
pub(super) fn look_at_file(file: c_int, offset: Option<off_t>, room: &mut [u8]) -> sys::Ret {
    let here = || sys::forward(libc::SYS_lseek, [file as usize, 0, libc::SEEK_CUR as usize, 0, 0, 0]);
    let at = offset.map_or_else(here, |o| o as sys::Ret);
    if at < 0 {
        return at;
    }
    sys::forward(libc::SYS_pread64, [file as usize, room.as_mut_ptr() as usize, room.len(), at as usize, 0, 0])
}

/// Copies the next bytes of a pipe, through a second pipe (tee(2)).
pub(super) fn look_at_pipe(pipe: c_int, room: &mut [u8]) -> sys::Ret {
    let mut copy: [c_int; 2] = [-1; 2];
    let flags = (libc::O_CLOEXEC | libc::O_NONBLOCK) as usize;
    if sys::forward(libc::SYS_pipe2, [copy.as_mut_ptr() as usize, flags, 0, 0, 0, 0]) < 0 {
        return 0;
    }
    let [out, into] = copy;
    let nonblock = libc::SPLICE_F_NONBLOCK as usize;
    let teed = sys::forward(libc::SYS_tee, [pipe as usize, into as usize, room.len(), nonblock, 0, 0]);
    let seen = if teed > 0 { sys::read(out, room) } else { teed };
    sys::close(out);
    sys::close(into);
    seen
}
