//! THE table: one row for each symbol that is interposed, with its C signature and its handler. It is expanded twice: for
//! the functions that the program would have called without the shim (`real`), and for those that it calls (`export`).

use core::ffi::c_char;

pub(crate) use core::ffi::c_void;
pub(crate) use libc::{
    FILE, c_int, c_long, c_uint, c_ulong, epoll_event, fd_set, iovec, loff_t, mmsghdr, msghdr, nfds_t, off_t, pid_t,
    pollfd, pthread_t, rlimit64, sigset_t, size_t, sockaddr, socklen_t, ssize_t, timespec, timeval,
};

pub(crate) type Name = *const c_char;
/// Strings, and a null at the end, as execve takes them.
pub(crate) type List = *const *const c_char;
/// A va_list, passed on as it is.
pub(crate) type Arguments = *mut c_void;
pub(crate) type Actions = *const libc::posix_spawn_file_actions_t;
pub(crate) type Attributes = *const libc::posix_spawnattr_t;
pub(crate) type Buf = *mut c_void;
pub(crate) type Bytes = *const c_void;
pub(crate) type Addr = *const sockaddr;
pub(crate) type AddrOut = *mut sockaddr;
pub(crate) type LenOut = *mut socklen_t;

/// Calls a macro with all rows: `NAME(ARGUMENT: TYPE, …) -> RESULT => HANDLER;`.
macro_rules! for_each_symbol {
    ($expand:ident) => {
        $expand! {
            // lifecycle
            socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int => connect::socket;
            connect(fd: c_int, addr: Addr, len: socklen_t) -> c_int => connect::connect;
            __connect(fd: c_int, addr: Addr, len: socklen_t) -> c_int => connect::connect;
            listen(fd: c_int, backlog: c_int) -> c_int => connect::listen;
            accept(fd: c_int, addr: AddrOut, len: LenOut) -> c_int => connect::accept;
            accept4(fd: c_int, addr: AddrOut, len: LenOut, flags: c_int) -> c_int => connect::accept4;
            shutdown(fd: c_int, how: c_int) -> c_int => connect::shutdown;
            close(fd: c_int) -> c_int => descriptors::close;
            __close(fd: c_int) -> c_int => descriptors::close;
            fclose(file: *mut FILE) -> c_int => descriptors::fclose;
            close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int => descriptors::close_range;
            closefrom(first: c_int) => descriptors::closefrom;

            // the C library's own input and output
            fdopen(fd: c_int, mode: Name) -> *mut FILE => stdio::fdopen;
            vdprintf(fd: c_int, format: Name, arguments: Arguments) -> c_int => stdio::vdprintf;
            __vdprintf_chk(fd: c_int, flag: c_int, format: Name, arguments: Arguments) -> c_int => stdio::vdprintf_chk;

            // duplicates, flags
            dup(fd: c_int) -> c_int => descriptors::dup;
            dup2(old: c_int, new: c_int) -> c_int => descriptors::dup2;
            __dup2(old: c_int, new: c_int) -> c_int => descriptors::dup2;
            dup3(old: c_int, new: c_int, flags: c_int) -> c_int => descriptors::dup3;
            fcntl(fd: c_int, cmd: c_int, arg: usize) -> c_int => descriptors::fcntl;
            __fcntl(fd: c_int, cmd: c_int, arg: usize) -> c_int => descriptors::fcntl;
            fcntl64(fd: c_int, cmd: c_int, arg: usize) -> c_int => descriptors::fcntl64;
            ioctl(fd: c_int, request: c_ulong, arg: usize) -> c_int => options::ioctl::ioctl;

            // read
            read(fd: c_int, buf: Buf, len: size_t) -> ssize_t => read::read;
            __read(fd: c_int, buf: Buf, len: size_t) -> ssize_t => read::read;
            __read_chk(fd: c_int, buf: Buf, len: size_t, room: size_t) -> ssize_t => read::read_chk;
            readv(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t => read::readv;
            recv(fd: c_int, buf: Buf, len: size_t, flags: c_int) -> ssize_t => read::recv;
            __recv_chk(fd: c_int, buf: Buf, len: size_t, room: size_t, flags: c_int) -> ssize_t => read::recv_chk;
            recvfrom(fd: c_int, buf: Buf, len: size_t, flags: c_int, addr: AddrOut, n: LenOut) -> ssize_t => read::recvfrom;
            __recvfrom_chk(fd: c_int, buf: Buf, len: size_t, room: size_t, flags: c_int, addr: AddrOut, n: LenOut) -> ssize_t
                => read::recvfrom_chk;
            recvmsg(fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t => read::recvmsg;
            recvmmsg(fd: c_int, list: *mut mmsghdr, count: c_uint, flags: c_int, timeout: *mut timespec) -> c_int
                => read::recvmmsg;

            // write
            write(fd: c_int, buf: Bytes, len: size_t) -> ssize_t => write::write;
            __write(fd: c_int, buf: Bytes, len: size_t) -> ssize_t => write::write;
            writev(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t => write::writev;
            send(fd: c_int, buf: Bytes, len: size_t, flags: c_int) -> ssize_t => write::send;
            __send(fd: c_int, buf: Bytes, len: size_t, flags: c_int) -> ssize_t => write::send;
            sendto(fd: c_int, buf: Bytes, len: size_t, flags: c_int, addr: Addr, n: socklen_t) -> ssize_t => write::sendto;
            sendmsg(fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t => write::sendmsg;
            sendmmsg(fd: c_int, list: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int => write::sendmmsg;

            // zero copy
            sendfile(out: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t => splice::sendfile;
            sendfile64(out: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t => splice::sendfile64;
            splice(from: c_int, at: *mut loff_t, to: c_int, to_at: *mut loff_t, len: size_t, flags: c_uint) -> ssize_t
                => splice::splice;

            // waiting
            poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int => wait::poll;
            __poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int => wait::poll;
            __poll_chk(fds: *mut pollfd, count: nfds_t, timeout: c_int, room: size_t) -> c_int => wait::poll_chk;
            ppoll(fds: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t) -> c_int => wait::ppoll;
            __ppoll_chk(fds: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t, room: size_t) -> c_int
                => wait::ppoll_chk;
            select(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval) -> c_int
                => select::select;
            __select(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval) -> c_int
                => select::select;
            pselect(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *const timespec,
                mask: *const sigset_t) -> c_int => select::pselect;
            epoll_ctl(epfd: c_int, op: c_int, fd: c_int, event: *mut epoll_event) -> c_int => epoll::epoll_ctl;
            epoll_wait(epfd: c_int, events: *mut epoll_event, max: c_int, timeout: c_int) -> c_int => epoll::epoll_wait;
            epoll_pwait(epfd: c_int, events: *mut epoll_event, max: c_int, timeout: c_int, mask: *const sigset_t) -> c_int
                => epoll::epoll_pwait;
            epoll_pwait2(epfd: c_int, events: *mut epoll_event, max: c_int, timeout: *const timespec, mask: *const sigset_t)
                -> c_int => epoll::epoll_pwait2;

            // questions
            getsockname(fd: c_int, addr: AddrOut, len: LenOut) -> c_int => connect::getsockname;
            getpeername(fd: c_int, addr: AddrOut, len: LenOut) -> c_int => connect::getpeername;
            getsockopt(fd: c_int, level: c_int, name: c_int, value: Buf, len: LenOut) -> c_int => options::getsockopt;
            setsockopt(fd: c_int, level: c_int, name: c_int, value: Bytes, len: socklen_t) -> c_int => options::setsockopt;

            // threads
            pthread_cancel(thread: pthread_t) -> c_int => process::pthread_cancel;

            // processes, limits
            fork() -> pid_t => process::fork;
            __fork() -> pid_t => process::fork;
            vfork() -> pid_t => process::fork;
            __vfork() -> pid_t => process::fork;
            execve(path: Name, argv: List, env: List) -> c_int => exec::execve;
            execv(path: Name, argv: List) -> c_int => exec::execv;
            execvp(name: Name, argv: List) -> c_int => exec::execvp;
            execvpe(name: Name, argv: List, env: List) -> c_int => exec::execvpe;
            fexecve(fd: c_int, argv: List, env: List) -> c_int => exec::fexecve;
            execveat(at: c_int, path: Name, argv: List, env: List, flags: c_int) -> c_int => exec::execveat;
            posix_spawn(pid: *mut pid_t, path: Name, actions: Actions, attr: Attributes, argv: List, env: List) -> c_int
                => spawn::posix_spawn;
            posix_spawnp(pid: *mut pid_t, name: Name, actions: Actions, attr: Attributes, argv: List, env: List) -> c_int
                => spawn::posix_spawnp;
            posix_spawn_file_actions_adddup2(actions: *mut libc::posix_spawn_file_actions_t, fd: c_int, new: c_int) -> c_int
                => spawn::adddup2;
            system(command: Name) -> c_int => spawn::system;
            popen(command: Name, mode: Name) -> *mut FILE => spawn::popen;
            pclose(pipe: *mut FILE) -> c_int => spawn::pclose;
            setrlimit(resource: c_int, limit: *const rlimit64) -> c_int => process::setrlimit;
            setrlimit64(resource: c_int, limit: *const rlimit64) -> c_int => process::setrlimit;
            prlimit(pid: pid_t, resource: c_int, new: *const rlimit64, old: *mut rlimit64) -> c_int => process::prlimit;
            prlimit64(pid: pid_t, resource: c_int, new: *const rlimit64, old: *mut rlimit64) -> c_int => process::prlimit;
            unshare(flags: c_int) -> c_int => process::unshare;
            prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int => process::prctl;
            syscall(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long => syscall::syscall;
        }
    };
}
pub(super) use for_each_symbol;
