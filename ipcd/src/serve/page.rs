//! The page shared with one shim: how many records ipcd has sent to it.
//!
//! ```text
//!   0        4                                            4096
//!   +--------+---------------------------------------------+
//!   | count  | zero                                        |   memfd, sealed: it can neither shrink, nor grow,
//!   +--------+---------------------------------------------+   nor be mapped or opened for writing by the shim
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use matcher::wire::GRANT_PAGE_LEN;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

/// ipcd's writable mapping of the page.
pub struct Page {
    memfd: OwnedFd,
    count: NonNull<AtomicU32>,
}

impl Page {
    /// A new page with a count of zero.
    pub fn new() -> rustix::io::Result<Page> {
        let memfd = rustix::fs::memfd_create("ipcd-grants", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&memfd, GRANT_PAGE_LEN as u64)?;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at an address that the kernel chooses; nothing else refers to it.
        let map = unsafe { rustix::mm::mmap(std::ptr::null_mut(), GRANT_PAGE_LEN, protection, flags, &memfd, 0)? };
        let count = NonNull::new(map.cast()).ok_or(Errno::NOMEM)?;
        let page = Page { memfd, count };
        let fixed = SealFlags::SHRINK | SealFlags::GROW;
        // Before Linux 5.1 a shim can write to its own page, and with that fool nobody but itself.
        rustix::fs::fcntl_add_seals(&page.memfd, fixed | SealFlags::FUTURE_WRITE)
            .or_else(|_| rustix::fs::fcntl_add_seals(&page.memfd, fixed))?;
        rustix::fs::fcntl_add_seals(&page.memfd, SealFlags::SEAL)?;
        Ok(page)
    }

    /// One more record is in the shim's socket.
    pub fn sent(&self) {
        // SAFETY: the mapping is page-aligned, as long as `self`, and cannot be truncated under it (F_SEAL_SHRINK). Other
        // processes only read it.
        unsafe { self.count.as_ref() }.fetch_add(1, Ordering::Release);
    }
}

impl AsFd for Page {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` made, and no reference into it outlives a call.
        let _ = unsafe { rustix::mm::munmap(self.count.as_ptr().cast(), GRANT_PAGE_LEN) };
    }
}
