//! A list of pollfds of any length without an allocator: short ones on the stack, long ones in memory of their own.

use libc::pollfd;

use crate::sys;

const INLINE: usize = 64;
const NONE: pollfd = pollfd { fd: -1, events: 0, revents: 0 };

pub(crate) struct Scratch {
    inline: [pollfd; INLINE],
    mapped: *mut pollfd,
    capacity: usize,
    len: usize,
}

impl Scratch {
    /// Room for `capacity` entries; `None` if there is no memory.
    pub(crate) fn new(capacity: usize) -> Option<Scratch> {
        let mut scratch = Scratch { inline: [NONE; INLINE], mapped: core::ptr::null_mut(), capacity: INLINE, len: 0 };
        if capacity > INLINE {
            scratch.mapped = sys::map_memory(capacity * size_of::<pollfd>(), false).cast();
            scratch.capacity = capacity;
            if scratch.mapped.is_null() {
                return None;
            }
        }
        Some(scratch)
    }

    fn all(&mut self) -> &mut [pollfd] {
        match self.mapped.is_null() {
            true => &mut self.inline,
            // SAFETY: mapped by `new` for `capacity` entries, zeroed, and owned by this value.
            false => unsafe { core::slice::from_raw_parts_mut(self.mapped, self.capacity) },
        }
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    pub(crate) fn push(&mut self, entry: pollfd) {
        let at = self.len;
        if let Some(slot) = self.all().get_mut(at) {
            *slot = entry;
            self.len += 1;
        }
    }

    /// The entries pushed since the last `clear`.
    pub(crate) fn filled(&mut self) -> &mut [pollfd] {
        let len = self.len;
        self.all().get_mut(..len).unwrap_or(&mut [])
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.mapped.is_null() {
            sys::unmap(self.mapped.cast(), self.capacity * size_of::<pollfd>());
        }
    }
}
