//! epoll registrations of endpoints, and what becomes of them when an endpoint moves.
//!
//! The kernel's registration belongs to a file and a number, so it does not follow a descriptor to another socket.
//! While an endpoint is Dual each registration is two, one for each transport, and both carry a tag instead of the
//! program's data so that an event can be told apart; after final it is an ordinary one again, made by us with the
//! program's mask and data. A thread that sleeps in epoll_wait needs no waking: registrations change under it.

mod table;

use core::sync::atomic::{AtomicU32, Ordering::*};

use libc::{c_int, epoll_event};

use self::table::{EMPTY, MODE, ONESHOT, Registration, Table, locked, table};
pub use self::table::{await_moves, has_foreign, hold_over_fork, release_after_fork, revision};
use crate::dual::{self, READING, WRITING};
use crate::endpoint::{Id, sides};
use crate::host::fdinfo;
use crate::switch::Phase;
use crate::{fds, sys};

static BATCH: AtomicU32 = AtomicU32::new(0);
/// The upper half of every tag; 0 until there was a registration.
static TAG: AtomicU32 = AtomicU32::new(0);

fn tag_base() -> u64 {
    u64::from(TAG.load(Relaxed)) << 32
}

/// A value that no program's data has in its upper half: not a pointer, not a small or negative number.
fn make_tag() {
    if in_use() {
        return;
    }
    let random = (sys::now() ^ u64::from(sys::getpid() as u32) << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 34;
    let _ = TAG.compare_exchange(0, 0x8000_0000 | random as u32 & 0x3fff_ffff, Relaxed, Relaxed);
}

/// Whether any endpoint was ever registered in this process.
pub fn in_use() -> bool {
    TAG.load(Relaxed) != 0
}

fn to_poll(events: u32) -> i16 {
    events as i16 & (READING | WRITING)
}

/// The masks for (TCP, the new transport) that stand for the program's mask.
fn split(side: u8, r: &Registration) -> (u32, u32) {
    if r.events & ONESHOT != 0 && !r.armed {
        return (ONESHOT, ONESHOT);
    }
    let (tcp, mut unix) = dual::split(side, to_poll(r.events));
    let mode = r.events & MODE;
    if r.events & libc::EPOLLET as u32 != 0 {
        // What arrives there makes an edge, though the bytes on TCP are read first.
        unix |= to_poll(r.events) & READING;
    }
    (tcp as u16 as u32 | mode, unix as u16 as u32 | mode)
}

/// EPOLL_CTL_MOD, also for exclusive registrations, which the kernel does not modify.
fn modify(epfd: c_int, fd: c_int, events: u32, data: u64) -> sys::Ret {
    if events & libc::EPOLLEXCLUSIVE as u32 == 0 {
        return sys::epoll_ctl(epfd, libc::EPOLL_CTL_MOD, fd, events, data);
    }
    let r = sys::epoll_ctl(epfd, libc::EPOLL_CTL_DEL, fd, 0, 0);
    if r < 0 { r } else { sys::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, fd, events, data) }
}

/// Adopting → Dual: `promise` makes the new transport known and promises, then every registration becomes two. False,
/// and nothing changed here, if the promise was not given or one registration cannot.
pub fn enter_dual(id: Id, promise: impl FnOnce() -> bool) -> bool {
    let Some(mut t) = table() else { return false };
    if !promise() {
        return false;
    }
    let (unix, side) = (id.local().unix.load(Acquire), id.endpoint().sides());
    for i in t.of(id) {
        t.begin_moves();
        let Some(r) = t.at(i).copied() else { continue };
        let gone = sys::fcntl(r.epfd, libc::F_GETFD, 0) < 0;
        if gone || r.foreign && !refresh(&mut t, i) {
            t.remove(id, i);
            continue;
        }
        let fired = || fdinfo::registration(r.epfd, r.fd).map(|now| is_armed(now.mask));
        let armed = if r.events & ONESHOT == 0 || r.foreign { Some(r.armed) } else { fired() };
        let (Some(armed), true) = (armed, !r.foreign || t.watch_foreign(i)) else {
            // Not registered any more, or no way to know whether it has fired.
            restore_tcp(&mut t, id);
            return false;
        };
        if let Some(entry) = t.at(i) {
            entry.armed = armed;
        }
        let (Some(r), tag) = (t.at(i).copied(), t.tag(i)) else { continue };
        let (on_tcp, on_unix) = split(side, &r);
        if modify(r.epfd, r.fd, on_tcp, tag) < 0 {
            // The program removed it where we did not see it (it closed the epoll instance, say).
            t.remove(id, i);
        } else if !t.add_unix(i, unix, on_unix, tag) {
            restore_tcp(&mut t, id);
            return false;
        }
    }
    id.endpoint().advance(Phase::Adopting, Phase::Dual)
}

