//! The switch of one endpoint: pure state, no descriptor, no clock, no lock. `docs/switch.md` explains the rules;
//! `switch/state/explore.rs` visits every interleaving of small runs of exactly this code.
//!
//! ```text
//!                 N-th byte          grant, HELLO        both directions on Unix
//!   Connecting ─► Tracking ─► Waiting ─► Dual ───────────► Final
//!        │           │           │        │ the new transport ended without a SWITCH,
//!        └───────────┴───────────┴────────┴─► Stay        or was taken back, and this side is on TCP
//! ```
//!
//! Each direction leaves TCP at an offset that its sender chooses. On the new transport a side first says HELLO ("from
//! now on I watch both"), then, after it has seen the peer's HELLO, SWITCH(S) ("S bytes of mine are on TCP"), and then
//! only bytes of the application.

/// Which of the two sockets a direction is on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Transport {
    /// The TCP socket that the program made.
    Tcp,
    /// The Unix-domain socket that ipcd granted.
    Unix,
}

impl Transport {
    /// Whether the kernel alone serves a stream that has both directions on this transport: the transport's socket takes
    /// the program's number. Otherwise the calls on a final stream still pass through the shim.
    pub(crate) fn is_native(self) -> bool {
        match self {
            Transport::Tcp | Transport::Unix => true,
        }
    }
}

/// The life of an endpoint. The order matters: everything below [`Phase::Dual`] may still [`Phase::Stay`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub(crate) enum Phase {
    /// A TCP socket without a peer: just made, or connecting.
    Connecting = 0,
    /// Connected; counting and hashing.
    Tracking = 1,
    /// A prefix was sent to ipcd; a grant may come.
    Waiting = 2,
    /// The grant is being adopted: both locks are held, no byte moves.
    Adopting = 3,
    /// HELLO was sent: every wait watches both transports.
    Dual = 4,
    /// Both directions are on the new transport.
    Final = 5,
    /// On TCP for ever.
    Stay = 6,
}

impl Phase {
    /// The phase with this code (codes come only from stored phases).
    pub(crate) fn from_code(code: u8) -> Phase {
        match code {
            0 => Phase::Connecting,
            1 => Phase::Tracking,
            2 => Phase::Waiting,
            3 => Phase::Adopting,
            4 => Phase::Dual,
            5 => Phase::Final,
            _ => Phase::Stay,
        }
    }

    /// Whether `next` may follow this phase.
    pub(crate) fn may_become(self, next: Phase) -> bool {
        use Phase::*;
        matches!(
            (self, next),
            (Connecting, Tracking | Stay)
                | (Tracking, Waiting | Stay)
                | (Waiting, Adopting | Stay)
                | (Adopting, Waiting | Dual | Stay)
                | (Dual, Final | Stay)
        )
    }
}

/// A control message: what a side sends on the new transport before the first byte of the application.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Control {
    /// "Every wait of mine watches both transports."
    Hello,
    /// "This many bytes of mine are on TCP; what follows here comes after them."
    Switch(u64),
}

/// Bytes of an encoded [`Control`].
pub(crate) const CONTROL_LEN: usize = 16;
const HELLO: [u8; 8] = *b"ipcHELLO";
const SWITCH: [u8; 8] = *b"ipcSWTCH";

impl Control {
    /// The bytes to send: a word of eight bytes, then S in little-endian (0 for HELLO).
    pub(crate) fn encode(self) -> [u8; CONTROL_LEN] {
        let (word, s) = match self {
            Control::Hello => (HELLO, 0),
            Control::Switch(s) => (SWITCH, s),
        };
        let mut out = [0; CONTROL_LEN];
        for (to, from) in out.iter_mut().zip(word.iter().chain(&s.to_le_bytes())) {
            *to = *from;
        }
        out
    }

    /// The message in these bytes, if they are one.
    pub(crate) fn decode(bytes: &[u8; CONTROL_LEN]) -> Option<Control> {
        let (word, s) = bytes.split_first_chunk::<8>()?;
        let s = u64::from_le_bytes(*s.first_chunk()?);
        match *word {
            HELLO if s == 0 => Some(Control::Hello),
            SWITCH => Some(Control::Switch(s)),
            _ => None,
        }
    }
}

/// The peer broke the protocol: the new transport cannot be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Violation;

/// The sending direction. Guarded by the endpoint's send lock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Sender {
    /// Where the next byte goes.
    pub on: Transport,
    /// Bytes written to TCP.
    pub written: u64,
    /// The program shut its writing half.
    pub shut: bool,
    /// This direction must not leave TCP any more (urgent data, bytes written past the hooks, a promise taken back, a new
    /// transport that has ended).
    pub barred: bool,
    /// Bytes of the application were written to the new transport.
    pub used: bool,
}

impl Sender {
    /// Nothing written, on TCP.
    pub(crate) const NEW: Sender = Sender { on: Transport::Tcp, written: 0, shut: false, barred: false, used: false };

    /// Another process has moved the direction, and may have written to the new transport.
    pub(crate) const MOVED: Sender = Sender { on: Transport::Unix, used: true, ..Sender::NEW };

    /// Leaves TCP, if the promise of the peer allows it. Returns the SWITCH, which must be sent before any byte of the
    /// application and, if the program has shut its writing half already, before the new transport is shut.
    #[must_use]
    pub(crate) fn leave(&mut self, peer_promised: bool) -> Option<Control> {
        if self.on != Transport::Tcp || !peer_promised || self.barred {
            return None;
        }
        self.on = Transport::Unix;
        Some(Control::Switch(self.written))
    }

