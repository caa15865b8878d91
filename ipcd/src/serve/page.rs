//! The page shared with one shim: how many records ipcd has sent to it.
//!
//! ```text
//!   0        4                                            4096
//!   +--------+---------------------------------------------+
//!   | count  | zero                                        |   memfd, sealed: it can neither shrink, nor grow,
//!   +--------+---------------------------------------------+   nor be mapped or opened for writing by the shim
//! ```

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use matcher::wire::GRANT_PAGE_LEN;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::ftruncate;

/// ipcd's writable mapping of the page.
pub struct Page {
    memfd: OwnedFd,
    count: NonNull<AtomicU32>,
}

impl Page {
    /// A new page with a count of zero.
    pub fn new() -> nix::Result<Page> {
        let memfd = memfd_create("ipcd-grants", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        ftruncate(&memfd, GRANT_PAGE_LEN as i64)?;
        let len = NonZeroUsize::new(GRANT_PAGE_LEN).ok_or(Errno::EINVAL)?;
        let (protection, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
        // SAFETY: a new mapping at an address that the kernel chooses; nothing else refers to it.
        let map = unsafe { mmap(None, len, protection, flags, &memfd, 0)? };
        let page = Page { memfd, count: map.cast() };
        let seal = |seals| fcntl(&page.memfd, FcntlArg::F_ADD_SEALS(seals));
        let fixed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
        // Before Linux 5.1 a shim can write to its own page, and with that fool nobody but itself.
        seal(fixed | SealFlag::F_SEAL_FUTURE_WRITE).or_else(|_| seal(fixed))?;
        seal(SealFlag::F_SEAL_SEAL)?;
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
        let _ = unsafe { munmap(self.count.cast(), GRANT_PAGE_LEN) };
    }
}
