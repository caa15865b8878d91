//! Memory: mapped, behind files, and the program's own.

use core::mem::{MaybeUninit, size_of};
use core::ptr::{null, null_mut};

use libc::{c_int, c_void};

use super::call::{Ret, call};
use super::files::{close, fcntl, stat};
use super::process::getpid;

/// Reads what the program points to, which the kernel checks (EFAULT).
pub(crate) fn read_from<T: Copy>(place: *const T) -> Result<T, Ret> {
    let mut value = MaybeUninit::<T>::zeroed();
    let own = libc::iovec { iov_base: value.as_mut_ptr().cast(), iov_len: size_of::<T>() };
    let its = libc::iovec { iov_base: place.cast_mut().cast(), iov_len: size_of::<T>() };
    let r = call!(libc::SYS_process_vm_readv, getpid(), &raw const own, 1, &raw const its, 1, 0);
    match r {
        r if r == -(libc::EFAULT as Ret) => Err(r),
        // SAFETY: read whole, and every T used here (structs of integers) is valid for any bit pattern.
        r if r >= 0 => Ok(unsafe { value.assume_init() }),
        // A seccomp filter refuses the call.
        // SAFETY: the program's own pointer, which the kernel would have looked at.
        _ => Ok(unsafe { place.read_unaligned() }),
    }
}

/// Writes where the program points to, which the kernel checks (EFAULT).
pub(crate) fn write_to<T: Copy>(place: *mut T, value: &T) -> Ret {
    let own = libc::iovec { iov_base: (&raw const *value).cast_mut().cast(), iov_len: size_of::<T>() };
    let its = libc::iovec { iov_base: place.cast(), iov_len: size_of::<T>() };
    let r = call!(libc::SYS_process_vm_writev, getpid(), &raw const own, 1, &raw const its, 1, 0);
    if r < 0 && r != -(libc::EFAULT as Ret) {
        // SAFETY: as above.
        unsafe { place.write_unaligned(*value) };
        return 0;
    }
    r
}

/// Anonymous memory of `len` bytes, shared with the children of later forks if `shared`; null if there is none.
pub(crate) fn map_memory(len: usize, shared: bool) -> *mut c_void {
    let kind = if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
    let flags = kind | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    mapped(call!(libc::SYS_mmap, 0, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1isize, 0))
}

/// A file of `len` zeroed bytes that is nothing but memory and keeps its length, with CLOEXEC; negative if it cannot be
/// made. A limit on the size of files would end the program (SIGXFSZ, setrlimit(2)), so the limit is asked before.
pub(crate) fn memory_file(name: &core::ffi::CStr, len: usize) -> c_int {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    call!(libc::SYS_prlimit64, 0, libc::RLIMIT_FSIZE, null::<u8>(), &raw mut limit);
    if limit.rlim_cur < len as u64 {
        return -libc::EFBIG;
    }
    let fd = call!(libc::SYS_memfd_create, name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) as c_int;
    if fd < 0 {
        return fd;
    }
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    let made = call!(libc::SYS_ftruncate, fd, len) == 0 && fcntl(fd, libc::F_ADD_SEALS, seals as usize) == 0;
    if !made {
        close(fd);
        return -libc::ENOMEM;
    }
    fd
}

/// Maps the first `len` bytes of a file, shared; null if it fails.
pub(crate) fn map_file(fd: c_int, len: usize) -> *mut c_void {
    mapped(call!(libc::SYS_mmap, 0, len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0))
}

/// Whether a descriptor is a file of [`memory_file`] of that length.
pub(crate) fn is_memory_file(fd: c_int, len: usize) -> bool {
    let seals = fcntl(fd, libc::F_GET_SEALS, 0);
    seals >= 0 && seals & libc::F_SEAL_SHRINK as Ret != 0 && stat(fd).is_some_and(|st| st.st_size as usize == len)
}

fn byte(kind: c_int, at: usize) -> libc::flock64 {
    let (l_type, l_whence) = (kind as i16, libc::SEEK_SET as i16);
    libc::flock64 { l_type, l_whence, l_start: at as i64, l_len: 1, l_pid: 0 }
}

/// Locks one byte of a file for this process, until it ends; false if another process has it.
pub(crate) fn lock_byte(fd: c_int, at: usize) -> bool {
    let lock = byte(libc::F_WRLCK, at);
    fcntl(fd, libc::F_SETLK, &raw const lock as usize) == 0
}

/// Whether another process has the byte locked. True where that cannot be found out.
pub(crate) fn is_byte_locked(fd: c_int, at: usize) -> bool {
    let mut lock = byte(libc::F_WRLCK, at);
    let r = fcntl(fd, libc::F_GETLK, &raw mut lock as usize);
    r < 0 || i32::from(lock.l_type) != libc::F_UNLCK
}

/// Maps the first `len` bytes of a file for reading, over the mapping at `at` if that is not null; null if it fails.
pub(crate) fn map_readable(fd: c_int, len: usize, at: *mut c_void) -> *mut c_void {
    let flags = if at.is_null() { libc::MAP_SHARED } else { libc::MAP_SHARED | libc::MAP_FIXED };
    mapped(call!(libc::SYS_mmap, at, len, libc::PROT_READ, flags, fd, 0))
}

/// Maps the first `len` bytes of the requests of an io_uring for reading; null if it fails (io_uring_setup(2)).
pub(crate) fn map_requests(ring: c_int, len: usize) -> *mut c_void {
    const IORING_OFF_SQES: usize = 0x1000_0000;
    mapped(call!(libc::SYS_mmap, 0, len, libc::PROT_READ, libc::MAP_SHARED, ring, IORING_OFF_SQES))
}

fn mapped(r: Ret) -> *mut c_void {
    if (-4095..0).contains(&r) { null_mut() } else { r as *mut c_void }
}

pub(crate) fn unmap(at: *mut c_void, len: usize) {
    call!(libc::SYS_munmap, at, len);
}