/// Takes into the table what the program has made of a registration past the hooks. False if it has taken it away.
fn refresh(t: &mut Table, index: u32) -> bool {
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

/// Whether a mask that the kernel has says that the registration has not fired; it adds ERR and HUP to each by itself.
fn is_armed(mask: u32) -> bool {
    mask & !(MODE | (libc::EPOLLERR | libc::EPOLLHUP) as u32) != 0
}

/// Whether the kernel has a registration of this number, asked by making another: a mask of nothing, and a tag that leads
/// nowhere.
pub fn is_registered(epfd: c_int, fd: c_int) -> bool {
    make_tag();
    let r = sys::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, fd, libc::EPOLLET as u32, tag_base() | u64::from(u32::MAX));
    if r >= 0 {
        sys::epoll_ctl(epfd, libc::EPOLL_CTL_DEL, fd, 0, 0);
    }
    r == -(libc::EEXIST as sys::Ret)
}

/// Whether the table has the registration.
pub fn knows(id: Id, epfd: c_int, fd: c_int) -> bool {
    table().is_some_and(|mut t| t.find(id, epfd, fd).is_some())
}

/// Whether every instance that has the endpoint is one that the program waits for through the hooks.
pub fn are_waited_for(id: Id) -> bool {
    let Some(mut t) = table() else { return false };
    t.of(id).all(|i| t.at(i).is_none_or(|r| fds::is_waited_for(r.epfd)))
}

/// Takes over a registration that was made past the hooks. False if there is no room for it.
pub fn take_over(id: Id, epfd: c_int, fd: c_int, entry: fdinfo::Entry) -> bool {
    let Some(mut t) = table() else { return false };
    make_tag();
    let (events, data, armed) = (entry.mask, entry.data, is_armed(entry.mask));
    let new = Registration { epfd, fd, events, data, armed, foreign: true, ..EMPTY };
    let Some(index) = t.insert(id, new) else { return false };
    if id.endpoint().phase() == Phase::Dual {
        t.begin_moves();
        let (unix, side, tag) = (id.local().unix.load(Acquire), id.endpoint().sides(), t.tag(index));
        if !t.watch_foreign(index) || !t.add_unix(index, unix, 0, tag) {
            t.remove(id, index);
            return false;
        }
        if let Some(entry) = t.at(index).copied() {
            rearm(side, &entry, tag);
        }
    }
    true
}

/// Before a wait: what the program has changed past the hooks, of registrations in this instance that are between the
/// transports, holds for both sockets. True if there are such: the wait is to come back soon, and look again.
pub fn follow_foreign(epfd: c_int) -> bool {
    let Some(mut t) = table().filter(|_| has_foreign()) else { return false };
    let mut any = false;
    for i in t.foreign() {
        let Some(r) = t.at(i).copied().filter(|r| r.used && r.epfd == epfd) else { continue };
        any = true;
        let id = Id { index: r.endpoint };
        let (unix, tag) = (id.local().unix.load(Acquire), t.tag(i));
        if !refresh(&mut t, i) {
            // It may come back.
            t.remove_unix(i, unix);
            continue;
        }
        let Some(now) = t.at(i).copied() else { continue };
        if r.unix == 0 {
            t.begin_moves();
            t.add_unix(i, unix, 0, tag);
        }
        if r.unix == 0 || (now.events, now.data, now.armed) != (r.events, r.data, r.armed) {
            t.begin_moves();
            let now = Registration { unix: if r.unix == 0 { unix } else { r.unix }, ..now };
            rearm(id.endpoint().sides(), &now, tag);
        }
    }
    any
}

/// Waits until a promise that is being given in another thread is given, or was not: who looks for endpoints in between the
/// transports finds it after that.
pub fn await_promises() {
    drop(table());
}

