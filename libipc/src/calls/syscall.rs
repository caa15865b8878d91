//! System calls that a program makes by their numbers.

use libc::{c_int, c_long};

use super::{descriptors, epoll, process, read, wait, write};
use crate::endpoint::numbers;
use crate::fds::{self, Kind};
use crate::host::guard::as_libc;
use crate::sys;

/// syscall(2): the calls that matter to the shim go to the hooks of their libc functions; all others pass unchanged.
pub(crate) unsafe fn syscall(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long {
    // SAFETY: the program's own arguments, of the types that the system call takes.
    unsafe {
        match number {
            libc::SYS_close if fds::kind(a as c_int) != Kind::Other => descriptors::close(a as c_int) as c_long,
            libc::SYS_close_range => descriptors::close_range(a as u32, b as u32, c as c_int) as c_long,
            libc::SYS_unshare => c_long::from(process::unshare(a as c_int)),
            libc::SYS_dup => descriptors::dup(a as c_int) as c_long,
            libc::SYS_dup3 => descriptors::dup3(a as c_int, b as c_int, c as c_int) as c_long,
            libc::SYS_seccomp if matches!(a as u32, libc::SECCOMP_SET_MODE_STRICT | libc::SECCOMP_SET_MODE_FILTER) => {
                process::confining(|| as_libc(sys::forward(number, [a, b, c, d, e, f])) as c_long)
            }
            libc::SYS_read if fds::needs_us(a as c_int) => read::read(a as c_int, b as _, c) as c_long,
            libc::SYS_write if fds::is_ours(a as c_int) => write::write(a as c_int, b as _, c) as c_long,
            libc::SYS_epoll_ctl => {
                c_long::from(epoll::epoll_ctl(a as c_int, b as c_int, c as c_int, d as *mut libc::epoll_event))
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_wait => {
                c_long::from(epoll::epoll_wait(a as c_int, b as *mut libc::epoll_event, c as c_int, d as c_int))
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_poll => c_long::from(wait::poll(a as *mut libc::pollfd, b as libc::nfds_t, c as c_int)),
            libc::SYS_epoll_pwait => c_long::from(epoll::epoll_pwait(
                a as c_int,
                b as *mut libc::epoll_event,
                c as c_int,
                d as c_int,
                e as *const libc::sigset_t,
            )),
            libc::SYS_writev | libc::SYS_sendto | libc::SYS_sendmsg | libc::SYS_sendmmsg | libc::SYS_sendfile
                if fds::is_ours(a as c_int) =>
            {
                numbers::note_written(a as c_int);
                as_libc(sys::forward(number, [a, b, c, d, e, f])) as c_long
            }
            // Not by the real function: an allocator calls syscall(2) under its lock, and before glibc 2.34 the search for
            // the real function allocates.
            _ => as_libc(sys::forward(number, [a, b, c, d, e, f])) as c_long,
        }
    }
}
