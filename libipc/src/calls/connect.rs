//! The life of a connection: made, connected or accepted, shut.

use core::sync::atomic::Ordering::*;

use libc::{c_int, sockaddr, socklen_t};
use matcher::reason::Reason;
use matcher::wire::Role;

use crate::endpoint::{self, Pinned, numbers};
use crate::fds::{self, Kind};
use crate::host::guard::{Errno, NoSignals, as_libc, errno};
use crate::ipcd::link;
use crate::switch::stay::stay;
use crate::switch::{Phase, Transport, drive, land, open};
use crate::symbols::real;
use crate::{names, sys};

const KIND_BITS: c_int = 0xf;

pub(crate) unsafe fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    // SAFETY: the program's own call.
    let fd = unsafe { real::socket()(domain, kind, protocol) };
    let stream = kind & KIND_BITS == libc::SOCK_STREAM && matches!(protocol, 0 | libc::IPPROTO_TCP);
    if fd >= 0 {
        numbers::forget(fd);
        if stream && matches!(domain, libc::AF_INET | libc::AF_INET6) {
            let _errno = Errno::keep();
            // Greeting now lets ipcd name N before the first byte.
            link::greet();
            begin(fd);
        }
    }
    fd
}

/// Begins a new endpoint for a new number.
fn begin(fd: c_int) -> Option<Pinned> {
    let id = endpoint::allocate(land::released)?;
    numbers::bind(fd, *id, Kind::Active).then_some(id)
}

pub(crate) unsafe fn connect(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
    // SAFETY: null or the program's address, which begins with its family.
    if fds::is_ours(fd) && unsafe { addr.as_ref() }.is_some_and(|a| i32::from(a.sa_family) == libc::AF_UNSPEC) {
        // SAFETY: the program's own call.
        return unsafe { disconnect(fd, addr, len) };
    }
    let known = numbers::lookup(fd).filter(|(_, kind)| *kind == Kind::Active);
    let Some((id, _)) = known else {
        // SAFETY: the program's own call, on the socket that knows the connection.
        return unsafe { real::connect()(asked(fd), addr, len) };
    };
    let fresh = id.endpoint().phase() == Phase::Connecting;
    if fresh {
        let began = &id.endpoint().connect_began;
        let _ = began.compare_exchange(0, sys::now(), Relaxed, Relaxed);
    }
    // SAFETY: the program's own call.
    let r = unsafe { real::connect()(fd, addr, len) };
    if fresh && (r == 0 || errno() == libc::EISCONN) {
        let _errno = Errno::keep();
        match r {
            // SAFETY: the kernel has just read the program's address.
            0 => open::connected(*id, fd, unsafe { names::copied(addr, len) }),
            _ => open::completed(*id, fd),
        }
    }
    r
}

/// connect to AF_UNSPEC dissolves the connection (connect(2)); the socket may then connect again. The TCP socket comes
/// back under its number, as a new endpoint.
unsafe fn disconnect(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
    let tcp = asked(fd);
    // SAFETY: the program's own call, on its TCP socket.
    let r = unsafe { real::connect()(tcp, addr, len) };
    if r == 0 {
        let _errno = Errno::keep();
        if tcp != fd {
            sys::fcntl(tcp, libc::F_SETFL, sys::fcntl(fd, libc::F_GETFL, 0).max(0) as usize);
            let cloexec = sys::fcntl(fd, libc::F_GETFD, 0) & libc::FD_CLOEXEC as isize != 0;
            sys::dup3(tcp, fd, if cloexec { libc::O_CLOEXEC } else { 0 });
        }
        numbers::forget(fd);
        begin(fd);
    }
    r
}

pub(crate) unsafe fn accept(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
    // SAFETY: the program's own call.
    accepted(unsafe { real::accept()(fd, addr, len) })
}

