//! What is known of one TCP socket, in the memory that a family of processes shares: atomics, each value of which is valid,
//! whichever process has written it.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::*};

use matcher::reason::Reason;
use matcher::wire::{Direction, Role};

use super::half::{Guard, Words};
use super::phase::PhaseCell;
use crate::family::Flag;
use crate::prefix::Prefix;
use crate::switch::{Phase, Receiver, Sender, Transport};

/// The bits of `prefix_complete` that say "lost" are this many places above those that say "complete".
const MISSED: u32 = 4;
/// The bit of `prefix_complete` that says: bytes are kept until N is known.
const KEPT: u8 = 1 << 7;
/// So many bytes count as much as one change of direction.
const BYTES_OF_A_TURN: u64 = 16 << 10;
/// See [`Endpoint::bytes`].
const CALLS: u32 = 40;

/// What never changes after the endpoint was opened.
#[derive(Clone, Copy)]
pub(crate) struct Birth {
    pub cookie: u64,
    pub role: Role,
    /// CLOCK_MONOTONIC nanoseconds when connect was first called, or when accept returned.
    pub at: u64,
}

/// One kernel TCP socket.
#[repr(C, align(64))]
pub(crate) struct Endpoint {
    phase: PhaseCell,
    reason: AtomicU8,
    /// Prefixes that are complete, and that were sent to ipcd: a bit per [`Direction`].
    pub prefix_complete: AtomicU8,
    pub told: AtomicU8,
    /// [`sides`]: where both directions are, readable without their locks.
    sides: AtomicU8,
    /// How often the connection has changed between sending and receiving, times four, plus which of the two was last.
    turns: AtomicU32,
    /// Bytes of both directions and, from bit [`CALLS`] on, the number of calls that moved them; a guess after 2^40 bytes or
    /// 2^24 calls. Both are for [`Endpoint::is_worth_moving`] and are counted only as long as that is asked.
    bytes: AtomicU64,
    /// The program has written to the new socket, or may have: another program has the socket, which the shim cannot watch.
    pub wrote: Flag,
    /// The endpoint was given to a program that the shim knows nothing of: that program or a child of it may still have it.
    pub handed: Flag,
    /// The connection to ipcd on which the endpoint was reported (see `link::connection`); 0: none yet.
    pub told_on: AtomicU32,
    /// Counts reuses of the memory; part of every reference to it.
    generation: AtomicU32,
    /// CLOCK_MONOTONIC nanoseconds when connect was first called; 0: not yet.
    pub connect_began: AtomicU64,
    /// Writing calls that wait on TCP alone and cannot be woken by the shim.
    pub deaf_writers: AtomicU32,
    rx: Words,
    tx: Words,
    /// The [`Birth`].
    cookie: AtomicU64,
    born: AtomicU64,
    role: AtomicU8,
}

/// Where the directions are, as bits.
pub(crate) mod sides {
    /// The program reads from the new transport.
    pub(crate) const RX_UNIX: u8 = 1;
    /// The program writes to the new transport.
    pub(crate) const TX_UNIX: u8 = 2;
    /// Control messages are expected on the new transport.
    pub(crate) const CONTROL: u8 = 4;
    /// The program shut its writing half.
    pub(crate) const TX_SHUT: u8 = 8;
    /// The new transport ended.
    pub(crate) const ENDED: u8 = 16;
}

impl Endpoint {
    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Moves from `from` to `to`; false if the phase is not `from` any more or the step does not exist.
    pub(crate) fn advance(&self, from: Phase, to: Phase) -> bool {
        self.phase.advance(from, to)
    }

