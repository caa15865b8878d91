//! The shim's own system calls, made without libc: they neither come back into our hooks nor touch errno.
//!
//! Every function returns what the kernel returns: a value of 0 or more, or a negated errno.

use core::mem::{MaybeUninit, size_of};
use core::ptr::{null, null_mut};

use libc::{c_int, c_long, c_void, msghdr, pollfd, sockaddr_storage, timespec};
use syscalls::raw;

/// What a system call returned: 0 or more, or a negated errno.
pub type Ret = isize;

/// All signals, as the kernel's 64-bit set.
pub const ALL_SIGNALS: u64 = !0;

macro_rules! call {
    ($nr:expr $(, $arg:expr)*) => { call!(@ $nr, [$($arg as usize),*]) };
    (@ $nr:expr, [$($arg:expr),*]) => {{
        let a = pad([$($arg),*]);
        // SAFETY: the wrapper that expands this passes pointers that are valid for what the kernel does with them, or
        // passes on pointers of the host program, which the kernel checks (EFAULT).
        unsafe { raw::syscall6($nr as usize, a[0], a[1], a[2], a[3], a[4], a[5]) as Ret }
    }};
}

fn pad<const K: usize>(args: [usize; K]) -> [usize; 6] {
    let mut all = [0; 6];
    for (to, from) in all.iter_mut().zip(args) {
        *to = from;
    }
    all
}

/// A system call with the host program's own arguments, passed on unchecked.
pub fn forward(nr: c_long, args: [usize; 6]) -> Ret {
    call!(nr, args[0], args[1], args[2], args[3], args[4], args[5])
}

pub fn close(fd: c_int) -> Ret {
    call!(libc::SYS_close, fd)
}

pub fn getpid() -> c_int {
    call!(libc::SYS_getpid) as c_int
}

pub fn geteuid() -> u32 {
    call!(libc::SYS_geteuid) as u32
}

/// CLOCK_MONOTONIC, nanoseconds.
pub fn now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// CLOCK_REALTIME, nanoseconds.
pub fn realtime() -> u64 {
    clock(libc::CLOCK_REALTIME)
}

fn clock(which: c_int) -> u64 {
    let mut t = timespec { tv_sec: 0, tv_nsec: 0 };
    call!(libc::SYS_clock_gettime, which, &raw mut t);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Lets others go on, for a millisecond.
pub fn nap() {
    ppoll(&mut [], Some(1_000_000), None);
}

pub fn yield_now() {
    call!(libc::SYS_sched_yield);
}

/// Duplicates `fd` to the lowest free number of `min` or more, with CLOEXEC.
pub fn dup_above(fd: c_int, min: c_int) -> Ret {
    call!(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, min)
}

pub fn dup3(from: c_int, to: c_int, flags: c_int) -> Ret {
    call!(libc::SYS_dup3, from, to, flags)
}

pub fn fcntl(fd: c_int, cmd: c_int, arg: usize) -> Ret {
    call!(libc::SYS_fcntl, fd, cmd, arg)
}

pub fn is_nonblocking(fd: c_int) -> bool {
    let flags = fcntl(fd, libc::F_GETFL, 0);
    flags >= 0 && flags & libc::O_NONBLOCK as Ret != 0
}

pub fn shutdown(fd: c_int, how: c_int) -> Ret {
    call!(libc::SYS_shutdown, fd, how)
}

pub fn recvmsg(fd: c_int, msg: *mut msghdr, flags: c_int) -> Ret {
    call!(libc::SYS_recvmsg, fd, msg, flags)
}

pub fn sendmsg(fd: c_int, msg: *const msghdr, flags: c_int) -> Ret {
    call!(libc::SYS_sendmsg, fd, msg, flags)
}

pub fn recv(fd: c_int, buf: &mut [u8], flags: c_int) -> Ret {
    call!(libc::SYS_recvfrom, fd, buf.as_mut_ptr(), buf.len(), flags, null_mut::<u8>(), null_mut::<u8>())
}

pub fn send(fd: c_int, buf: &[u8], flags: c_int) -> Ret {
    call!(libc::SYS_sendto, fd, buf.as_ptr(), buf.len(), flags, null::<u8>(), 0)
}

pub fn socket(domain: c_int, kind: c_int, protocol: c_int) -> Ret {
    call!(libc::SYS_socket, domain, kind, protocol)
}

pub fn connect(fd: c_int, addr: *const c_void, len: u32) -> Ret {
    call!(libc::SYS_connect, fd, addr, len)
}

/// Dissolves a TCP connection at once: the peer is sent a reset (connect(2), AF_UNSPEC).
pub fn disconnect(fd: c_int) -> Ret {
    let nobody = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
    call!(libc::SYS_connect, fd, &raw const nobody, size_of::<libc::sockaddr>())
}

/// Reads a socket option of fixed size; what the kernel does not fill stays zero.
pub fn getsockopt<T: Copy>(fd: c_int, level: c_int, name: c_int) -> Result<T, Ret> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>() as u32;
    let r = call!(libc::SYS_getsockopt, fd, level, name, value.as_mut_ptr(), &raw mut len);
    // SAFETY: zeroed, and every T used here (integers, timeval, structs of integers) is valid for any bit pattern.
    if r < 0 { Err(r) } else { Ok(unsafe { value.assume_init() }) }
}

