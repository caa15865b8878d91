//! Every call that reads into buffers.

use libc::{c_int, msghdr};

use super::arrivals::Arrivals;
use super::buffers::Buffers;
use super::call::{Call, Judged, Step, Tried};
use super::ending::{end_of_stream, has_error, read_reset};
use super::native;
use super::read_final::{count, discard, receive_final, without_control};
use super::tally::tally;
use super::unread::unread;
use super::wait::heeding_cancellation;
use crate::endpoint::Guard;
use crate::fds::Kind;
use crate::switch::{Phase, Receiver, Transport, drive};
use crate::sys::{self, EAGAIN, ECONNRESET};
use crate::transport::Carrier;

/// A call that reads into the buffers of a header as recvmsg(2) does.
pub(crate) struct Read<'a> {
    msg: &'a mut msghdr,
    flags: c_int,
    buffers: Buffers<'static>,
    /// MSG_PEEK with MSG_WAITALL: how many bytes were there at the last look, and what reports that more have come.
    peeked: usize,
    arrivals: Option<(Phase, Arrivals)>,
}

impl Step for Read<'_> {
    type Side = Receiver;

    fn attempt(&mut self, call: &mut Call, rx: &mut Guard<'_, Receiver>) -> Tried {
        if call.may_go_natively() {
            return Tried::Natively;
        }
        let on = rx.state.on;
        let mut r = self.read_once(call, rx);
        if r <= 0 && r != EAGAIN && call.id.endpoint().phase() == Phase::Dual {
            // The end of one transport is the end of the stream only if the other one does not go on.
            drive::hear_locked(call.id, &mut rx.state);
            if rx.state.on != on {
                r = self.read_once(call, rx);
            }
            match r {
                _ if rx.state.on == Transport::Tcp => {}
                0 if call.done == 0 && self.buffers.len() > 0 => r = end_of_stream(call.id).told(),
                ECONNRESET => r = read_reset(call.id),
                _ => {}
            }
        }
        Tried::Gave(r)
    }

    fn judge(&mut self, call: &mut Call, r: sys::Ret) -> Judged {
        let (all, peek, len) = (self.has(libc::MSG_WAITALL), self.has(libc::MSG_PEEK), self.buffers.len());
        match r {
            EAGAIN => Judged::Blocked,
            r if r <= 0 => Judged::Done(r),
            r if self.looks_for_all() && (r as usize) < len && !ends_after(call, r as usize) => {
                self.peeked = r as usize;
                Judged::Blocked
            }
            r if !all || peek => Judged::Done(r),
            r => {
                call.done += r as usize;
                if call.done >= len { Judged::Done(0) } else { Judged::Blocked }
            }
        }
    }

    fn natively(&mut self, call: &Call) -> sys::Ret {
        self.on_the_rest(call, |msg, flags| native::receive(call.fd, msg, flags))
    }

    fn count(&mut self, call: &Call, rx: &mut Guard<'_, Receiver>, n: usize) {
        if !self.has(libc::MSG_PEEK) {
            self.tally(call, rx, n);
        }
    }

    fn settled(&mut self, call: &Call, fd: c_int, kind: Kind) -> sys::Ret {
        let at_once = if self.resumes(call) { libc::MSG_DONTWAIT } else { 0 };
        let looks_for_all = self.looks_for_all();
        self.on_the_rest(call, |msg, flags| match kind {
            // It is for the next call: this one has something to return.
            _ if call.done > 0 && has_error(fd) => 0,
            // Heeds cancellation itself where it waits; twice, the pin would be let go twice.
            Kind::Final if looks_for_all => receive_final(call.id, fd, msg, flags | at_once),
            Kind::Final => heeding_cancellation(call.id, || receive_final(call.id, fd, msg, flags | at_once)),
            _ => heeding_cancellation(call.id, || native::receive(fd, msg, flags | at_once)),
        })
    }

    fn resumes(&self, call: &Call) -> bool {
        // Readiness does not tell of more bytes than a look has found.
        call.resumes && !self.looks_for_all()
    }

    fn wait(&mut self, call: &mut Call) -> Result<(), sys::Ret> {
        if self.peeked == 0 {
            return call.wait::<Receiver>();
        }
        // Some of the wanted bytes are there, so the socket is ready, and readiness does not report that more have come.
        call.may_wait::<Receiver>()?;
        let (until, phase) = (call.until::<Receiver>(), call.id.endpoint().phase());
        if self.arrivals.as_ref().is_none_or(|(of, _)| *of != phase) {
            self.arrivals = Some((phase, Arrivals::of(call.id, call.fd)));
        }
        self.arrivals.as_ref().map_or(Ok(()), |(_, arrivals)| arrivals.wait(call.id, until))
    }

    fn peeked(&self) -> usize {
        self.peeked
    }
}

