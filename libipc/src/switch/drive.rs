//! Dual → Final: hearing the peer's control messages, leaving TCP, or falling back to it.

use core::sync::atomic::Ordering::*;

use libc::{c_int, pollfd};
use matcher::reason::Reason;
use matcher::wire::Direction;

use crate::endpoint::{self, Half, Id, numbers, sides};
use crate::host::guard::NoSignals;
use crate::ipcd::report;
use crate::offsets::{self, Answer};
use crate::readiness::masks::{WRITING, split_poll};
use crate::readiness::{moves, park, waits};
use crate::switch::stay::{give_up, stayed};
use crate::switch::{self, Phase, Receiver, Sender, Transport, land};
use crate::sys::{self, Deadline};
use crate::transport::unix::Heard;

/// How long a peer may take that is busy, but not idle.
const ANSWER_NS: u64 = 100_000_000;
/// How long the program is held up where the peer's answer is needed.
const LANDING_NS: u64 = 1_000_000_000;

/// Drives the switch as far as it goes now. Called before every call on the endpoint and after every wait; never
/// waits itself.
pub fn pump(id: Id) {
    let e = id.endpoint();
    if e.phase() == Phase::Dual {
        let _no_signals = NoSignals::hold();
        let promised = hear(id);
        if promised {
            leave(id);
        }
        settle(id);
    }
    if e.phase() == Phase::Final {
        land::replace_descriptors(id);
        park::kick(id);
    }
}

/// Reads the control messages that are there. True if the peer has promised to watch both transports.
fn hear(id: Id) -> bool {
    let Some(mut rx) = id.endpoint().lock_rx() else { return false };
    mend(id, -1, Some(&mut rx), None);
    hear_locked(id, &mut rx.state);
    rx.state.promised
}

/// The same with the receive lock held. Also what a reader does that finds TCP at its end: the peer may have switched,
/// and what it wrote last is on the new transport.
pub fn hear_locked(id: Id, rx: &mut Receiver) {
    let unix = &id.local().unix;
    while rx.expects_control() && unix.is_open() {
        match unix.hear() {
            Heard::Message(message) if rx.heard(message).is_ok() => {}
            Heard::Nothing => break,
            _ => rx.lost(),
        }
    }
    let tx = if id.endpoint().sides() & sides::TX_UNIX != 0 { Transport::Unix } else { Transport::Tcp };
    // Asked in this order: the answer is no nearly always, and costs nothing.
    if unix.is_open()
        && rx.is_taken_back(tx, || false)
        && unix.has_ended()
        && rx.is_taken_back(tx, || sys::has_ended(id.local().tcp.load(Acquire)))
    {
        rx.lost();
    }
    note_rx(id, rx);
}

/// Recounts the given directions, as the kernel counts, if a process of the family died in the middle of a call on them. `fd` is
/// the program's descriptor.
pub fn mend(id: Id, fd: c_int, rx: Option<&mut Half<'_, Receiver>>, tx: Option<&mut Half<'_, Sender>>) {
    if !rx.as_ref().is_some_and(|rx| rx.damaged) && !tx.as_ref().is_some_and(|tx| tx.damaged) {
        return;
    }
    let kernel = match offsets::read(endpoint::tcp_fd(id, fd), id.endpoint().birth().role) {
        Answer::Exact(kernel) => Some(kernel),
        Answer::Moving => return,
        Answer::Over => None,
    };
    if let Some(rx) = rx.filter(|rx| rx.damaged) {
        rx.damaged = false;
        rx.prefix.skip();
        kernel.inspect(|k| rx.state.recount(k.read));
        id.endpoint().prefix_moved(Direction::Received, &rx.prefix);
    }
    if let Some(tx) = tx.filter(|tx| tx.damaged) {
        tx.damaged = false;
        tx.prefix.skip();
        kernel.inspect(|k| tx.state.recount(k.written));
        id.endpoint().prefix_moved(Direction::Sent, &tx.prefix);
    }
}

/// `n` bytes of the program were read with the receiving half locked, from where it was.
pub fn took(id: Id, rx: &mut Receiver, n: u64) {
    let e = id.endpoint();
    if rx.on == Transport::Tcp && e.sides() & sides::TX_UNIX != 0 {
        acknowledge(id.local().tcp.load(Acquire));
    }
    rx.took(n);
    e.moved(Direction::Received, n);
}

/// Publishes what the locked receiving half says. Who waits on the transport that it was on must look again.
pub fn note_rx(id: Id, rx: &Receiver) {
    if id.endpoint().note_rx(rx) {
        moves::update_dual(id);
        park::kick(id);
    }
}

/// Publishes what the locked sending half says. Who waits for room on the transport that it was on must look again.
pub fn note_tx(id: Id, tx: &Sender) {
    if id.endpoint().note_tx(tx) {
        moves::update_dual(id);
        park::kick(id);
    }
}

