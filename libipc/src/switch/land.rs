//! Final: the program's descriptors become the new socket. And the end: what an endpoint leaves behind.

use core::sync::atomic::Ordering::*;

use libc::c_int;

use super::state::{CONTROL_LEN, Control, Phase};
use crate::endpoint::{Id, numbers, sides};
use crate::host::confine;
use crate::host::guard::NoSignals;
use crate::ipcd::report;
use crate::readiness::{moves, waits};
use crate::{family, fds, sys};

/// fcntl(2): which signal tells of readiness, and whom: a kind (thread, process, group) and its number.
const F_SETSIG: c_int = 10;
const F_GETSIG: c_int = 11;
const F_SETOWN_EX: c_int = 15;
const F_GETOWN_EX: c_int = 16;

/// Puts the new socket over every descriptor number that this process has of the endpoint. Each process of a family
/// does this when it next meets the endpoint.
pub fn replace_descriptors(id: Id) {
    let _no_signals = NoSignals::hold();
    let e = id.endpoint();
    let (Some(_rx), Some(tx)) = (e.lock_rx(), e.lock_tx()) else { return };
    let unix = id.local().unix.load(Acquire);
    if e.phase() != Phase::Final || unix < 0 {
        return;
    }
    waits::before_replacement(id);
    waits::left_between(id);
    let tcp = id.local().tcp.load(Acquire);
    copy_settings(tcp, unix);
    e.wrote.fetch_or(tx.state.used, Relaxed);
    if let Ok(cookie) = sys::getsockopt::<u64>(unix, libc::SOL_SOCKET, libc::SO_COOKIE) {
        id.local().unix_cookie.store(cookie, SeqCst);
    }
    let done = moves::finish(id, unix, |registrations| {
        for fd in numbers::numbers_of(id) {
            if numbers::reserve(fd, id) {
                let kind = replace(id, fd, unix, registrations);
                numbers::publish(fd, id, kind);
            }
        }
    });
    // Where the program has closed its numbers, the calls that it has in progress go on with the hidden one.
    if done && id.local().fds.load(SeqCst) > 0 {
        id.local().unix.store(-1, SeqCst);
        fds::close_hidden(unix);
    }
}

/// The new socket in place of one number, unless the number is another file by now (closed where no hook saw it).
fn replace(id: Id, fd: c_int, unix: c_int, registrations: &mut moves::Moving) -> fds::Kind {
    let cookie = sys::getsockopt::<u64>(fd, libc::SOL_SOCKET, libc::SO_COOKIE).ok();
    if cookie != Some(id.endpoint().birth().cookie) {
        return fds::Kind::Active;
    }
    registrations.withdraw_tcp(id, fd);
    let cloexec = sys::fcntl(fd, libc::F_GETFD, 0) & libc::FD_CLOEXEC as isize != 0;
    sys::dup3(unix, fd, if cloexec { libc::O_CLOEXEC } else { 0 });
    let all = flags(id.local().tcp.load(Acquire));
    if all & libc::O_ASYNC != 0 {
        // The signal names the number under which it was asked for (si_fd).
        sys::fcntl(fd, libc::F_SETFL, all as usize);
    }
    fds::Kind::Final
}

/// What the program has set on its socket, as far as it acts on the new one.
fn copy_settings(tcp: c_int, unix: c_int) {
    sys::fcntl(unix, libc::F_SETFL, (flags(tcp) & !libc::O_ASYNC) as usize);
    let (mut owner, signal) = ([0 as c_int; 2], sys::fcntl(tcp, F_GETSIG, 0));
    let place = owner.as_mut_ptr() as usize;
    if sys::fcntl(tcp, F_GETOWN_EX, place) == 0 && owner[1] != 0 {
        sys::fcntl(unix, F_SETOWN_EX, place);
    }
    if signal > 0 {
        sys::fcntl(unix, F_SETSIG, signal as usize);
    }
}

fn flags(fd: c_int) -> c_int {
    sys::fcntl(fd, libc::F_GETFL, 0).max(0) as c_int
}

