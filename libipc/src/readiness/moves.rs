//! epoll registrations of endpoints, and what becomes of them when an endpoint moves.
//!
//! The kernel's registration belongs to a file and a number, so it does not follow a descriptor to another socket.
//! While an endpoint is Dual each registration is two, one for each transport, and both carry a tag instead of the
//! program's data so that an event can be told apart; after final it is an ordinary one again, made by the shim with the
//! program's mask and data. A thread that sleeps in epoll_wait needs no waking: registrations change under it.

use core::sync::atomic::Ordering::*;

use libc::c_int;

use super::masks::split;
use super::registrations::{EMPTY, MODE, ONESHOT, Registration, Table, has_foreign, make_tag, table, tag_of_nothing};
use crate::endpoint::{Id, numbers, sides};
use crate::host::fdinfo;
use crate::switch::Phase;
use crate::{fds, sys};

/// Adopting → Dual: `promise` makes the new transport known and promises, then every registration becomes two. False,
/// and nothing changed here, if the promise was not given or one registration cannot become two.
pub(crate) fn enter_dual(id: Id, promise: impl FnOnce() -> bool) -> bool {
    let Some(mut t) = table() else { return false };
    if !promise() {
        return false;
    }
    let side = id.endpoint().sides();
    for i in t.of(id) {
        t.begin_moves();
        let Some(r) = t.at(i).copied() else { continue };
        let gone = sys::fcntl(r.epfd, libc::F_GETFD, 0) < 0 || !is_in_place(&r);
        if gone || r.foreign && !refresh(&mut t, i) {
            t.remove(id, i);
            continue;
        }
        let fired = || fdinfo::registration(r.epfd, r.fd).map(|now| is_armed(now.mask));
        let armed = if r.events & ONESHOT == 0 || r.foreign { Some(r.armed) } else { fired() };
        let (Some(armed), true) = (armed, !r.foreign || t.watch_foreign(i)) else {
            // The number is not registered any more, or it cannot be known whether the registration has fired.
            restore_tcp(&mut t, id);
            return false;
        };
        if let Some(entry) = t.at(i) {
            entry.armed = armed;
        }
        let (Some(r), tag) = (t.at(i).copied(), t.tag(i)) else { continue };
        let (on_tcp, on_unix) = split(side, &r);
        if sys::epoll_modify(r.epfd, r.fd, on_tcp, tag) < 0 {
            // The program removed it past the hooks (it closed the epoll instance, say).
            t.remove(id, i);
        } else if !t.add_unix(i, id, on_unix) {
            restore_tcp(&mut t, id);
            return false;
        }
    }
    id.endpoint().advance(Phase::Adopting, Phase::Dual)
}

/// Takes into the table the changes that the program has made to a registration past the hooks. False if the program has
/// removed it.
pub(crate) fn refresh(t: &mut Table, index: u32) -> bool {
    let (Some(r), tag) = (t.at(index).copied(), t.tag(index)) else { return false };
    let Some(now) = fdinfo::registration(r.epfd, r.fd) else { return false };
    if now.data != tag {
        t.change(index, now.mask, now.data);
        if let Some(entry) = t.at(index) {
            entry.armed = is_armed(now.mask);
        }
    }
    true
}

/// Whether the kernel's mask of a registration says that it has not fired; the kernel adds ERR and HUP to each by itself.
pub(crate) fn is_armed(mask: u32) -> bool {
    mask & !(MODE | (libc::EPOLLERR | libc::EPOLLHUP) as u32) != 0
}

/// Whether the kernel has a registration of this number. That is asked by an attempt to make one, with an empty mask and a
/// tag that leads nowhere.
pub(crate) fn is_registered(epfd: c_int, fd: c_int) -> bool {
    let r = sys::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, fd, libc::EPOLLET as u32, tag_of_nothing());
    if r >= 0 {
        sys::epoll_ctl(epfd, libc::EPOLL_CTL_DEL, fd, 0, 0);
    }
    r == -(libc::EEXIST as sys::Ret)
}