fn restore_tcp(t: &mut Table, id: Id) {
    let unix = id.local().unix.load(Acquire);
    for i in t.of(id) {
        t.begin_moves();
        t.unwatch_foreign(i);
        t.remove_unix(i, unix);
        let Some(r) = t.at(i).copied() else { continue };
        if r.foreign && !refresh(t, i) {
            t.remove(id, i);
            continue;
        }
        let Some(r) = t.at(i).copied() else { continue };
        modify(r.epfd, r.fd, r.program_mask(), r.data);
    }
}

/// A direction changed its transport: the masks follow. The kernel looks at the readiness of each anew, so that an
/// edge which fell on the other transport is not missed.
pub fn update_dual(id: Id) {
    let Some(mut t) = table() else { return };
    let side = id.endpoint().sides();
    for i in t.of(id) {
        t.begin_moves();
        let Some(r) = t.at(i).copied() else { continue };
        let tag = t.tag(i);
        rearm(side, &r, tag);
        if side & sides::ENDED != 0 {
            // It would report HUP for ever.
            t.remove_unix(i, id.local().unix.load(Acquire));
        }
    }
}

fn rearm(side: u8, r: &Registration, tag: u64) -> sys::Ret {
    let (on_tcp, on_unix) = split(side, r);
    let changed = modify(r.epfd, r.fd, on_tcp, tag);
    if r.unix > 0 {
        modify(r.epfd, r.unix, on_unix, tag);
    }
    changed
}

/// Dual → Final, or Dual → Stay with the registrations as the program made them.
pub fn leave_dual(id: Id, next: Phase) -> bool {
    let Some(mut t) = table() else { return false };
    if next == Phase::Stay {
        restore_tcp(&mut t, id);
    }
    id.endpoint().advance(Phase::Dual, next)
}

/// Final: the registrations are moved from the TCP socket to the new one, `replace` replaces the descriptors in
/// between. Nobody registers the endpoint meanwhile.
///
/// False, and nothing done, in a signal handler that interrupted a change of the table.
pub fn finish(id: Id, unix: c_int, replace: impl FnOnce(&mut Moving)) -> bool {
    let Some(t) = table() else { return false };
    let mut moving = Moving(t);
    replace(&mut moving);
    moving.follow(id, unix);
    true
}

/// The locked table while an endpoint's descriptors are replaced.
pub struct Moving(Table);

impl Moving {
    /// Takes the TCP socket's registrations away while `fd` still is the TCP socket.
    pub fn withdraw_tcp(&mut self, id: Id, fd: c_int) {
        let t = &mut self.0;
        for i in t.of(id) {
            t.begin_moves();
            let Some(r) = t.at(i).copied().filter(|r| r.fd == fd) else { continue };
            if r.foreign && !refresh(t, i) || sys::epoll_ctl(r.epfd, libc::EPOLL_CTL_DEL, fd, 0, 0) < 0 {
                let unix = id.local().unix.load(Acquire);
                t.remove_unix(i, unix);
                t.remove(id, i);
            }
        }
    }

    /// Registers the new socket, now that the program's numbers are it, as the program had registered the old one.
    fn follow(&mut self, id: Id, unix: c_int) {
        let t = &mut self.0;
        for i in t.of(id) {
            // Where the program has closed the number and a duplicate keeps the file, it may be anybody's.
            if let Some(r) = t.at(i).copied().filter(|r| fds::is_number_of(r.fd, id)) {
                sys::epoll_ctl(r.epfd, libc::EPOLL_CTL_ADD, r.fd, r.program_mask(), r.data);
            }
            // After that, so that a thread which looks meanwhile finds one of the two.
            t.remove_unix(i, unix);
            t.unwatch_foreign(i);
        }
    }
}

/// The endpoint is gone from this process; `last`: from every one, and with its file the kernel's registrations.
pub fn drop_registrations(id: Id, last: bool) {
    if id.local().registrations.load(Relaxed) == 0 {
        return;
    }
    let Some(mut t) = table() else { return };
    let unix = id.local().unix.load(Acquire);
    for i in t.of(id) {
        if last {
            t.remove_unix(i, unix);
        } else {
            t.forget_unix(i, unix);
        }
        t.remove(id, i);
    }
}