    /// The new transport accepts no more bytes: all that follow go to TCP, for ever.
    pub(crate) fn returns(&mut self) {
        self.on = Transport::Tcp;
        self.barred = true;
    }

    /// Takes over how many bytes were written to TCP by the kernel's count: a process died before it had counted its own.
    pub(crate) fn recount(&mut self, written: u64) {
        if self.on == Transport::Tcp {
            self.written = written;
        }
    }

    /// `n` bytes of the application were written to the transport that the direction is on.
    pub(crate) fn wrote(&mut self, n: u64) {
        match self.on {
            Transport::Tcp => self.written = self.written.wrapping_add(n),
            Transport::Unix => self.used |= n > 0,
        }
    }
}

/// The receiving direction. Guarded by the endpoint's receive lock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Receiver {
    /// Where the next byte comes from.
    pub on: Transport,
    /// Bytes read from TCP.
    pub read: u64,
    /// The peer's HELLO was seen.
    pub promised: bool,
    /// The peer's offset, once its SWITCH was seen.
    pub leaves_at: Option<u64>,
    /// The new transport ended before a SWITCH, or was taken back: the direction is on TCP, for ever.
    pub ended: bool,
    /// Bytes of the application were read from the new transport.
    pub used: bool,
    /// This side has shut the new transport's reading half: its end is not the end of the stream.
    pub closed: bool,
}

impl Receiver {
    /// Nothing read, on TCP.
    pub(crate) const NEW: Receiver = Receiver {
        on: Transport::Tcp,
        read: 0,
        promised: false,
        leaves_at: None,
        ended: false,
        used: false,
        closed: false,
    };

    /// Another process has moved the direction, and may have read from the new transport.
    pub(crate) const MOVED: Receiver =
        Receiver { on: Transport::Unix, promised: true, leaves_at: Some(0), used: true, ..Receiver::NEW };

    /// Whether control messages are still expected on the new transport: the next bytes on it are not for the application.
    pub(crate) fn expects_control(&self) -> bool {
        self.leaves_at.is_none() && !self.ended
    }

    /// Takes a control message of the peer.
    pub(crate) fn heard(&mut self, message: Control) -> Result<(), Violation> {
        match message {
            Control::Hello if !self.promised => self.promised = true,
            Control::Switch(s) if self.promised && self.leaves_at.is_none() && s >= self.read => {
                self.leaves_at = Some(s);
                self.settle();
            }
            _ => return Err(Violation),
        }
        Ok(())
    }

    /// The new transport ended before a SWITCH was heard, cannot be trusted, or was taken back: what follows is on TCP.
    pub(crate) fn lost(&mut self) {
        self.ended = true;
        self.on = Transport::Tcp;
        self.leaves_at = None;
    }

    /// Whether the end of the new transport is not the end of the stream: this side has shut it, or the peer has taken its
    /// promise back after its SWITCH. The peer does that only before its first byte there and only if this side has not left
    /// TCP; then TCP goes on, because a side that ends the stream ends TCP first.
    pub(crate) fn is_taken_back(&self, tx: Transport, tcp_is_over: impl FnOnce() -> bool) -> bool {
        self.on == Transport::Unix && (self.closed || (!self.used && tx == Transport::Tcp && !tcp_is_over()))
    }

    /// How many bytes may be read from TCP; `None` while the peer's offset is not known: every byte there is below it.
    pub(crate) fn left_on_tcp(&self) -> Option<u64> {
        self.leaves_at.map(|s| s.saturating_sub(self.read))
    }

    /// `n` bytes of the application were read from the transport that the direction is on.
    pub(crate) fn took(&mut self, n: u64) {
        match self.on {
            Transport::Tcp => {
                self.read = self.read.wrapping_add(n);
                self.settle();
            }
            Transport::Unix => self.used |= n > 0,
        }
    }

    /// Takes over how many bytes were read from TCP by the kernel's count: a process died before it had counted its own.
    pub(crate) fn recount(&mut self, read: u64) {
        if self.on == Transport::Tcp {
            self.read = read;
            self.settle();
        }
    }

    fn settle(&mut self) {
        if self.leaves_at.is_some_and(|s| self.read >= s) {
            self.on = Transport::Unix;
        }
    }
}

/// Both directions are on the new transport and TCP is drained.
pub(crate) fn is_final(tx: &Sender, rx: &Receiver) -> bool {
    tx.on == Transport::Unix && rx.on == Transport::Unix && !rx.closed
}

/// After the new transport ended: whether the stream can go on over TCP as if there had been no switch.
pub(crate) fn may_fall_back(tx: &Sender, rx: &Receiver) -> bool {
    rx.ended && rx.on == Transport::Tcp && tx.on == Transport::Tcp
}

/// Whether this side can take its promise back, as far as it knows. `waiting`: bytes of the application lie on the new
/// transport.
pub(crate) fn may_retract(tx: &Sender, rx: &Receiver, waiting: bool) -> bool {
    let peer_left = rx.leaves_at.is_some();
    let moved = tx.used || rx.used || waiting;
    !(moved || peer_left && tx.on == Transport::Unix)
}

/// Takes the promise back, after the new transport's reading half was shut and the peer's last messages were heard: true
/// if the stream is on TCP again. Otherwise the peer left TCP at the last moment: this side reads the bytes that the peer
/// has written to the new transport, and then TCP again.
#[must_use]
pub(crate) fn retract(tx: &mut Sender, rx: &mut Receiver, waiting: bool) -> bool {
    if !may_retract(tx, rx, waiting) {
        rx.closed = true;
        tx.barred = true;
        return false;
    }
    tx.returns();
    rx.lost();
    true
}

#[cfg(test)]
mod explore;
#[cfg(test)]
mod tests;