/// Whether the table has the registration.
pub(crate) fn knows(id: Id, epfd: c_int, fd: c_int) -> bool {
    table().is_some_and(|mut t| t.find(id, epfd, fd).is_some())
}

/// Whether every instance that has the endpoint is one that the program waits for through the hooks.
pub(crate) fn are_waited_for(id: Id) -> bool {
    let Some(mut t) = table() else { return false };
    t.of(id).all(|i| t.at(i).is_none_or(|r| fds::is_waited_for(r.epfd)))
}

/// Takes over a registration that was made past the hooks. False if there is no room for it.
pub(crate) fn take_over(id: Id, epfd: c_int, fd: c_int, entry: fdinfo::Entry) -> bool {
    let Some(mut t) = table() else { return false };
    make_tag();
    let (events, data, armed) = (entry.mask, entry.data, is_armed(entry.mask));
    let new = Registration { epfd, fd, events, data, armed, foreign: true, ..EMPTY };
    let Some(index) = t.insert(id, new) else { return false };
    if id.endpoint().phase() == Phase::Dual {
        t.begin_moves();
        let (side, tag) = (id.endpoint().sides(), t.tag(index));
        if !t.watch_foreign(index) || !t.add_unix(index, id, 0) {
            t.remove(id, index);
            return false;
        }
        if let Some(entry) = t.at(index).copied() {
            rearm(side, &entry, tag);
        }
    }
    true
}

/// Before a wait for an instance: applies to both sockets what the program has changed past the hooks in foreign
/// registrations that are between the transports. True if the instance has such registrations: the wait must come back
/// soon and look again.
pub(crate) fn follow_foreign(epfd: c_int) -> bool {
    let Some(mut t) = table().filter(|_| has_foreign()) else { return false };
    let mut any = false;
    for i in t.foreign() {
        let Some(r) = t.at(i).copied().filter(|r| r.used && r.epfd == epfd) else { continue };
        any = true;
        let id = Id { index: r.endpoint };
        if !refresh(&mut t, i) {
            // The program may make it again.
            t.remove_unix(i, id);
            continue;
        }
        let came_back = !r.unix.is_there();
        if came_back {
            t.begin_moves();
            t.add_unix(i, id, 0);
        }
        let (Some(now), tag) = (t.at(i).copied(), t.tag(i)) else { continue };
        if came_back || (now.events, now.data, now.armed) != (r.events, r.data, r.armed) {
            t.begin_moves();
            rearm(id.endpoint().sides(), &now, tag);
        }
    }
    any
}

/// Waits until a promise that another thread is giving is given, or is not given after all: a search for endpoints between
/// the transports finds the endpoint after that.
pub(crate) fn await_promises() {
    drop(table());
}

fn restore_tcp(t: &mut Table, id: Id) {
    for i in t.of(id) {
        t.begin_moves();
        t.unwatch_foreign(i);
        t.remove_unix(i, id);
        let Some(r) = t.at(i).copied() else { continue };
        if r.foreign && !refresh(t, i) {
            t.remove(id, i);
            continue;
        }
        if let Some(r) = t.at(i).copied().filter(is_in_place) {
            sys::epoll_modify(r.epfd, r.fd, r.program_mask(), r.data);
        }
    }
}

/// Whether the number of a registration is still the endpoint's. If not, the program has closed the number, a duplicate keeps
/// the file, and a change by that number would be one of another connection's registration.
fn is_in_place(r: &Registration) -> bool {
    numbers::is_number_of(r.fd, Id { index: r.endpoint })
}

/// A direction changed its transport: the masks follow. The kernel looks at the readiness of each anew, so that an
/// edge which fell on the other transport is not missed.
pub(crate) fn update_dual(id: Id) {
    let Some(mut t) = table() else { return };
    let side = id.endpoint().sides();
    for i in t.of(id) {
        t.begin_moves();
        let Some(r) = t.at(i).copied() else { continue };
        if r.foreign && !refresh(&mut t, i) {
            // The program may register it again.
            t.remove_unix(i, id);
            continue;
        }
        let (Some(r), tag) = (t.at(i).copied(), t.tag(i)) else { continue };
        rearm(side, &r, tag);
        if side & sides::ENDED != 0 {
            // The new transport would report HUP for ever.
            t.remove_unix(i, id);
        }
    }
}