/// Reads what the program points to, which the kernel checks (EFAULT).
pub fn read_from<T: Copy>(place: *const T) -> Result<T, Ret> {
    let mut value = MaybeUninit::<T>::zeroed();
    let own = libc::iovec { iov_base: value.as_mut_ptr().cast(), iov_len: size_of::<T>() };
    let its = libc::iovec { iov_base: place.cast_mut().cast(), iov_len: size_of::<T>() };
    let r = call!(libc::SYS_process_vm_readv, getpid(), &raw const own, 1, &raw const its, 1, 0);
    match r {
        r if r == -(libc::EFAULT as Ret) => Err(r),
        // SAFETY: read whole, and every T used here (structs of integers) is valid for any bit pattern.
        r if r >= 0 => Ok(unsafe { value.assume_init() }),
        // A filter refuses the call.
        // SAFETY: the program's own pointer, which the kernel would have looked at.
        _ => Ok(unsafe { place.read_unaligned() }),
    }
}

/// Writes where the program points to, which the kernel checks (EFAULT).
pub fn write_to<T: Copy>(place: *mut T, value: &T) -> Ret {
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

pub fn setsockopt<T: Copy>(fd: c_int, level: c_int, name: c_int, value: &T) -> Ret {
    call!(libc::SYS_setsockopt, fd, level, name, &raw const *value, size_of::<T>())
}

/// getsockname (`peer` false) or getpeername.
pub fn name(fd: c_int, peer: bool) -> Result<sockaddr_storage, Ret> {
    let mut addr = MaybeUninit::<sockaddr_storage>::zeroed();
    let mut len = size_of::<sockaddr_storage>() as u32;
    let nr = if peer { libc::SYS_getpeername } else { libc::SYS_getsockname };
    let r = call!(nr, fd, addr.as_mut_ptr(), &raw mut len);
    // SAFETY: zeroed, and sockaddr_storage is valid for any bit pattern.
    if r < 0 { Err(r) } else { Ok(unsafe { addr.assume_init() }) }
}

/// An ioctl that writes one int.
pub fn ioctl_int(fd: c_int, request: u32) -> Result<c_int, Ret> {
    let mut value: c_int = 0;
    let r = call!(libc::SYS_ioctl, fd, request, &raw mut value);
    if r < 0 { Err(r) } else { Ok(value) }
}

/// poll with a relative timeout in nanoseconds (`None`: for ever) and, if given, a signal mask.
pub fn ppoll(fds: &mut [pollfd], timeout: Option<u64>, mask: Option<&u64>) -> Ret {
    let mut t = timespec { tv_sec: 0, tv_nsec: 0 };
    let t = match timeout {
        None => null_mut(),
        Some(ns) => {
            t.tv_sec = (ns / 1_000_000_000) as i64;
            t.tv_nsec = (ns % 1_000_000_000) as i64;
            &raw mut t
        }
    };
    let mask = mask.map_or(null(), |m| &raw const *m);
    call!(libc::SYS_ppoll, fds.as_mut_ptr(), fds.len(), t, mask, 8)
}

/// Which of `events` hold for a descriptor at this moment, and ERR, HUP and NVAL.
pub fn poll_now(fd: c_int, events: i16) -> i16 {
    let mut one = [pollfd { fd, events, revents: 0 }];
    ppoll(&mut one, Some(0), None);
    one[0].revents
}

/// Whether the calling thread is in a signal handler on its alternate stack (sigaltstack(2)).
pub fn is_on_alternate_stack() -> bool {
    let mut now = MaybeUninit::<libc::stack_t>::zeroed();
    let r = call!(libc::SYS_sigaltstack, null::<u8>(), now.as_mut_ptr());
    // SAFETY: zeroed, and stack_t is valid for any bit pattern.
    r == 0 && unsafe { now.assume_init() }.ss_flags & libc::SS_ONSTACK != 0
}

/// A number that changes whenever the calling thread has gone to sleep (getrusage(2), voluntary context switches), and from
/// thread to thread.
pub fn sleeps_of_thread() -> u32 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    call!(libc::SYS_getrusage, libc::RUSAGE_THREAD, usage.as_mut_ptr());
    // SAFETY: zeroed, and rusage is valid for any bit pattern.
    let slept = unsafe { usage.assume_init() }.ru_nvcsw as u32;
    slept ^ (crate::sync::thread() >> 6) as u32
}