pub(crate) unsafe fn accept4(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int {
    // SAFETY: the program's own call.
    accepted(unsafe { real::accept4()(fd, addr, len, flags) })
}

fn accepted(fd: c_int) -> c_int {
    if fd < 0 {
        return fd;
    }
    numbers::forget(fd);
    let _errno = Errno::keep();
    let at = sys::now();
    // TCP over IPv4 or IPv6: there is no other.
    if sys::getsockopt::<c_int>(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL) == Ok(libc::IPPROTO_TCP)
        && let Some(id) = begin(fd)
    {
        open::open(*id, fd, sys::name(fd, true).ok(), Role::Accepted, at);
    }
    fd
}

pub(crate) unsafe fn listen(fd: c_int, backlog: c_int) -> c_int {
    // SAFETY: the program's own call.
    let r = unsafe { real::listen()(fd, backlog) };
    if r == 0 {
        // A listening socket carries no bytes.
        let _errno = Errno::keep();
        numbers::forget(fd);
    }
    r
}

/// After final TCP is shut first: if TCP refuses it (ENOTCONN once both halves are shut), the call fails, unless the new
/// socket still has its peer. Then that peer is a program without the shim, and the process that had the other end of TCP
/// has closed it.
fn shut_tcp(tcp: c_int, unix: c_int, how: c_int) -> sys::Ret {
    const ENOTCONN: sys::Ret = -(libc::ENOTCONN as sys::Ret);
    let lives = sys::poll_now(unix, 0) & libc::POLLHUP == 0;
    match sys::shutdown(tcp, how) {
        ENOTCONN if lives => 0,
        r => r,
    }
}

pub(crate) unsafe fn shutdown(fd: c_int, how: c_int) -> c_int {
    let Some((id, kind)) = numbers::lookup(fd).filter(|_| fds::is_ours(fd)) else {
        // SAFETY: the program's own call.
        return unsafe { real::shutdown()(fd, how) };
    };
    if kind == Kind::Active {
        drive::pump(*id);
    }
    let _no_signals = NoSignals::hold();
    let e = id.endpoint();
    // In the order of the locks.
    let rx = if how == libc::SHUT_WR { None } else { e.lock_rx() };
    let Some(mut tx) = e.lock_tx() else {
        // SAFETY: the program's own call.
        return unsafe { real::shutdown()(fd, how) };
    };
    let both = matches!(e.phase(), Phase::Dual | Phase::Final);
    let (tcp, unix) = (id.local().tcp.load(Acquire), &id.local().unix);
    let refused = if e.phase() == Phase::Final && tcp >= 0 { shut_tcp(tcp, fd, how) } else { 0 };
    // SAFETY: the program's own call: on TCP before final, on the new socket after.
    let r = match unsafe { real::shutdown()(fd, how) } {
        0 => as_libc(refused) as c_int,
        r => r,
    };
    if r == 0 && how != libc::SHUT_RD {
        tx.state.shut = true;
        e.note_tx(&tx.state);
        if both && tx.state.on == Transport::Unix {
            unix.shutdown(libc::SHUT_WR);
        }
    }
    drop(tx);
    if let Some(mut rx) = rx.filter(|_| r == 0 && e.phase() == Phase::Dual && unix.is_open()) {
        // The bytes that the peer writes from now on come over TCP, which the program may still read.
        unix.shutdown(libc::SHUT_RD);
        rx.state.closed = true;
        drive::note_rx(*id, &rx.state);
    }
    if r == 0 && how != libc::SHUT_WR && !both {
        stay(*id, Reason::Shut);
    }
    r
}

/// TCP answers getsockname and getpeername of a descriptor that is the new socket.
pub(crate) unsafe fn getsockname(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
    // SAFETY: the program's own call, on the socket that has the answer.
    unsafe { real::getsockname()(asked(fd), addr, len) }
}

pub(crate) unsafe fn getpeername(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
    // SAFETY: the program's own call, on the socket that has the answer.
    unsafe { real::getpeername()(asked(fd), addr, len) }
}

/// The descriptor that answers questions about the connection.
pub(crate) fn asked(fd: c_int) -> c_int {
    match numbers::lookup(fd) {
        Some((id, Kind::Final)) if numbers::still_final(fd, *id) => match id.local().tcp.load(Acquire) {
            -1 => fd,
            tcp => tcp,
        },
        _ => fd,
    }
}
