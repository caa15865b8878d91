//! What this process says to ipcd of its endpoints, in the order of their lives: opened, offered with their prefixes, how
//! far the switch came, how they ended. A report that ipcd has no room for is not sent.

use core::sync::atomic::{AtomicU64, Ordering::*};

use libc::c_int;
use matcher::reason::Reason;
use matcher::wire::{Direction, Hash, Opened, ToDaemon};

use crate::endpoint::{Id, numbers, tcp_fd};
use crate::ipcd::link::{self, Link, connection, greet, send};
use crate::switch::{Phase, Receiver, Sender, Transport};
use crate::{names, sys};

/// Bits of [`Endpoint::told`](endpoint::Endpoint) beside those of the prefixes.
const DUAL: u8 = 1 << 4;
const SWITCHED: u32 = 5;

/// Tells ipcd of a new endpoint. Nothing is lost if the message cannot be sent now: the offer says it again. If ipcd has
/// died, that is found out here, and its successor is told.
/// `fd` is the program's descriptor.
pub(crate) fn opened(id: Id, fd: c_int) {
    if greet() == Link::Up && !tell_opened(id, fd) && greet() == Link::Up {
        tell_opened(id, fd);
    }
}

fn describe(id: Id, tcp: c_int) -> Option<Opened> {
    let (tuple, b) = (names::tuple(tcp)?, id.endpoint().birth());
    Some(Opened { cookie: b.cookie, token: id.token(), role: b.role, tuple, began: b.at, opened: b.at })
}

fn tell_opened(id: Id, fd: c_int) -> bool {
    let Some(opened) = describe(id, tcp_fd(id, fd)) else { return true };
    tell(id, &ToDaemon::Opened(opened), None, 0)
}

/// Sends a message that makes an endpoint known; `told` has the bits of the prefixes in the message.
fn tell(id: Id, message: &ToDaemon, tcp: Option<c_int>, told: u8) -> bool {
    flush_closed();
    let (e, connection) = (id.endpoint(), connection());
    // Noted before ipcd can answer.
    id.local().lent.fetch_or(tcp.is_some(), Relaxed);
    let sent = send(message, tcp);
    if sent {
        id.local().claimed.store(connection, Relaxed);
        e.told.store(told, Relaxed);
        e.told_on.store(connection, Relaxed);
    }
    sent
}

/// Passes ipcd the socket, with the hashes that are known.
fn offer(id: Id, tcp: c_int, hashes: [Option<Hash>; 2]) -> bool {
    let Some(opened) = describe(id, tcp) else { return true };
    let told = (0..).zip(&hashes).fold(0, |bits, (i, hash)| bits | u8::from(hash.is_some()) << i);
    tell(id, &ToDaemon::Offer { opened, hashes }, Some(tcp), told)
}

/// Offers the endpoint with the prefixes that are complete; if it was offered before, reports those that were not complete
/// then. Called while this process is the only one that holds the endpoint. `fd` is the program's descriptor. False if
/// there is no ipcd.
pub(crate) fn prefixes(id: Id, fd: c_int) -> bool {
    let e = id.endpoint();
    let hashes = [Direction::Sent, Direction::Received].map(|direction| e.hash(direction));
    if hashes == [None; 2] {
        return true;
    }
    // Before the answer can come.
    e.advance(Phase::Tracking, Phase::Waiting);
    // To another ipcd, or by a child that has a connection of its own, everything is said again.
    let is_offered = || e.told.load(Relaxed) != 0 && e.told_on.load(Relaxed) == connection();
    if is_offered() {
        later(id, hashes);
    } else if greet() == Link::Up && !offer(id, fd, hashes) && greet() == Link::Up {
        offer(id, fd, hashes);
    }
    greet() != Link::Down
}

fn later(id: Id, hashes: [Option<Hash>; 2]) {
    let (e, cookie) = (id.endpoint(), id.endpoint().birth().cookie);
    for (direction, hash) in [Direction::Sent, Direction::Received].into_iter().zip(hashes) {
        let bit = 1u8 << direction as u8;
        if let Some(hash) = hash.filter(|_| e.told.load(Relaxed) & bit == 0)
            && send(&ToDaemon::Prefix { cookie, direction, hash }, None)
        {
            e.told.fetch_or(bit, Relaxed);
        }
    }
}

/// Reports how far the switch has come. A process that got the endpoint by fork or exec between the transports has not
/// reported it yet, and ipcd would not listen to it: so the process offers the endpoint first.
fn progress(id: Id, message: &ToDaemon) -> bool {
    let speaks = id.local().claimed.load(Relaxed) == connection() && connection() != 0;
    if !speaks && greet() == Link::Up {
        offer(id, id.local().tcp.load(Acquire), [None; 2]);
    }
    send(message, None)
}