/// The process has no descriptor of the endpoint and no call in progress on it: everything that was kept for it goes.
/// TCP first, so that a peer which sees the new transport end finds TCP's verdict beside it.
pub fn released(id: Id) {
    let (e, l) = (id.endpoint(), id.local());
    if confine::is_confined() {
        // The kernel closes what is hidden when the process ends.
        id.holders().remove(family::slot());
        return;
    }
    // What other processes of the family hold too is theirs: control messages, and the kernel's registrations.
    let handed = e.handed.load(Relaxed);
    let last = !handed && id.holders().is_sole();
    if handed {
        // What is hidden goes, and with it nothing of the connection.
        sys::setsockopt(l.tcp.load(Acquire), libc::SOL_SOCKET, libc::SO_LINGER, &[0 as c_int; 2]);
    }
    moves::drop_registrations(id, last);
    waits::left_between(id);
    if last && e.sides() & sides::CONTROL != 0 {
        for slot in [&l.unix, &l.grant] {
            discard_control(slot.load(Acquire));
        }
    }
    if last {
        end_after_calls(id);
    }
    let grant = l.grant.load(Acquire);
    if grant >= 0 && !last {
        // Whoever goes on with the endpoint can take it up.
        report::returned(e.birth().cookie, grant);
    }
    for slot in [&l.tcp, &l.unix, &l.grant] {
        let fd = slot.swap(-1, SeqCst);
        if fd >= 0 {
            fds::close_hidden(fd);
        }
    }
    report::closed(id, last);
    id.holders().remove(family::slot());
}

/// Takes control messages off a transport that is about to be closed, after which no more arrive: left unread, they would
/// look to the peer like bytes that the program refused (unix(7): a reset).
pub fn discard_control(unix: c_int) {
    if unix < 0 {
        return;
    }
    sys::shutdown(unix, libc::SHUT_RD);
    let mut bytes = [0u8; CONTROL_LEN];
    while sys::recv(unix, &mut bytes, libc::MSG_DONTWAIT | libc::MSG_PEEK) == CONTROL_LEN as isize
        && Control::decode(&bytes).is_some()
    {
        sys::recv(unix, &mut bytes, libc::MSG_DONTWAIT);
    }
}

/// The last call ended after the last number was closed: TCP ends now, as it would have then, whether or not ipcd has a copy.
fn end_after_calls(id: Id) {
    let (e, l) = (id.endpoint(), id.local());
    let (tcp, unix) = (l.tcp.load(Acquire), l.unix.load(Acquire));
    if tcp < 0 || e.phase() == Phase::Final && unix < 0 {
        return;
    }
    end_as_close_does(tcp, has_unread(tcp) || unix >= 0 && has_unread(unix), l.lent.load(Relaxed));
}

/// Does to TCP what close(2) would, though somebody else has a copy of the socket. It resets if bytes were left unread (RFC 2525,
/// section 2.17), wherever they are, or if it does not linger; else both halves are shut, if `shuts`: what the peer writes from
/// now on is answered with a reset.
pub fn end_as_close_does(tcp: c_int, unread: bool, shuts: bool) {
    let all = flags(tcp);
    if all & libc::O_ASYNC != 0 {
        // A signal would tell the program of what it has closed.
        sys::fcntl(tcp, libc::F_SETFL, (all & !libc::O_ASYNC) as usize);
    }
    let aborts = |l: libc::linger| l.l_onoff != 0 && l.l_linger == 0;
    if unread || sys::getsockopt(tcp, libc::SOL_SOCKET, libc::SO_LINGER).is_ok_and(aborts) {
        sys::disconnect(tcp);
    } else if shuts {
        sys::shutdown(tcp, libc::SHUT_RDWR);
    }
}

/// Whether bytes lie in a socket.
pub fn has_unread(socket: c_int) -> bool {
    sys::ioctl_int(socket, libc::FIONREAD as u32).is_ok_and(|n| n > 0)
}

/// The program before this one had the endpoint; nothing of it was passed on.
pub fn never_had(id: Id) {
    id.holders().remove(family::slot());
}