/// Moves the sending direction, if it may move now.
fn leave(id: Id) {
    let e = id.endpoint();
    let Some(mut tx) = e.lock_tx() else { return };
    let (unix, tcp) = (&id.local().unix, id.local().tcp.load(Acquire));
    mend(id, tcp, None, Some(&mut tx));
    let tx = &mut tx.state;
    if tx.on != Transport::Tcp || tx.barred || e.deaf_writers.load(SeqCst) > 0 {
        return;
    }
    match offsets::read(tcp, e.birth().role) {
        Answer::Exact(kernel) if kernel.written == tx.written => {}
        Answer::Moving => return,
        // Somebody wrote behind our back after the promise: what we would say of the offset would be wrong.
        Answer::Exact(_) | Answer::Over => {
            tx.barred = true;
            return;
        }
    }
    push(tcp);
    let Some(message) = tx.leave(true) else { return };
    if !unix.say(message) {
        // The peer has closed its end; the stream goes on over TCP.
        *tx = Sender { on: Transport::Tcp, ..*tx };
        return;
    }
    acknowledge(tcp);
    if tx.shut {
        unix.shutdown(libc::SHUT_WR);
    }
    note_tx(id, tx);
}

/// Makes TCP send what it holds back for company (Nagle, TCP_CORK, MSG_MORE; tcp(7)): the peer waits for it now.
fn push(tcp: c_int) {
    for (option, pushes) in [(libc::TCP_CORK, 0), (libc::TCP_NODELAY, 1)] {
        if let Ok(old) = sys::getsockopt::<c_int>(tcp, libc::IPPROTO_TCP, option)
            && (old != 0) != (pushes != 0)
        {
            sys::setsockopt(tcp, libc::IPPROTO_TCP, option, &pushes);
            sys::setsockopt(tcp, libc::IPPROTO_TCP, option, &old);
        }
    }
}

/// Acknowledges what was read from TCP where no answer carries the acknowledgement any more: the peer's next small write
/// would wait for it (Nagle's algorithm) as long as acknowledgements are put off, 40 ms.
pub fn acknowledge(tcp: c_int) {
    sys::setsockopt(tcp, libc::IPPROTO_TCP, libc::TCP_QUICKACK, &1);
}

/// Takes the step out of Dual, if there is one.
fn settle(id: Id) {
    let e = id.endpoint();
    let (Some(rx), Some(tx)) = (e.lock_rx(), e.lock_tx()) else { return };
    if switch::is_final(&tx.state, &rx.state) {
        // The last report must not be lost: afterwards no call comes by here. An ipcd that never has room for it only
        // delays the step for so many calls.
        let tries = id.local().tries.fetch_sub(1, Relaxed);
        if report::became_final(id, tx.state.written, rx.state.read) || tries <= 0 {
            moves::leave_dual(id, Phase::Final);
        }
    } else if switch::may_fall_back(&tx.state, &rx.state) && moves::leave_dual(id, Phase::Stay) {
        drop((rx, tx));
        stays(id, Reason::PeerDeclined);
    } else {
        report::switching(id, &tx.state, &rx.state);
    }
}

/// Brings an endpoint out of Dual, onto the new transport or back onto TCP, because somebody comes who knows TCP alone.
pub fn land(id: Id, reason: Reason) {
    land_all(|other| other == id, reason);
}

/// The same for many at a time. Peers that are in a call answer at once; for those that are not, the promise is taken back.
/// Only where bytes are under way on the new transport there is nothing but to wait, for as long as can be answered for.
pub fn land_all(concerned: impl Fn(Id) -> bool, reason: Reason) {
    let deadlines = [ANSWER_NS, LANDING_NS].map(|time| Deadline::after(Some(time)));
    for deadline in deadlines {
        let between = |id: &Id| id.endpoint().phase() == Phase::Dual && concerned(*id);
        for id in endpoint::held().filter(between) {
            while await_answer(id, deadline) {}
            if id.endpoint().phase() == Phase::Dual {
                retract(id, reason);
            }
        }
    }
}

/// Goes on with the switch; true if the peer may bring it further before the deadline.
fn await_answer(id: Id, deadline: Deadline) -> bool {
    pump(id);
    if id.endpoint().phase() != Phase::Dual || id.endpoint().sides() & sides::CONTROL == 0 || deadline.is_over() {
        return false;
    }
    let mut control = [id.local().unix.pollfd(libc::POLLIN)];
    sys::ppoll(&mut control, deadline.left(), None);
    true
}