/// Tells ipcd that HELLO was sent, or at which byte a direction left TCP, if that is news.
pub(crate) fn switching(id: Id, tx: &Sender, rx: &Receiver) {
    let cookie = id.endpoint().birth().cookie;
    let left =
        [(Direction::Sent, (tx.on == Transport::Unix).then_some(tx.written)), (Direction::Received, rx.leaves_at)];
    let bit = |direction: Direction| 1u8 << (SWITCHED + direction as u32);
    let now = left.iter().filter(|(_, at)| at.is_some()).fold(DUAL, |bits, (direction, _)| bits | bit(*direction));
    let old = id.endpoint().told.fetch_or(now, Relaxed);
    if now == DUAL && old & DUAL == 0 {
        progress(id, &ToDaemon::Adopted { cookie });
    }
    for (direction, at) in left {
        if let Some(offset) = at.filter(|_| old & bit(direction) == 0) {
            progress(id, &ToDaemon::Switched { cookie, direction, offset });
        }
    }
}

/// Tells ipcd that both directions have left TCP. False if ipcd is there but has no room for the report now.
pub(crate) fn became_final(id: Id, sent: u64, received: u64) -> bool {
    let cookie = id.endpoint().birth().cookie;
    progress(id, &ToDaemon::Final { cookie, at: sys::now(), sent, received }) || link::is_gone()
}

/// Tells ipcd that the endpoint stays on TCP.
pub(crate) fn stayed(id: Id, reason: Reason) {
    if link::is_gone() {
        return;
    }
    let fd = id.local().fd.load(Relaxed);
    if id.local().claimed.load(Relaxed) != connection() && numbers::is_number_of(fd, id) {
        // No process has reported the endpoint yet, or only the one that it came from. With proof the peer need not wait.
        // A socket that other programs have is not passed: it must end when they end it, not when ipcd has looked at it.
        let others = id.endpoint().handed.is_raised() || reason == Reason::Passed;
        let _ =
            if reason == Reason::Closed || others { tell_opened(id, fd) } else { offer(id, tcp_fd(id, fd), [None; 2]) };
    }
    send(&ToDaemon::Stayed { cookie: id.endpoint().birth().cookie, reason }, None);
}

/// Leaves the TCP socket with ipcd, for the process that receives the new socket from the program.
pub(crate) fn deposit(id: Id) {
    send(&ToDaemon::Deposit { cookie: id.endpoint().birth().cookie }, Some(id.local().tcp.load(Acquire)));
}

/// Asks ipcd whether a descriptor that the program has received is a new socket. False if it cannot be asked.
pub(crate) fn received(id: Id, socket: c_int) -> bool {
    greet() == Link::Up && send(&ToDaemon::Received { token: id.token() }, Some(socket))
}

/// Gives back the end of a new transport that was granted for an endpoint that this process no longer has.
pub(crate) fn returned(cookie: u64, end: c_int) {
    send(&ToDaemon::Returned { cookie }, Some(end));
}

/// Tells ipcd that this process no longer has the endpoint; `last`: that no process has.
pub(crate) fn closed(id: Id, last: bool) {
    if id.local().claimed.load(Relaxed) != connection() || connection() == 0 {
        return;
    }
    let gone = id.endpoint().birth().cookie | if last { 0 } else { KIN };
    if !flush_closed() | !tell_closed(gone) {
        let free = |slot: &&AtomicU64| slot.compare_exchange(0, gone, Relaxed, Relaxed).is_ok();
        if CLOSED.iter().find(free).is_none() {
            // ipcd would take dead endpoints for living ones for ever: it is better if it forgets all of this process.
            link::hang_up();
        }
    }
}

/// Cookies of endpoints that are gone, and whose reports ipcd had no room for.
static CLOSED: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];
/// A bit beside a cookie (the kernel counts cookies up, so it is free): other processes have the endpoint.
const KIN: u64 = 1 << 63;

/// In the child of a fork: the parent sends the reports that still wait.
pub(crate) fn forget() {
    CLOSED.iter().filter(|slot| slot.load(Relaxed) != 0).for_each(|slot| slot.store(0, Relaxed));
}

fn tell_closed(gone: u64) -> bool {
    let cookie = gone & !KIN;
    send(&if gone == cookie { ToDaemon::Closed { cookie } } else { ToDaemon::Left { cookie } }, None)
}

/// Sends the reports that could not be sent before; false if there is still no room.
fn flush_closed() -> bool {
    CLOSED.iter().all(|slot| match slot.swap(0, Relaxed) {
        0 => true,
        gone if tell_closed(gone) => true,
        gone => {
            slot.store(gone, Relaxed);
            false
        }
    })
}