/// The program closes a number whose file lives on elsewhere: no event of it is to be reported any more.
pub fn withdraw(id: Id, fd: c_int) {
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

/// The program closed a number that was an epoll instance.
pub fn instance_closed(epfd: c_int) {
    let Some(mut t) = table() else { return };
    for i in t.all() {
        if let Some(endpoint) = t.at(i).filter(|r| r.used && r.epfd == epfd).map(|r| r.endpoint) {
            let id = Id { index: endpoint };
            t.forget_unix(i, id.local().unix.load(Acquire));
            t.remove(id, i);
        }
    }
}

/// epoll_ctl on an endpoint that has not settled on TCP.
pub fn control(id: Id, epfd: c_int, op: c_int, fd: c_int, event: Option<&epoll_event>) -> sys::Ret {
    dual::pump(id);
    let Some(mut t) = table() else { return -(libc::EAGAIN as sys::Ret) };
    make_tag();
    let between = id.endpoint().phase() == Phase::Dual;
    let known = t.find(id, epfd, fd);
    match (op, known, event) {
        (libc::EPOLL_CTL_ADD, Some(_), Some(_)) if between && is_registered(epfd, fd) => -(libc::EEXIST as sys::Ret),
        (libc::EPOLL_CTL_ADD, stale, Some(event)) if between => {
            if let Some(stale) = stale {
                t.remove_unix(stale, id.local().unix.load(Acquire));
                t.remove(id, stale);
            }
            add_between(&mut t, id, (epfd, fd), event)
        }
        (libc::EPOLL_CTL_MOD, Some(i), Some(event)) if between => change_between(&mut t, id, i, event),
        (libc::EPOLL_CTL_MOD, None, Some(event)) if between && is_registered(epfd, fd) => {
            // Made past the hooks.
            let new = Registration { epfd, fd, events: event.events, data: event.u64, armed: true, ..EMPTY };
            let Some(index) = t.insert(id, new) else { return pass_on(t, id, (epfd, op, fd), known, Some(event)) };
            let (unix, tag) = (id.local().unix.load(Acquire), t.tag(index));
            t.add_unix(index, unix, 0, tag);
            change_between(&mut t, id, index, event)
        }
        _ => pass_on(t, id, (epfd, op, fd), known, event),
    }
}

/// A registration of an endpoint between the transports is two, and neither is the program's at any moment.
fn add_between(t: &mut Table, id: Id, (epfd, fd): (c_int, c_int), event: &epoll_event) -> sys::Ret {
    let new = Registration { epfd, fd, events: event.events, data: event.u64, armed: true, ..EMPTY };
    let Some(index) = t.insert(id, new) else { return -(libc::ENOSPC as sys::Ret) };
    let (unix, side, tag) = (id.local().unix.load(Acquire), id.endpoint().sides(), t.tag(index));
    let (on_tcp, on_unix) = split(side, &new);
    let r = sys::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, fd, on_tcp, tag);
    if r < 0 {
        t.remove(id, index);
        return r;
    }
    fds::note_registration(epfd);
    if side & sides::ENDED == 0 {
        t.add_unix(index, unix, on_unix, tag);
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

/// The kernel's registration is the program's.
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
            t.remove_unix(i, id.local().unix.load(Acquire));
            t.remove(id, i);
        }
        (libc::EPOLL_CTL_ADD, known) => {
            if let Some(stale) = known {
                t.remove(id, stale);
            }
            fds::note_registration(epfd);
            if t.insert(id, Registration { epfd, fd, events, data, armed: true, ..EMPTY }).is_none() {
                drop(t);
                crate::endpoint::stay(id, matcher::reason::Reason::UnseenWait);
            }
        }
        (libc::EPOLL_CTL_MOD, Some(i)) => drop(t.change(i, events, data)),
        (libc::EPOLL_CTL_MOD, None) => {
            // Made past the hooks.
            let _ = t.insert(id, Registration { epfd, fd, events, data, armed: true, ..EMPTY });
        }
        _ => {}
    }
    r
}