/// Replaces the calling thread's signal mask and returns the old one.
pub fn set_sigmask(mask: u64) -> u64 {
    let mut old = 0u64;
    call!(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, &raw mut old, 8);
    old
}

pub fn signalfd(fd: c_int, mask: u64) -> Ret {
    call!(libc::SYS_signalfd4, fd, &raw const mask, 8, libc::O_CLOEXEC | libc::O_NONBLOCK)
}

/// The flags (SA_…) and handler of a signal's disposition.
pub fn sigaction(signo: c_int) -> Option<(usize, u64)> {
    #[repr(C)]
    struct Kernel {
        handler: usize,
        flags: u64,
        restorer: usize,
        mask: u64,
    }
    let mut old = Kernel { handler: 0, flags: 0, restorer: 0, mask: 0 };
    let r = call!(libc::SYS_rt_sigaction, signo, null::<u8>(), &raw mut old, 8);
    (r == 0).then_some((old.handler, old.flags))
}

/// Queues a signal to the calling thread with the siginfo of one that was taken from a signalfd.
pub fn requeue_signal(signo: c_int, info: &libc::siginfo_t) -> Ret {
    let tid = call!(libc::SYS_gettid);
    call!(libc::SYS_rt_tgsigqueueinfo, getpid(), tid, signo, &raw const *info)
}

/// Takes one pending signal out of `set`, with its siginfo; none is -EAGAIN.
pub fn take_signal(set: u64, info: &mut libc::siginfo_t) -> Ret {
    let zero = timespec { tv_sec: 0, tv_nsec: 0 };
    call!(libc::SYS_rt_sigtimedwait, &raw const set, &raw mut *info, &raw const zero, 8)
}

pub fn eventfd() -> Ret {
    call!(libc::SYS_eventfd2, 0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)
}

pub fn write(fd: c_int, buf: &[u8]) -> Ret {
    call!(libc::SYS_write, fd, buf.as_ptr(), buf.len())
}

