//! Descriptors: sockets, files, and what waits for them.

use core::mem::{MaybeUninit, size_of};
use core::ptr::{null, null_mut};

use libc::{c_int, c_void, msghdr, pollfd, sockaddr_storage, timespec};

use super::call::{Ret, call};

pub(crate) fn close(fd: c_int) -> Ret {
    call!(libc::SYS_close, fd)
}

/// Duplicates `fd` to the lowest free number of `min` or more, with CLOEXEC.
pub(crate) fn dup_above(fd: c_int, min: c_int) -> Ret {
    call!(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, min)
}

pub(crate) fn dup3(from: c_int, to: c_int, flags: c_int) -> Ret {
    call!(libc::SYS_dup3, from, to, flags)
}

pub(crate) fn fcntl(fd: c_int, cmd: c_int, arg: usize) -> Ret {
    call!(libc::SYS_fcntl, fd, cmd, arg)
}

/// The flags of the open file; 0 where there is none.
pub(crate) fn status_flags(fd: c_int) -> c_int {
    fcntl(fd, libc::F_GETFL, 0).max(0) as c_int
}

pub(crate) fn is_nonblocking(fd: c_int) -> bool {
    status_flags(fd) & libc::O_NONBLOCK != 0
}

pub(crate) fn shutdown(fd: c_int, how: c_int) -> Ret {
    call!(libc::SYS_shutdown, fd, how)
}

pub(crate) fn recvmsg(fd: c_int, msg: *mut msghdr, flags: c_int) -> Ret {
    call!(libc::SYS_recvmsg, fd, msg, flags)
}

pub(crate) fn sendmsg(fd: c_int, msg: *const msghdr, flags: c_int) -> Ret {
    call!(libc::SYS_sendmsg, fd, msg, flags)
}

pub(crate) fn recv(fd: c_int, buf: &mut [u8], flags: c_int) -> Ret {
    call!(libc::SYS_recvfrom, fd, buf.as_mut_ptr(), buf.len(), flags, null_mut::<u8>(), null_mut::<u8>())
}

pub(crate) fn send(fd: c_int, buf: &[u8], flags: c_int) -> Ret {
    call!(libc::SYS_sendto, fd, buf.as_ptr(), buf.len(), flags, null::<u8>(), 0)
}

pub(crate) fn socket(domain: c_int, kind: c_int, protocol: c_int) -> Ret {
    call!(libc::SYS_socket, domain, kind, protocol)
}

pub(crate) fn connect(fd: c_int, addr: *const c_void, len: u32) -> Ret {
    call!(libc::SYS_connect, fd, addr, len)
}

/// Dissolves a TCP connection at once: the peer is sent a reset (connect(2), AF_UNSPEC).
pub(crate) fn disconnect(fd: c_int) -> Ret {
    let nobody = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
    call!(libc::SYS_connect, fd, &raw const nobody, size_of::<libc::sockaddr>())
}

/// Reads a socket option of fixed size; what the kernel does not fill stays zero.
pub(crate) fn getsockopt<T: Copy>(fd: c_int, level: c_int, name: c_int) -> Result<T, Ret> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>() as u32;
    let r = call!(libc::SYS_getsockopt, fd, level, name, value.as_mut_ptr(), &raw mut len);
    // SAFETY: zeroed, and every T used here (integers, timeval, structs of integers) is valid for any bit pattern.
    if r < 0 { Err(r) } else { Ok(unsafe { value.assume_init() }) }
}

pub(crate) fn setsockopt<T: Copy>(fd: c_int, level: c_int, name: c_int, value: &T) -> Ret {
    call!(libc::SYS_setsockopt, fd, level, name, &raw const *value, size_of::<T>())
}

/// getsockname (`peer` false) or getpeername.
pub(crate) fn name(fd: c_int, peer: bool) -> Result<sockaddr_storage, Ret> {
    let mut addr = MaybeUninit::<sockaddr_storage>::zeroed();
    let mut len = size_of::<sockaddr_storage>() as u32;
    let nr = if peer { libc::SYS_getpeername } else { libc::SYS_getsockname };
    let r = call!(nr, fd, addr.as_mut_ptr(), &raw mut len);
    // SAFETY: zeroed, and sockaddr_storage is valid for any bit pattern.
    if r < 0 { Err(r) } else { Ok(unsafe { addr.assume_init() }) }
}

/// An ioctl that writes one int.
pub(crate) fn ioctl_int(fd: c_int, request: u32) -> Result<c_int, Ret> {
    let mut value: c_int = 0;
    let r = call!(libc::SYS_ioctl, fd, request, &raw mut value);
    if r < 0 { Err(r) } else { Ok(value) }
}

/// How many bytes are there to read from a socket; 0 if that cannot be asked.
pub(crate) fn unread(socket: c_int) -> usize {
    ioctl_int(socket, libc::FIONREAD as u32).map_or(0, |n| n.max(0) as usize)
}

