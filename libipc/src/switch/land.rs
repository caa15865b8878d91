//! Final: the program's descriptors become the new socket. And the end: an endpoint's remains are cleared away.

use core::sync::atomic::Ordering::*;

use libc::c_int;

use super::state::Phase;
use crate::endpoint::{self, Id, numbers, sides};
use crate::host::confine;
use crate::host::guard::NoSignals;
use crate::ipcd::report;
use crate::readiness::{moves, waits};
use crate::transport::settings;
use crate::{family, fds, sys};

/// Replaces every descriptor number that this process has of the endpoint by the new socket. Each process of a family
/// does this at its next call on the endpoint.
pub(crate) fn replace_descriptors(id: Id) {
    let _no_signals = NoSignals::hold();
    let e = id.endpoint();
    let (Some(_rx), Some(tx)) = (e.lock_rx(), e.lock_tx()) else { return };
    let unix = &id.local().unix;
    if e.phase() != Phase::Final || !unix.is_open() {
        return;
    }
    waits::before_replacement(id);
    waits::left_between(id);
    let tcp = id.local().tcp.load(Acquire);
    settings::complete(tcp, unix);
    e.wrote.raise_if(tx.state.used);
    if let Some(cookie) = unix.cookie() {
        id.local().unix_cookie.store(cookie, SeqCst);
    }
    let done = moves::finish(id, |registrations| {
        for fd in numbers::numbers_of(id) {
            if numbers::reserve(fd, id) {
                let kind = replace(id, fd, registrations);
                numbers::publish(fd, id, kind);
            }
        }
    });
    // If the program has closed its numbers, its calls in progress go on with the hidden number.
    if done && id.local().fds.load(SeqCst) > 0 {
        unix.close();
    }
}

/// Replaces one number by the new socket, unless the number is another file by now (it was closed past the hooks).
fn replace(id: Id, fd: c_int, registrations: &mut moves::Moving) -> fds::Kind {
    let cookie = sys::getsockopt::<u64>(fd, libc::SOL_SOCKET, libc::SO_COOKIE).ok();
    if cookie != Some(id.endpoint().birth().cookie) {
        return fds::Kind::Active;
    }
    registrations.withdraw_tcp(id, fd);
    id.local().unix.replace(fd);
    let all = sys::status_flags(id.local().tcp.load(Acquire));
    if all & libc::O_ASYNC != 0 {
        // The signal reports the number for which O_ASYNC was set (si_fd), so it is set for the program's number.
        sys::fcntl(fd, libc::F_SETFL, all as usize);
    }
    fds::Kind::Final
}

/// Called when the process has no descriptor of the endpoint and no call in progress on it: everything kept for it goes.
/// TCP goes first, so that a peer that sees the end of the new transport can ask TCP how the stream ended.
pub(crate) fn released(id: Id) {
    let (e, l) = (id.endpoint(), id.local());
    if confine::is_confined() {
        // The kernel closes what is hidden when the process ends.
        id.holders().remove(family::slot());
        return;
    }
    // If other processes of the family hold the endpoint, too, the control messages and registrations are left to them.
    let handed = e.handed.is_raised();
    let last = !handed && id.holders().is_sole();
    if handed {
        // Only the hidden descriptors are closed here, and that must not reset the connection.
        sys::setsockopt(l.tcp.load(Acquire), libc::SOL_SOCKET, libc::SO_LINGER, &[0 as c_int; 2]);
    }
    moves::drop_registrations(id, last);
    waits::left_between(id);
    if last && e.sides() & sides::CONTROL != 0 {
        for slot in [&l.unix, &l.grant] {
            slot.discard_control();
        }
    }
    if last {
        end_after_calls(id);
    }
    if l.grant.is_open() && !last {
        // A process that goes on with the endpoint can take the grant up.
        l.grant.by_number(|grant| report::returned(e.birth().cookie, grant));
    }
    endpoint::close_tcp(id);
    l.unix.close();
    l.grant.close();
    report::closed(id, last);
    id.holders().remove(family::slot());
}

/// The last call in progress ended after the last number was closed: TCP is ended now, as that close would have ended it,
/// whether or not ipcd has a copy of the socket.
fn end_after_calls(id: Id) {
    let (e, l) = (id.endpoint(), id.local());
    let (tcp, unix) = (l.tcp.load(Acquire), &l.unix);
    if tcp < 0 || e.phase() == Phase::Final && !unix.is_open() {
        return;
    }
    end_as_close_does(tcp, sys::unread(tcp) > 0 || unix.unread() > 0, l.lent.load(Relaxed));
}

/// Does to TCP what close(2) would do if no other process (such as ipcd) had a copy of the socket. TCP is reset if bytes
/// were left unread (RFC 2525, section 2.17), on either transport, or if SO_LINGER asks for it. Else both halves are shut,
/// if `shuts`: the kernel answers what the peer writes from now on with a reset.
pub(crate) fn end_as_close_does(tcp: c_int, unread: bool, shuts: bool) {
    let all = sys::status_flags(tcp);
    if all & libc::O_ASYNC != 0 {
        // Otherwise the program would get a signal about a socket that it has closed.
        sys::fcntl(tcp, libc::F_SETFL, (all & !libc::O_ASYNC) as usize);
    }
    let aborts = |l: libc::linger| l.l_onoff != 0 && l.l_linger == 0;
    if unread || sys::getsockopt(tcp, libc::SOL_SOCKET, libc::SO_LINGER).is_ok_and(aborts) {
        sys::disconnect(tcp);
    } else if shuts {
        sys::shutdown(tcp, libc::SHUT_RDWR);
    }
}

/// Gives up an endpoint of the program before this one (exec), from which this program has inherited no descriptor of it.
pub(crate) fn never_had(id: Id) {
    id.holders().remove(family::slot());
}