pub(crate) fn rearm(side: u8, r: &Registration, tag: u64) -> sys::Ret {
    let (on_tcp, on_unix) = split(side, r);
    let changed = if is_in_place(r) { sys::epoll_modify(r.epfd, r.fd, on_tcp, tag) } else { 0 };
    r.unix.modify(r.epfd, on_unix, tag);
    changed
}

/// Dual → Final, or Dual → Stay with the registrations as the program made them.
pub(crate) fn leave_dual(id: Id, next: Phase) -> bool {
    let Some(mut t) = table() else { return false };
    if next == Phase::Stay {
        restore_tcp(&mut t, id);
    }
    id.endpoint().advance(Phase::Dual, next)
}

/// Final: the registrations are moved from the TCP socket to the new one, `replace` replaces the descriptors in
/// between. No other thread registers the endpoint meanwhile.
///
/// False, and nothing done, in a signal handler that interrupted a change of the table.
pub(crate) fn finish(id: Id, replace: impl FnOnce(&mut Moving)) -> bool {
    let Some(t) = table() else { return false };
    let mut moving = Moving(t);
    replace(&mut moving);
    moving.follow(id);
    true
}

/// The locked table while an endpoint's descriptors are replaced.
pub(crate) struct Moving(Table);

impl Moving {
    /// Takes the TCP socket's registrations away while `fd` still is the TCP socket.
    pub(crate) fn withdraw_tcp(&mut self, id: Id, fd: c_int) {
        let t = &mut self.0;
        for i in t.of(id) {
            t.begin_moves();
            let Some(r) = t.at(i).copied().filter(|r| r.fd == fd) else { continue };
            if r.foreign && !refresh(t, i) || sys::epoll_ctl(r.epfd, libc::EPOLL_CTL_DEL, fd, 0, 0) < 0 {
                t.remove_unix(i, id);
                t.remove(id, i);
            }
        }
    }

    /// Registers the new socket, now that the program's numbers are it, as the program had registered the old one.
    fn follow(&mut self, id: Id) {
        let t = &mut self.0;
        for i in t.of(id) {
            // If the program has closed the number and a duplicate keeps the file, the number may be any other file.
            if let Some(r) = t.at(i).copied().filter(is_in_place) {
                sys::epoll_ctl(r.epfd, libc::EPOLL_CTL_ADD, r.fd, r.program_mask(), r.data);
            }
            // Removed after that, so that a thread that looks meanwhile finds one of the two registrations.
            t.remove_unix(i, id);
            t.unwatch_foreign(i);
        }
    }
}

/// Drops the registrations of an endpoint that this process no longer has. `last`: no other process has it either, and the
/// kernel's registrations go with its file.
pub(crate) fn drop_registrations(id: Id, last: bool) {
    if id.local().registrations.load(Relaxed) == 0 {
        return;
    }
    let Some(mut t) = table() else { return };
    for i in t.of(id) {
        if last {
            t.remove_unix(i, id);
        } else {
            t.forget_unix(i, id);
        }
        t.remove(id, i);
    }
}

/// Removes the registrations of a number that the program closes while its file lives on elsewhere: no event of it must be
/// reported any more.
pub(crate) fn withdraw(id: Id, fd: c_int) {
    if id.local().registrations.load(Relaxed) == 0 {
        return;
    }
    let Some(mut t) = table() else { return };
    for i in t.of(id) {
        if let Some(r) = t.at(i).copied().filter(|r| r.fd == fd) {
            sys::epoll_ctl(r.epfd, libc::EPOLL_CTL_DEL, fd, 0, 0);
        }
    }
}