/// The program has changed a registration of a final endpoint. The kernel's registration is all there is; the table
/// only follows, so that a HUP can be told from other descriptors' (see `judge_hangup`). Programs do this on every
/// request: an entry that is deleted stays for the next ADD, and signals are not held back (a handler in the middle of
/// this goes without).
pub fn follow(id: Id, epfd: c_int, op: c_int, fd: c_int, event: &epoll_event) {
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

/// A number for the events of one epoll_wait.
pub fn batch() -> u32 {
    BATCH.fetch_add(1, Relaxed).wrapping_add(1)
}

/// What an event of epoll_wait means for the program.
pub enum Verdict {
    /// Not ours, or as it is.
    Keep,
    /// Nothing that the program asked for.
    Drop,
    /// This instead.
    Replace(epoll_event),
    /// This instead, which was looked for after the kernel had told what is ready.
    Found(epoll_event),
    /// The same of a registration that was told of in this batch.
    More(epoll_event),
}

/// Looks at one event that the kernel reported.
///
/// `batch` is a number that all events of one epoll_wait have in common and no others.
pub fn judge(epfd: c_int, event: &epoll_event, batch: u32) -> Verdict {
    let tag = TAG.load(Relaxed);
    let data = event.u64;
    if tag != 0 && (data >> 32) as u32 == tag {
        judge_dual(data as u32, batch)
    } else if event.events & libc::EPOLLHUP as u32 != 0 {
        judge_hangup(epfd, *event)
    } else {
        Verdict::Keep
    }
}

fn entry_of_tag(t: &mut Table, low: u32) -> Option<(u32, Registration)> {
    let index = (low & 0x1ffff) + 1;
    let r = *t.at(index)?;
    (r.used && u32::from(r.generation) == low >> 17).then_some((index, r))
}

/// Takes an event of one of a registration's two halves in hand. `None`: it is over, or another thread has it.
fn take_in_hand(low: u32) -> Option<Registration> {
    let mut t = table()?;
    let (index, r) = entry_of_tag(&mut t, low)?;
    if r.events & ONESHOT != 0 {
        if !r.armed || r.judged {
            return None;
        }
        t.at(index)?.judged = true;
    }
    Some(r)
}

fn judge_dual(low: u32, batch: u32) -> Verdict {
    let Some(r) = take_in_hand(low) else { return Verdict::Drop };
    let Some(id) = (Id { index: r.endpoint }).pin() else { return Verdict::Drop };
    let asked = to_poll(r.events);
    let ready = dual::readiness(*id, asked).unwrap_or_else(|| dual::settled_readiness(*id, r.fd, asked));
    let ready = ready as u16 as u32;
    let Some(mut t) = table() else { return Verdict::Drop };
    let Some((index, r)) = entry_of_tag(&mut t, low) else { return Verdict::Drop };
    if r.judged {
        let armed = ready == 0;
        if let Some(entry) = t.at(index) {
            (entry.armed, entry.judged) = (armed, false);
        }
        let tag = t.tag(index);
        let r = Registration { armed, ..r };
        match id.endpoint().phase() {
            Phase::Dual => drop(rearm(id.endpoint().sides(), &r, tag)),
            // Made anew as one that has fired.
            _ if armed => drop(modify(r.epfd, r.fd, r.events, r.data)),
            _ => {}
        }
    }
    let mut reported = || t.at(index).is_some_and(|r| core::mem::replace(&mut r.batch, batch) == batch);
    let event = epoll_event { events: ready, u64: r.data };
    match ready {
        0 => Verdict::Drop,
        _ if reported() => Verdict::More(event),
        _ => Verdict::Found(event),
    }
}

fn judge_hangup(epfd: c_int, event: epoll_event) -> Verdict {
    const HUP: u32 = libc::EPOLLHUP as u32;
    let data = event.u64;
    let Some(mut t) = table() else { return Verdict::Keep };
    let mut at = t.first_alike(epfd, data);
    while let Some(r) = t.at(at).copied() {
        let alike = r.epfd == epfd && r.data == data;
        at = r.next_alike;
        let id = Id { index: r.endpoint };
        if !alike {
            continue;
        }
        if r.events & ONESHOT != 0 && !r.armed {
            // It had fired before the endpoint moved; the kernel adds ERR and HUP to every registration by itself.
            return Verdict::Drop;
        }
        if id.endpoint().phase() != Phase::Final || !fds::is_final_now(r.fd, id) {
            continue;
        }
        let events = dual::with_tcp_hangup(id, event.events as i16) as u16 as u32;
        if events & HUP != 0
            || events & !(MODE | libc::EPOLLERR as u32) & r.events != 0
            || r.events & ONESHOT != 0 && events != 0
        {
            return Verdict::Replace(epoll_event { events, u64: data });
        }
        // Only HUP, which TCP would not report: a level-triggered registration must not report it for ever.
        let now = if r.foreign { fdinfo::registration(epfd, r.fd).map_or(r.events, |now| now.mask) } else { r.events };
        sys::epoll_ctl(epfd, libc::EPOLL_CTL_MOD, r.fd, now | libc::EPOLLET as u32, data);
        return Verdict::Drop;
    }
    Verdict::Keep
}