/// Whether the next thing to read from a socket is its end, or an error. It is not read: that would take an error from the
/// program.
pub(crate) fn has_ended(socket: c_int) -> bool {
    poll_now(socket, libc::POLLRDHUP) != 0 && unread(socket) == 0
}

/// Takes the pending error off a socket; 0: none.
pub(crate) fn take_error(socket: c_int) -> c_int {
    getsockopt(socket, libc::SOL_SOCKET, libc::SO_ERROR).unwrap_or(0)
}

/// poll with a relative timeout in nanoseconds (`None`: for ever) and, if given, a signal mask.
pub(crate) fn ppoll(fds: &mut [pollfd], timeout: Option<u64>, mask: Option<&u64>) -> Ret {
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
pub(crate) fn poll_now(fd: c_int, events: i16) -> i16 {
    let mut one = [pollfd { fd, events, revents: 0 }];
    ppoll(&mut one, Some(0), None);
    one[0].revents
}

/// EPOLL_CTL_MOD, also for exclusive registrations, which the kernel does not modify.
pub(crate) fn epoll_modify(epfd: c_int, fd: c_int, events: u32, data: u64) -> Ret {
    if events & libc::EPOLLEXCLUSIVE as u32 == 0 {
        return epoll_ctl(epfd, libc::EPOLL_CTL_MOD, fd, events, data);
    }
    let r = epoll_ctl(epfd, libc::EPOLL_CTL_DEL, fd, 0, 0);
    if r < 0 { r } else { epoll_ctl(epfd, libc::EPOLL_CTL_ADD, fd, events, data) }
}

pub(crate) fn eventfd() -> Ret {
    call!(libc::SYS_eventfd2, 0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)
}

pub(crate) fn write(fd: c_int, buf: &[u8]) -> Ret {
    call!(libc::SYS_write, fd, buf.as_ptr(), buf.len())
}

pub(crate) fn read(fd: c_int, buf: &mut [u8]) -> Ret {
    call!(libc::SYS_read, fd, buf.as_mut_ptr(), buf.len())
}

pub(crate) fn epoll_ctl(epfd: c_int, op: c_int, fd: c_int, events: u32, data: u64) -> Ret {
    let event = libc::epoll_event { events, u64: data };
    call!(libc::SYS_epoll_ctl, epfd, op, fd, &raw const event)
}

pub(crate) fn epoll_create() -> Ret {
    call!(libc::SYS_epoll_create1, libc::EPOLL_CLOEXEC)
}

/// Takes the events that are there; how many, or a negated errno.
pub(crate) fn epoll_now(epfd: c_int, events: &mut [libc::epoll_event]) -> Ret {
    let room = events.len().min(c_int::MAX as usize);
    call!(libc::SYS_epoll_pwait, epfd, events.as_mut_ptr(), room, 0, null::<u64>(), 8)
}

pub(crate) fn stat(fd: c_int) -> Option<libc::stat64> {
    let mut st = MaybeUninit::<libc::stat64>::zeroed();
    let r = call!(libc::SYS_fstat, fd, st.as_mut_ptr());
    // SAFETY: zeroed, and stat64 is valid for any bit pattern.
    (r == 0).then(|| unsafe { st.assume_init() })
}

/// The number of the file behind a descriptor.
pub(crate) fn inode(fd: c_int) -> Option<u64> {
    stat(fd).map(|st| st.st_ino)
}

/// Whether the file may be executed.
pub(crate) fn is_executable(path: *const u8) -> bool {
    call!(libc::SYS_faccessat, libc::AT_FDCWD, path, libc::X_OK) == 0
}

/// Whether executing the open file may change what the process is allowed to do: set-user-ID, set-group-ID, file
/// capabilities (capabilities(7)). Also true if that cannot be found out.
pub(crate) fn changes_privilege(file: c_int) -> bool {
    let capabilities = call!(libc::SYS_fgetxattr, file, c"security.capability".as_ptr(), null::<u8>(), 0);
    capabilities >= 0 || stat(file).is_none_or(|st| st.st_mode & (libc::S_ISUID | libc::S_ISGID) != 0)
}

/// Owner, mode and kind of a path, without following a last symbolic link.
pub(crate) fn lstat(path: *const u8) -> Option<libc::stat64> {
    let mut st = MaybeUninit::<libc::stat64>::zeroed();
    let r = call!(libc::SYS_newfstatat, libc::AT_FDCWD, path, st.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW);
    // SAFETY: zeroed, and stat64 is valid for any bit pattern.
    (r == 0).then(|| unsafe { st.assume_init() })
}

/// Where a symbolic link in a directory leads. `path` ends with 0.
pub(crate) fn readlink(directory: c_int, path: *const u8, buf: &mut [u8]) -> Ret {
    call!(libc::SYS_readlinkat, directory, path, buf.as_mut_ptr(), buf.len())
}