pub fn read(fd: c_int, buf: &mut [u8]) -> Ret {
    call!(libc::SYS_read, fd, buf.as_mut_ptr(), buf.len())
}

pub fn epoll_ctl(epfd: c_int, op: c_int, fd: c_int, events: u32, data: u64) -> Ret {
    let event = libc::epoll_event { events, u64: data };
    call!(libc::SYS_epoll_ctl, epfd, op, fd, &raw const event)
}

pub fn epoll_create() -> Ret {
    call!(libc::SYS_epoll_create1, libc::EPOLL_CLOEXEC)
}

/// Takes the events that are there; how many, or a negated errno.
pub fn epoll_now(epfd: c_int, events: &mut [libc::epoll_event]) -> Ret {
    let room = events.len().min(c_int::MAX as usize);
    call!(libc::SYS_epoll_pwait, epfd, events.as_mut_ptr(), room, 0, null::<u64>(), 8)
}

/// Sleeps while the word is `expected`; true if nobody woke it for 20 ms.
pub fn futex_wait(word: &core::sync::atomic::AtomicU32, expected: u32) -> bool {
    let t = timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    call!(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, &raw const t) == -(libc::ETIMEDOUT as Ret)
}

pub fn futex_wake(word: &core::sync::atomic::AtomicU32) {
    call!(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1);
}

/// Anonymous memory of `len` bytes, shared with the children of later forks if `shared`; null if there is none.
pub fn map_memory(len: usize, shared: bool) -> *mut c_void {
    let kind = if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
    let flags = kind | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    mapped(call!(libc::SYS_mmap, 0, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1isize, 0))
}