/// Takes the promise back. The peer finds the new transport ended, and TCP not; what it had left to say there is refused.
/// False if bytes of the application went over the new transport.
fn retract(id: Id, reason: Reason) -> bool {
    let _no_signals = NoSignals::hold();
    let e = id.endpoint();
    let (Some(mut rx), Some(mut tx)) = (e.lock_rx(), e.lock_tx()) else { return false };
    let unix = &id.local().unix;
    if e.phase() != Phase::Dual || !unix.is_open() {
        return false;
    }
    let waiting = |rx: &mut Receiver| {
        hear_locked(id, rx);
        !rx.expects_control() && unix.unread() > 0
    };
    let bytes = waiting(&mut rx.state);
    if !switch::may_retract(&tx.state, &rx.state, bytes) {
        return false;
    }
    // From here on the peer can say nothing more, and so it cannot leave TCP if it has not.
    unix.shutdown(libc::SHUT_RD);
    let bytes = waiting(&mut rx.state);
    let done = switch::retract(&mut tx.state, &mut rx.state, bytes);
    note_rx(id, &rx.state);
    note_tx(id, &tx.state);
    if done && moves::leave_dual(id, Phase::Stay) {
        // Other processes of the family have it open, too.
        unix.shutdown(libc::SHUT_RDWR);
        drop((rx, tx));
        stays(id, reason);
    }
    done
}

/// What follows the step back to Stay.
fn stays(id: Id, reason: Reason) {
    waits::left_between(id);
    give_up(id);
    stayed(id, reason, Phase::Dual);
    park::kick(id);
}

/// The two sockets with what to wait for on each; -1 where that is nothing.
pub fn watch(id: Id, events: i16) -> [pollfd; 2] {
    let (tcp, unix) = split_poll(id.endpoint().sides(), events);
    let side = id.endpoint().sides();
    // Both halves are shut, but only TCP knows: it says HUP.
    let over = side & sides::TX_SHUT != 0 && side & sides::TX_UNIX == 0;
    let wanted = |p: pollfd| if p.events == 0 { pollfd { fd: -1, ..p } } else { p };
    let on_tcp = pollfd { fd: id.local().tcp.load(Acquire), events: tcp, revents: 0 };
    [if over { on_tcp } else { wanted(on_tcp) }, wanted(id.local().unix.pollfd(unix))]
}

/// Which of `events` hold now for the program, after the control messages were taken. `None` if the endpoint is not
/// Dual any more.
pub fn readiness(id: Id, events: i16) -> Option<i16> {
    pump(id);
    let e = id.endpoint();
    if e.phase() != Phase::Dual {
        return None;
    }
    let mut both = watch(id, events);
    // HUP and ERR of TCP are the stream's, whoever asks for what.
    both[0].fd = id.local().tcp.load(Acquire);
    let control = e.sides() & sides::CONTROL != 0;
    sys::ppoll(&mut both, Some(0), None);
    let [tcp, unix] = both.map(|p| p.revents);
    let unix = if control { unix & WRITING } else { with_tcp_hangup(id, unix) };
    Some((tcp | unix) & (events | libc::POLLERR | libc::POLLHUP))
}

/// Which of `events` hold now on an endpoint that has just left Dual; `fd` is a number of the program's that was it.
pub fn settled_readiness(id: Id, fd: c_int, events: i16) -> i16 {
    if !numbers::is_number_of(fd, id) {
        return 0;
    }
    let revents = sys::poll_now(fd, events);
    if id.endpoint().phase() == Phase::Final { with_tcp_hangup(id, revents) } else { revents }
}

/// Whether a reset of the new socket is none of the stream. The kernel resets if the peer left something unread, and that
/// was our SWITCH if the program has written nothing after it (a peer that ends without closing leaves it).
pub fn is_false_reset(id: Id) -> bool {
    match id.endpoint().phase() {
        Phase::Final => !id.endpoint().wrote.is_raised(),
        _ => id.endpoint().lock_tx().is_some_and(|tx| !tx.state.used),
    }
}

/// A Unix-domain socket says HUP as soon as the peer has closed; TCP when both halves are shut, or after a reset. So
/// TCP is asked. Beside its word counts that our half is shut, too, and a reset that TCP does not know of (the peer's process ended
/// with bytes unread).
pub fn with_tcp_hangup(id: Id, revents: i16) -> i16 {
    const OVER: i16 = libc::POLLHUP | libc::POLLERR;
    if revents & libc::POLLHUP == 0 {
        return revents;
    }
    let tcp = sys::poll_now(id.local().tcp.load(Acquire), 0) & OVER;
    let reset = revents & libc::POLLERR != 0 && tcp & libc::POLLHUP == 0 && !is_false_reset(id);
    let own = match id.endpoint().sides() & sides::TX_SHUT != 0 {
        _ if reset => OVER,
        true => libc::POLLHUP,
        false => 0,
    };
    revents & (!OVER | own) | tcp
}