    /// Locks the receiving half; `None` in a signal handler that interrupted a call on it.
    pub(crate) fn lock_rx(&self) -> Option<Guard<'_, Receiver>> {
        self.rx.lock()
    }

    /// Locks the sending half; after the receiving one if both are needed.
    pub(crate) fn lock_tx(&self) -> Option<Guard<'_, Sender>> {
        self.tx.lock()
    }

    /// The bits of [`sides`].
    pub(crate) fn sides(&self) -> u8 {
        self.sides.load(SeqCst)
    }

    /// Publishes the state of the locked receiving half in [`sides`]; true if something changed.
    pub(crate) fn note_rx(&self, rx: &Receiver) -> bool {
        let on = if rx.on == Transport::Unix { sides::RX_UNIX } else { 0 };
        let control = if rx.expects_control() { sides::CONTROL } else { 0 };
        let ended = if rx.ended { sides::ENDED } else { 0 };
        self.note(sides::RX_UNIX | sides::CONTROL | sides::ENDED, on | control | ended)
    }

    /// Publishes the state of the locked sending half in [`sides`]; true if something changed.
    pub(crate) fn note_tx(&self, tx: &Sender) -> bool {
        let on = if tx.on == Transport::Unix { sides::TX_UNIX } else { 0 };
        let shut = if tx.shut { sides::TX_SHUT } else { 0 };
        self.note(sides::TX_UNIX | sides::TX_SHUT, on | shut)
    }

    /// Publishes that a locked half's prefix is complete, or lost.
    pub(crate) fn prefix_moved(&self, direction: Direction, prefix: &Prefix) {
        let bit = 1u8 << direction as u8;
        if prefix.hash().is_some() {
            self.prefix_complete.fetch_or(bit, Relaxed);
        } else if prefix.missed() {
            self.prefix_complete.fetch_or(bit << MISSED, Relaxed);
        } else if prefix.keeps() {
            self.prefix_complete.fetch_or(KEPT, Relaxed);
        }
    }

    /// Called when N is known: the bytes that were kept until now may be a whole prefix.
    pub(crate) fn settle_prefixes(&self, n: u32) {
        if self.prefix_complete.load(Relaxed) & KEPT == 0 {
            return;
        }
        self.prefix_complete.fetch_and(!KEPT, Relaxed);
        // A signal handler that interrupted a call on the endpoint leaves this to that call.
        let (Some(mut rx), Some(mut tx)) = (self.lock_rx(), self.lock_tx()) else {
            self.prefix_complete.fetch_or(KEPT, Relaxed);
            return;
        };
        rx.prefix.feed(&[], n);
        self.prefix_moved(Direction::Received, &rx.prefix);
        tx.prefix.feed(&[], n);
        self.prefix_moved(Direction::Sent, &tx.prefix);
    }

    /// Whether a prefix is complete that was not yet reported to ipcd on this connection.
    pub(crate) fn has_news(&self, connection: u32) -> bool {
        let complete = self.prefix_complete.load(Relaxed) & 0b11;
        complete & !self.told.load(Relaxed) != 0 || complete != 0 && self.told_on.load(Relaxed) != connection
    }

    /// Counts `n` bytes that one call has moved.
    pub(crate) fn moved(&self, direction: Direction, n: u64) {
        if self.phase() > Phase::Waiting {
            return;
        }
        self.bytes.fetch_add(n + (1 << CALLS), Relaxed);
        let (turns, now) = (self.turns.load(Relaxed), 1 + direction as u32);
        if turns & 3 != now {
            self.turns.store((turns & !3).wrapping_add(4) | now, Relaxed);
        }
    }

    /// Whether the connection has been in use for so long that it is worth moving. Both ends count the same: the bytes are
    /// the same, and so are the changes of direction, if the programs answer each other.
    pub(crate) fn is_worth_moving(&self, patience: u32) -> bool {
        let (_, bytes) = self.calls_and_bytes();
        self.turns.load(Relaxed) / 4 >= patience || bytes / BYTES_OF_A_TURN >= u64::from(patience)
    }

    /// Whether the connection is worth moving for its bytes alone, and the program wrote fewer than `small` at a time. Only
    /// the end that writes can tell: the other one does not see the sizes of the writes.
    pub(crate) fn writes_little(&self, patience: u32, small: u32) -> bool {
        let turns = self.turns.load(Relaxed);
        let (calls, bytes) = self.calls_and_bytes();
        let one_way = turns / 4 < patience && turns & 3 == 1 + Direction::Sent as u32;
        one_way && bytes < calls * u64::from(small)
    }

    /// Whether the program has written at least so many bytes, and read none.
    pub(crate) fn has_only_written(&self, least: u64) -> bool {
        let turns = self.turns.load(Relaxed);
        turns / 4 <= 1 && turns & 3 == 1 + Direction::Sent as u32 && self.calls_and_bytes().1 >= least
    }

    fn calls_and_bytes(&self) -> (u64, u64) {
        let both = self.bytes.load(Relaxed);
        (both >> CALLS, both & ((1 << CALLS) - 1))
    }

    /// Notes why the endpoint stays on TCP.
    pub(crate) fn note_reason(&self, reason: Reason) {
        self.reason.store(reason as u8, Relaxed);
    }

    /// Keeps an endpoint on TCP because its counts are wrong, without a report to ipcd.
    pub(crate) fn spoil(&self) {
        self.note_reason(Reason::Reentered);
        for phase in [Phase::Connecting, Phase::Tracking, Phase::Waiting] {
            if self.advance(phase, Phase::Stay) {
                return;
            }
        }
    }

    /// Whether there will never be anything to report to ipcd: the prefixes of both directions are lost.
    pub(crate) fn is_unknowable(&self) -> bool {
        self.prefix_complete.load(Relaxed) & !KEPT == 0b11 << MISSED
    }

    fn note(&self, mask: u8, bits: u8) -> bool {
        if self.sides.load(Relaxed) & mask == bits {
            return false;
        }
        let _ = self.sides.fetch_update(SeqCst, SeqCst, |old| Some(old & !mask | bits));
        true
    }

    pub(crate) fn birth(&self) -> Birth {
        let role = if self.role.load(Relaxed) == Role::Connected as u8 { Role::Connected } else { Role::Accepted };
        Birth { cookie: self.cookie.load(Relaxed), role, at: self.born.load(Relaxed) }
    }

    /// Called before the endpoint leaves Connecting. A second thread that opens the same socket at the same moment writes
    /// the same facts, those of the one kernel socket.
    fn is_born(&self, birth: Birth) {
        self.cookie.store(birth.cookie, Relaxed);
        self.born.store(birth.at, Relaxed);
        self.role.store(birth.role as u8, Relaxed);
    }

    /// The hash of a direction, if it is complete.
    pub(crate) fn hash(&self, direction: Direction) -> Option<matcher::wire::Hash> {
        match direction {
            Direction::Sent => self.lock_tx()?.prefix.hash(),
            Direction::Received => self.lock_rx()?.prefix.hash(),
        }
    }

    /// Records the endpoint's cookie, role and time, once, and starts tracking.
    pub(crate) fn open(&self, birth: Birth) -> bool {
        if self.phase() != Phase::Connecting {
            return false;
        }
        self.is_born(birth);
        self.advance(Phase::Connecting, Phase::Tracking)
    }

    /// Makes the endpoint final from the beginning: another process has moved it to the new socket, and passed that to this
    /// process. False if the endpoint is not Connecting any more.
    pub(crate) fn receive(&self, birth: Birth, known: impl FnOnce()) -> bool {
        let (Some(mut rx), Some(mut tx)) = (self.lock_rx(), self.lock_tx()) else { return false };
        if self.phase() != Phase::Connecting {
            return false;
        }
        (rx.state, tx.state) = (Receiver::MOVED, Sender::MOVED);
        self.note_rx(&rx.state);
        self.note_tx(&tx.state);
        self.wrote.raise();
        // The process that passed the socket may still have it.
        self.handed.raise();
        known();
        self.is_born(birth);
        self.phase.receive()
    }

    /// Turns the memory into a new endpoint, which no other thread knows yet.
    pub(crate) fn reset(&self) {
        self.generation.fetch_add(1, Relaxed);
        self.prefix_complete.store(0, Relaxed);
        self.told.store(0, Relaxed);
        self.sides.store(sides::CONTROL, Relaxed);
        self.told_on.store(0, Relaxed);
        self.turns.store(0, Relaxed);
        self.wrote.lower();
        self.handed.lower();
        self.bytes.store(0, Relaxed);
        self.reason.store(0, Relaxed);
        self.connect_began.store(0, Relaxed);
        self.deaf_writers.store(0, Relaxed);
        self.rx.reset(Receiver::NEW);
        self.tx.reset(Sender::NEW);
    }

    /// From now on other threads may know the endpoint.
    pub(crate) fn begin(&self) {
        self.phase.begin();
    }

    /// How often the endpoint's memory was used before.
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Relaxed)
    }

    /// Frees the locks that threads of this process held before exec. Those threads are gone, and the bytes that they were
    /// moving are not counted.
    pub(crate) fn free_own_locks(&self) {
        self.rx.free_own_lock();
        self.tx.free_own_lock();
    }
}