/// Whether the stream ends after the `n` bytes that are there.
fn ends_after(call: &Call, n: usize) -> bool {
    let ended = |on| Carrier::of(call.id, call.fd, on).poll(libc::POLLRDHUP) != 0;
    [Transport::Tcp, Transport::Unix].into_iter().any(ended) && unread(call.id, call.fd) <= n
}

impl<'a> Read<'a> {
    pub(crate) fn new(msg: &'a mut msghdr, flags: c_int) -> Read<'a> {
        // SAFETY: the header is the program's, and outlives the call.
        let buffers = unsafe { Buffers::of(msg) };
        Read { msg, flags, buffers, peeked: 0, arrivals: None }
    }

    fn has(&self, flag: c_int) -> bool {
        self.flags & flag != 0
    }

    /// MSG_PEEK with MSG_WAITALL.
    fn looks_for_all(&self) -> bool {
        self.has(libc::MSG_PEEK) && self.has(libc::MSG_WAITALL)
    }

    /// Makes the real call for what has not moved yet; with the program's own header if nothing has.
    fn on_the_rest(&mut self, call: &Call, real: impl FnOnce(&mut msghdr, c_int) -> sys::Ret) -> sys::Ret {
        if call.done == 0 {
            return real(self.msg, self.flags);
        }
        let mut window = self.buffers.window(call.done, usize::MAX);
        real(&mut window.header(self.msg), self.flags)
    }

    /// Reads from the transport that has the next bytes; if they are the last ones on TCP, from the new transport, too.
    fn read_once(&mut self, call: &mut Call, rx: &mut Guard<'_, Receiver>) -> sys::Ret {
        let (on, left) = (rx.state.on, rx.state.left_on_tcp());
        let limit = if on == Transport::Tcp { left.map_or(usize::MAX, |n| n as usize) } else { usize::MAX };
        let from = Carrier::of(call.id, call.fd, on);
        if call.done > 0 && from.has_ended() {
            // An error is for the next call: this one has bytes to return.
            return 0;
        }
        let r = self.read_from(call, from, limit);
        if r <= 0 {
            return r;
        }
        // The last bytes on TCP: what follows is on the new transport.
        let moves = on == Transport::Tcp && left == Some(r as u64);
        if !self.has(libc::MSG_PEEK) {
            self.tally(call, rx, r as usize);
        }
        let more = if moves { self.beyond(call, r as usize) } else { 0 };
        if !self.has(libc::MSG_PEEK) {
            drive::took(call.id, &mut rx.state, more as u64);
        }
        r + more
    }

    fn read_from(&mut self, call: &Call, from: Carrier, limit: usize) -> sys::Ret {
        let flags = self.flags | libc::MSG_DONTWAIT;
        match from {
            Carrier::Unix(_) if self.has(libc::MSG_TRUNC) => {
                self.strip_control();
                let left = self.buffers.len() - call.done;
                let read = |room: &mut [u8], flags| from.read(room, flags);
                match self.has(libc::MSG_PEEK) {
                    true => count(left, flags, read, || from.unread()),
                    false => discard(left, flags, read),
                }
            }
            Carrier::Tcp(tcp) if call.done == 0 && limit == usize::MAX => native::whole(tcp, self.msg, flags),
            _ => {
                let mut window = self.buffers.window(call.done, limit);
                let mut header = without_control(&window.header(self.msg));
                let r = from.receive(&mut header, flags);
                self.strip_control();
                self.msg.msg_flags = header.msg_flags & !libc::MSG_CTRUNC;
                r
            }
        }
    }

    fn strip_control(&mut self) {
        *self.msg = without_control(self.msg);
        self.msg.msg_flags = 0;
    }

    /// A call that came to the end of TCP after `seen` bytes goes on with the bytes that are on the new transport.
    fn beyond(&mut self, call: &Call, seen: usize) -> sys::Ret {
        let (at, flags) = (call.done + seen, self.flags | libc::MSG_DONTWAIT);
        let Some(left) = self.buffers.len().checked_sub(at).filter(|left| *left > 0) else { return 0 };
        let next = Carrier::of(call.id, call.fd, Transport::Unix);
        let r = match (self.has(libc::MSG_TRUNC), self.has(libc::MSG_PEEK)) {
            (true, true) => count(left, flags, |room, flags| next.read(room, flags), || next.unread()),
            (true, false) => 0,
            (false, _) => {
                let mut window = self.buffers.window(at, usize::MAX);
                next.receive(&mut without_control(&window.header(self.msg)), flags)
            }
        };
        r.max(0)
    }

    fn tally(&self, call: &Call, rx: &mut Guard<'_, Receiver>, n: usize) {
        tally(call.id, rx, n, |prefix, of| match self.has(libc::MSG_TRUNC) {
            false => self.buffers.each_piece(call.done, n, |bytes| prefix.feed(bytes, of)),
            true => prefix.skip(),
        });
    }
}
