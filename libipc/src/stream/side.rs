//! The two directions of an endpoint, as far as calls in them differ.

use core::sync::atomic::AtomicU32;

use libc::c_int;
use matcher::wire::Direction;

use crate::endpoint::{Endpoint, Guard, Half, Id, Stored};
use crate::readiness::waits;
use crate::switch::{Receiver, Sender, Transport, drive};
use crate::sys;

/// One direction: its state ([`Receiver`] or [`Sender`]), its lock, and what a call in it waits for.
pub(crate) trait Side: Stored + 'static {
    const DIRECTION: Direction;
    /// What a call in this direction polls for.
    const READY: i16;
    /// The option that says how long such a call waits.
    const TIMEOUT: c_int;

    fn lock(e: &Endpoint) -> Option<Guard<'_, Self>>;
    /// Calls that wait on TCP alone and cannot be woken by the shim: as long as there are any, the direction stays on TCP.
    fn deaf(id: Id) -> &'static AtomicU32;
    /// Recounts the direction after a process of the family died in the middle of a call on it.
    fn mend(id: Id, fd: c_int, half: &mut Half<'_, Self>);
    /// Counts `n` bytes of the program that moved on the transport that the direction was on.
    fn count(&mut self, id: Id, n: u64);
    /// Tells other threads and the registrations where the direction is now.
    fn publish(&self, id: Id);
    fn on(&self) -> Transport;

    // How the program waits in reads is evidence ([`waits`]); how it waits in writes says nothing.
    fn found(_: Id) {}
    fn found_nothing(_: Id) {}
    fn will_wait(_: Id) {}
    /// Called when a real call is about to be made that may wait.
    fn goes_natively(_: Id, _tcp: c_int, _dont_wait: bool) {}
}

impl Side for Receiver {
    const DIRECTION: Direction = Direction::Received;
    const READY: i16 = libc::POLLIN;
    const TIMEOUT: c_int = libc::SO_RCVTIMEO;

    fn lock(e: &Endpoint) -> Option<Guard<'_, Receiver>> {
        e.lock_rx()
    }

    fn deaf(id: Id) -> &'static AtomicU32 {
        &id.local().deaf_readers
    }

    fn mend(id: Id, fd: c_int, half: &mut Half<'_, Receiver>) {
        drive::mend(id, fd, Some(half), None);
    }

    fn count(&mut self, id: Id, n: u64) {
        drive::took(id, self, n);
    }

    fn publish(&self, id: Id) {
        drive::note_rx(id, self);
    }

    fn on(&self) -> Transport {
        self.on
    }

    fn found(id: Id) {
        waits::found(id);
    }

    fn found_nothing(id: Id) {
        waits::found_nothing(id);
    }

    fn will_wait(id: Id) {
        waits::waits_in_a_read(id);
    }

    fn goes_natively(id: Id, tcp: c_int, dont_wait: bool) {
        if waits::are_known(id) {
            return;
        }
        if sys::poll_now(tcp, libc::POLLIN) != 0 {
            waits::found(id);
        } else if dont_wait || sys::is_nonblocking(tcp) {
            waits::found_nothing(id);
        } else {
            waits::waits_in_a_read(id);
        }
    }
}

impl Side for Sender {
    const DIRECTION: Direction = Direction::Sent;
    const READY: i16 = libc::POLLOUT;
    const TIMEOUT: c_int = libc::SO_SNDTIMEO;

    fn lock(e: &Endpoint) -> Option<Guard<'_, Sender>> {
        e.lock_tx()
    }

    fn deaf(id: Id) -> &'static AtomicU32 {
        &id.endpoint().deaf_writers
    }

    fn mend(id: Id, fd: c_int, half: &mut Half<'_, Sender>) {
        drive::mend(id, fd, None, Some(half));
    }

    fn count(&mut self, id: Id, n: u64) {
        self.wrote(n);
        id.endpoint().moved(Direction::Sent, n);
    }

    fn publish(&self, _: Id) {
        // Only `drive` moves a sending direction, and publishes it.
    }

    fn on(&self) -> Transport {
        self.on
    }
}
