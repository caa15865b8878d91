//! epoll_ctl(2) on an endpoint: the table follows what the program asks for.

use libc::{c_int, epoll_event};
use matcher::reason::Reason;

use super::masks::split;
use super::moves::{is_registered, rearm};
use super::registrations::{EMPTY, Registration, Table, locked, make_tag, table};
use crate::endpoint::{Id, sides};
use crate::switch::Phase;
use crate::switch::stay::stay;
use crate::{fds, sys};

/// epoll_ctl on an endpoint that has not settled on TCP. The caller has driven the switch as far as it goes.
pub(crate) fn control(id: Id, epfd: c_int, op: c_int, fd: c_int, event: Option<&epoll_event>) -> sys::Ret {
    let Some(mut t) = table() else { return -(libc::EAGAIN as sys::Ret) };
    make_tag();
    let between = id.endpoint().phase() == Phase::Dual;
    let known = t.find(id, epfd, fd);
    match (op, known, event) {
        (libc::EPOLL_CTL_ADD, Some(_), Some(_)) if between && is_registered(epfd, fd) => -(libc::EEXIST as sys::Ret),
        (libc::EPOLL_CTL_ADD, stale, Some(event)) if between => {
            if let Some(stale) = stale {
                t.remove_unix(stale, id);
                t.remove(id, stale);
            }
            add_between(&mut t, id, (epfd, fd), event)
        }
        (libc::EPOLL_CTL_MOD, Some(i), Some(event)) if between => change_between(&mut t, id, i, event),
        (libc::EPOLL_CTL_MOD, None, Some(event)) if between && is_registered(epfd, fd) => {
            // The registration was made past the hooks.
            let new = Registration { epfd, fd, events: event.events, data: event.u64, armed: true, ..EMPTY };
            let Some(index) = t.insert(id, new) else { return pass_on(t, id, (epfd, op, fd), known, Some(event)) };
            t.add_unix(index, id, 0);
            change_between(&mut t, id, index, event)
        }
        _ => pass_on(t, id, (epfd, op, fd), known, event),
    }
}

/// Between the transports a registration of the program is two of the kernel's, and neither ever has the program's data.
fn add_between(t: &mut Table, id: Id, (epfd, fd): (c_int, c_int), event: &epoll_event) -> sys::Ret {
    let new = Registration { epfd, fd, events: event.events, data: event.u64, armed: true, ..EMPTY };
    let Some(index) = t.insert(id, new) else { return -(libc::ENOSPC as sys::Ret) };
    let (side, tag) = (id.endpoint().sides(), t.tag(index));
    let (on_tcp, on_unix) = split(side, &new);
    let r = sys::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, fd, on_tcp, tag);
    if r < 0 {
        t.remove(id, index);
        return r;
    }
    fds::note_registration(epfd);
    if side & sides::ENDED == 0 {
        t.add_unix(index, id, on_unix);
    }
    r
}

fn change_between(t: &mut Table, id: Id, index: u32, event: &epoll_event) -> sys::Ret {
    let Some(old) = t.at(index).copied() else { return -(libc::ENOENT as sys::Ret) };
    t.change(index, event.events, event.u64);
    let (Some(new), tag) = (t.at(index).copied(), t.tag(index)) else { return -(libc::ENOENT as sys::Ret) };
    let r = rearm(id.endpoint().sides(), &new, tag);
    if r < 0 {
        t.change(index, old.events, old.data);
    }
    r
}

/// Passes the call on where the kernel's registration is the program's.
fn pass_on(
    mut t: Table,
    id: Id,
    (epfd, op, fd): (c_int, c_int, c_int),
    known: Option<u32>,
    event: Option<&epoll_event>,
) -> sys::Ret {
    let (events, data) = event.map_or((0, 0), |e| (e.events, e.u64));
    let r = sys::epoll_ctl(epfd, op, fd, events, data);
    match (op, known) {
        _ if r < 0 => {}
        (libc::EPOLL_CTL_DEL, Some(i)) => {
            t.remove_unix(i, id);
            t.remove(id, i);
        }
        (libc::EPOLL_CTL_ADD, known) => {
            if let Some(stale) = known {
                t.remove(id, stale);
            }
            fds::note_registration(epfd);
            if t.insert(id, Registration { epfd, fd, events, data, armed: true, ..EMPTY }).is_none() {
                drop(t);
                stay(id, Reason::UnseenWait);
            }
        }
        (libc::EPOLL_CTL_MOD, Some(i)) => drop(t.change(i, events, data)),
        (libc::EPOLL_CTL_MOD, None) => {
            // The registration was made past the hooks.
            let _ = t.insert(id, Registration { epfd, fd, events, data, armed: true, ..EMPTY });
        }
        _ => {}
    }
    r
}

/// The program has changed a registration of a final endpoint. The kernel's registration is all there is; the table
/// only follows, so that a HUP can be told from other descriptors' (see `judge_hangup`). Programs do this on every
/// request: an entry that is deleted stays for the next ADD, and signals are not held back (a handler that interrupts
/// this changes nothing in the table).
pub(crate) fn follow(id: Id, epfd: c_int, op: c_int, fd: c_int, event: &epoll_event) {
    if op == libc::EPOLL_CTL_DEL {
        return;
    }
    let Some(mut t) = locked(None) else { return };
    if let Some(known) = t.find(id, epfd, fd) {
        t.change(known, event.events, event.u64);
    } else {
        make_tag();
        fds::note_registration(epfd);
        t.insert(id, Registration { epfd, fd, events: event.events, data: event.u64, armed: true, ..EMPTY });
    }
}
