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

/// How long the peer has to answer before the promise is taken back: enough for a busy peer; an idle one does not answer.
const ANSWER_NS: u64 = 100_000_000;
/// How long the program is held up at most where the promise cannot be taken back without the peer's answer.
const LANDING_NS: u64 = 1_000_000_000;

/// Drives the switch as far as it can go now. Called before every call on the endpoint and after every wait; it never
/// waits itself.
pub(crate) fn pump(id: Id) {
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

/// The same with the receive lock held. A reader that finds the end of TCP calls this, too: the peer may have left TCP,
/// and then its last bytes are on the new transport.
pub(crate) fn hear_locked(id: Id, rx: &mut Receiver) {
    let unix = &id.local().unix;
    while rx.expects_control() && unix.is_open() {
        match unix.hear() {
            Heard::Message(message) if rx.heard(message).is_ok() => {}
            Heard::Nothing => break,
            _ => rx.lost(),
        }
    }
    let tx = if id.endpoint().sides() & sides::TX_UNIX != 0 { Transport::Unix } else { Transport::Tcp };
    // In this order, because the first checks need no system call, and one of them is false nearly always.
    if unix.is_open()
        && rx.is_taken_back(tx, || false)
        && unix.has_ended()
        && rx.is_taken_back(tx, || sys::has_ended(id.local().tcp.load(Acquire)))
    {
        rx.lost();
    }
    note_rx(id, rx);
}

/// Sets the counts of the given directions to the kernel's, if a process of the family died in the middle of a call on
/// them. `fd` is the program's descriptor.
pub(crate) fn mend(id: Id, fd: c_int, rx: Option<&mut Half<'_, Receiver>>, tx: Option<&mut Half<'_, Sender>>) {
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

/// Counts `n` bytes that a call of the program has read, from the transport that the locked receiving half was on.
pub(crate) fn took(id: Id, rx: &mut Receiver, n: u64) {
    let e = id.endpoint();
    if rx.on == Transport::Tcp && e.sides() & sides::TX_UNIX != 0 {
        acknowledge(id.local().tcp.load(Acquire));
    }
    rx.took(n);
    e.moved(Direction::Received, n);
}

/// Publishes the state of the locked receiving half. Threads that wait on the transport that it was on must look again.
pub(crate) fn note_rx(id: Id, rx: &Receiver) {
    if id.endpoint().note_rx(rx) {
        moves::update_dual(id);
        park::kick(id);
    }
}

/// Publishes the state of the locked sending half. Threads that wait for room on the transport that it was on must look
/// again.
pub(crate) fn note_tx(id: Id, tx: &Sender) {
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
        // Bytes were written past the hooks after the promise, or the connection is over: SWITCH would be wrong.
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

/// Makes TCP send the bytes that it holds back to fill a segment (Nagle's algorithm, TCP_CORK, MSG_MORE; tcp(7)): from now
/// on the peer waits for them.
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

/// Acknowledges at once the bytes that were read from TCP, when no answer over TCP carries the acknowledgement any more.
/// Otherwise the peer's next small write waits for it (Nagle's algorithm) as long as the kernel delays it: 40 ms.
pub(crate) fn acknowledge(tcp: c_int) {
    sys::setsockopt(tcp, libc::IPPROTO_TCP, libc::TCP_QUICKACK, &1);
}

/// Takes the step out of Dual, if one can be taken now.
fn settle(id: Id) {
    let e = id.endpoint();
    let (Some(rx), Some(tx)) = (e.lock_rx(), e.lock_tx()) else { return };
    if switch::is_final(&tx.state, &rx.state) {
        // This last report must not be lost: after the step no call passes here that could repeat it. If the connection to
        // ipcd never has room for it, the step is put off by `tries` calls and no more.
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

/// Brings an endpoint out of Dual, onto the new transport or back onto TCP, because a program without the shim is about to
/// use the endpoint, and it can only use the TCP socket.
pub(crate) fn land(id: Id, reason: Reason) {
    land_all(|other| other == id, reason);
}

/// The same for many endpoints at a time. A peer that is in a call answers at once; if a peer does not answer, the promise
/// is taken back. Only where the new transport has carried bytes that is impossible, and the shim waits for the peer, up
/// to [`LANDING_NS`].
pub(crate) fn land_all(concerned: impl Fn(Id) -> bool, reason: Reason) {
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

/// Drives the switch and waits for a message of the peer; true if the peer may bring the switch further before the
/// deadline.
fn await_answer(id: Id, deadline: Deadline) -> bool {
    pump(id);
    if id.endpoint().phase() != Phase::Dual || id.endpoint().sides() & sides::CONTROL == 0 || deadline.is_over() {
        return false;
    }
    let mut control = [id.local().unix.pollfd(libc::POLLIN)];
    sys::ppoll(&mut control, deadline.left(), None);
    true
}

/// Takes the promise back. The peer then finds that the new transport has ended and TCP has not; what it still writes to
/// the new transport is refused. False if bytes of the application went over the new transport.
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
    // From here on the peer's SWITCH is refused, so the peer cannot leave TCP if it has not left it before.
    unix.shutdown(libc::SHUT_RD);
    let bytes = waiting(&mut rx.state);
    let done = switch::retract(&mut tx.state, &mut rx.state, bytes);
    note_rx(id, &rx.state);
    note_tx(id, &tx.state);
    if done && moves::leave_dual(id, Phase::Stay) {
        // A close alone would not end it: other processes of the family have it open, too.
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

/// The two sockets, each with the events to wait for; the descriptor is -1 where there is none to wait for.
pub(crate) fn watch(id: Id, events: i16) -> [pollfd; 2] {
    let (tcp, unix) = split_poll(id.endpoint().sides(), events);
    let side = id.endpoint().sides();
    // This half was shut on TCP. When the peer's is shut, too, only TCP reports it, by HUP, which needs no event.
    let over = side & sides::TX_SHUT != 0 && side & sides::TX_UNIX == 0;
    let wanted = |p: pollfd| if p.events == 0 { pollfd { fd: -1, ..p } } else { p };
    let on_tcp = pollfd { fd: id.local().tcp.load(Acquire), events: tcp, revents: 0 };
    [if over { on_tcp } else { wanted(on_tcp) }, wanted(id.local().unix.pollfd(unix))]
}

/// Which of `events` hold now for the program, after the control messages were taken off the new transport. `None` if the
/// endpoint is not Dual any more.
pub(crate) fn readiness(id: Id, events: i16) -> Option<i16> {
    pump(id);
    let e = id.endpoint();
    if e.phase() != Phase::Dual {
        return None;
    }
    let mut both = watch(id, events);
    // HUP and ERR of TCP are those of the stream, whatever events are asked for.
    both[0].fd = id.local().tcp.load(Acquire);
    let control = e.sides() & sides::CONTROL != 0;
    sys::ppoll(&mut both, Some(0), None);
    let [tcp, unix] = both.map(|p| p.revents);
    let unix = if control { unix & WRITING } else { with_tcp_hangup(id, unix) };
    Some((tcp | unix) & (events | libc::POLLERR | libc::POLLHUP))
}

/// Which of `events` hold now on an endpoint that has just left Dual; `fd` is the program's number, if it still belongs to
/// the endpoint.
pub(crate) fn settled_readiness(id: Id, fd: c_int, events: i16) -> i16 {
    if !numbers::is_number_of(fd, id) {
        return 0;
    }
    let revents = sys::poll_now(fd, events);
    if id.endpoint().phase() == Phase::Final { with_tcp_hangup(id, revents) } else { revents }
}

/// Whether a reset that the new socket reports did not happen to the stream itself. The kernel reports a reset if the peer
/// has left bytes unread. If the program has written nothing after our SWITCH, these bytes are the SWITCH, which a peer
/// leaves unread that ends without a close call.
pub(crate) fn is_false_reset(id: Id) -> bool {
    match id.endpoint().phase() {
        Phase::Final => !id.endpoint().wrote.is_raised(),
        _ => id.endpoint().lock_tx().is_some_and(|tx| !tx.state.used),
    }
}

/// A Unix-domain socket reports HUP as soon as the peer has closed; TCP reports it when both halves are shut, or after a
/// reset. So TCP's answer is taken in place of the new socket's, with two additions: HUP if this side has shut its half,
/// and a reset that TCP does not know of (the peer's process ended with bytes unread).
pub(crate) fn with_tcp_hangup(id: Id, revents: i16) -> i16 {
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