/// A file of `len` zeroed bytes that is nothing but memory and keeps its length, with CLOEXEC; negative where there is
/// none to be had. A limit on the size of files would end the program (SIGXFSZ, setrlimit(2)), so it is asked before.
pub fn memory_file(name: &core::ffi::CStr, len: usize) -> c_int {
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
pub fn map_file(fd: c_int, len: usize) -> *mut c_void {
    mapped(call!(libc::SYS_mmap, 0, len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0))
}

/// Whether a descriptor is a file of [`memory_file`] of that length.
pub fn is_memory_file(fd: c_int, len: usize) -> bool {
    let seals = fcntl(fd, libc::F_GET_SEALS, 0);
    seals >= 0 && seals & libc::F_SEAL_SHRINK as Ret != 0 && stat(fd).is_some_and(|st| st.st_size as usize == len)
}

fn stat(fd: c_int) -> Option<libc::stat64> {
    let mut st = MaybeUninit::<libc::stat64>::zeroed();
    let r = call!(libc::SYS_fstat, fd, st.as_mut_ptr());
    // SAFETY: zeroed, and stat64 is valid for any bit pattern.
    (r == 0).then(|| unsafe { st.assume_init() })
}

/// The number of the file behind a descriptor.
pub fn inode(fd: c_int) -> Option<u64> {
    stat(fd).map(|st| st.st_ino)
}

/// Whether the file may be executed.
pub fn is_executable(path: *const u8) -> bool {
    call!(libc::SYS_faccessat, libc::AT_FDCWD, path, libc::X_OK) == 0
}

/// Whether executing the open file may change what the process is allowed to do: set-user-ID, set-group-ID, file
/// capabilities (capabilities(7)). Also true if that cannot be found out.
pub fn changes_privilege(file: c_int) -> bool {
    let capabilities = call!(libc::SYS_fgetxattr, file, c"security.capability".as_ptr(), null::<u8>(), 0);
    capabilities >= 0 || stat(file).is_none_or(|st| st.st_mode & (libc::S_ISUID | libc::S_ISGID) != 0)
}

fn byte(kind: c_int, at: usize) -> libc::flock64 {
    let (l_type, l_whence) = (kind as i16, libc::SEEK_SET as i16);
    libc::flock64 { l_type, l_whence, l_start: at as i64, l_len: 1, l_pid: 0 }
}

/// Locks one byte of a file for this process, until it ends; false if another process has it.
pub fn lock_byte(fd: c_int, at: usize) -> bool {
    let lock = byte(libc::F_WRLCK, at);
    fcntl(fd, libc::F_SETLK, &raw const lock as usize) == 0
}

/// Whether another process has the byte locked. True where that cannot be found out.
pub fn is_byte_locked(fd: c_int, at: usize) -> bool {
    let mut lock = byte(libc::F_WRLCK, at);
    let r = fcntl(fd, libc::F_GETLK, &raw mut lock as usize);
    r < 0 || i32::from(lock.l_type) != libc::F_UNLCK
}

/// Maps the first `len` bytes of a file for reading, over the mapping at `at` if that is not null; null if it fails.
pub fn map_readable(fd: c_int, len: usize, at: *mut c_void) -> *mut c_void {
    let flags = if at.is_null() { libc::MAP_SHARED } else { libc::MAP_SHARED | libc::MAP_FIXED };
    mapped(call!(libc::SYS_mmap, at, len, libc::PROT_READ, flags, fd, 0))
}

/// Maps the first `len` bytes of the requests of an io_uring for reading; null if it fails (io_uring_setup(2)).
pub fn map_requests(ring: c_int, len: usize) -> *mut c_void {
    const IORING_OFF_SQES: usize = 0x1000_0000;
    mapped(call!(libc::SYS_mmap, 0, len, libc::PROT_READ, libc::MAP_SHARED, ring, IORING_OFF_SQES))
}

fn mapped(r: Ret) -> *mut c_void {
    if (-4095..0).contains(&r) { null_mut() } else { r as *mut c_void }
}

pub fn unmap(at: *mut c_void, len: usize) {
    call!(libc::SYS_munmap, at, len);
}

/// Reads and, if `new` is given, sets RLIMIT_NOFILE: (soft, hard).
pub fn nofile(new: Option<(u64, u64)>) -> Result<(u64, u64), Ret> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let new = new.map(|(rlim_cur, rlim_max)| libc::rlimit64 { rlim_cur, rlim_max });
    let at = new.as_ref().map_or(null(), |n| &raw const *n);
    let r = call!(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, at, &raw mut old);
    if r < 0 { Err(r) } else { Ok((old.rlim_cur, old.rlim_max)) }
}

/// Whether the process has ended (a zombie has): its descriptors are closed.
pub fn process_ended(pid: c_int) -> bool {
    let fd = call!(libc::SYS_pidfd_open, pid, 0);
    if fd < 0 {
        return fd == -(libc::ESRCH as Ret);
    }
    let mut p = [pollfd { fd: fd as c_int, events: libc::POLLIN, revents: 0 }];
    let ended = ppoll(&mut p, Some(0), None) > 0;
    close(fd as c_int);
    ended
}

/// Owner, mode and kind of a path, without following a last symbolic link.
pub fn lstat(path: *const u8) -> Option<libc::stat64> {
    let mut st = MaybeUninit::<libc::stat64>::zeroed();
    let r = call!(libc::SYS_newfstatat, libc::AT_FDCWD, path, st.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW);
    // SAFETY: zeroed, and stat64 is valid for any bit pattern.
    (r == 0).then(|| unsafe { st.assume_init() })
}

/// What the kernel does to a thread that writes to a closed stream.
pub fn raise_sigpipe() {
    let tid = call!(libc::SYS_gettid);
    call!(libc::SYS_tgkill, getpid(), tid, libc::SIGPIPE);
}

/// Where a symbolic link in a directory leads. `path` ends with 0.
pub fn readlink(directory: c_int, path: *const u8, buf: &mut [u8]) -> Ret {
    call!(libc::SYS_readlinkat, directory, path, buf.as_mut_ptr(), buf.len())
}
