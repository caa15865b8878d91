//! What the matcher knows of one TCP socket.

use crate::addr::Tuple;
use crate::reason::Reason;
use crate::wire::{Direction, Hash, Opened, Role};

/// What the kernel says about a socket that was passed to ipcd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// `SO_NETNS_COOKIE`, or 0 where the kernel does not have it.
    pub netns: u64,
    /// `SO_BINDTOIFINDEX`, but 0 for the loopback device, too.
    pub device: u32,
    /// getsockname and getpeername.
    pub tuple: Tuple,
    /// The first sequence numbers, if the kernel was asked for proof.
    pub sequence: Option<Sequence>,
    /// The flow hashes, read at the same moment.
    pub flow: Flow,
}

/// The sequence number of the first byte of each direction: the same at both ends. Streams between other addresses have
/// other numbers; a stream between the same addresses on another network may have the same, if it began at the same
/// moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Sequence {
    /// Of the bytes that this end sends.
    pub sent: u32,
    /// Of the bytes that this end receives.
    pub received: u32,
}

impl Sequence {
    /// The numbers of the same stream as the other end has them.
    pub fn mirrored(self) -> Sequence {
        Sequence { sent: self.received, received: self.sent }
    }
}

/// The flow hash: a random number that the kernel draws for each end, sends along with its segments inside the machine,
/// and keeps at the other end. 0 where there is none yet.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flow {
    /// This end's own.
    pub sent: u32,
    /// The one that the last segment brought.
    pub received: u32,
}

/// The decision about an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// None yet.
    Open,
    /// It has a peer.
    Paired,
    /// The matcher refused it.
    Refused(Reason),
    /// Its own process decided to leave it on TCP.
    Stayed,
}

/// One TCP socket, named by its cookie.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// `SO_COOKIE`.
    pub cookie: u64,
    /// Whether it connected or accepted.
    pub role: Role,
    /// The claimed tuple until the kernel is asked, then the kernel's.
    pub tuple: Tuple,
    /// When connect was first called, in nanoseconds; of an accepted endpoint the same as `opened`.
    pub began: u64,
    /// When accept returned; of a connected endpoint the same as `began`.
    pub opened: u64,
    /// The kernel's network namespace cookie, 0 while unknown.
    pub netns: u64,
    /// The device that it is bound to. No other socket that is bound to this device has its tuple.
    pub device: u32,
    /// The first sequence numbers, if the kernel was asked for them.
    pub sequence: Option<Sequence>,
    /// The flow hashes, read at the same moment.
    pub flow: Flow,
    /// Whether the kernel was asked at least once.
    pub known: bool,
    /// Whether a process that proved possession speaks for it now.
    pub verified: bool,
    /// The decision.
    pub phase: Phase,
    /// The endpoint that the kernel proves to be the other end ([`are_kin`](crate::candidate::are_kin)), 0 while none
    /// is known. Once set it stays: no other endpoint can be the peer, even after that one has ended.
    pub kin: u64,
    /// The time at which waiting for a peer is given up, `u64::MAX` before the first prefix.
    pub due: u64,
    hashes: [Option<Hash>; 2],
}

impl Endpoint {
    /// An endpoint that is known only by a claim.
    pub fn new(claim: &Opened) -> Endpoint {
        Endpoint {
            cookie: claim.cookie,
            role: claim.role,
            tuple: claim.tuple,
            began: claim.began,
            opened: claim.opened,
            netns: 0,
            device: 0,
            sequence: None,
            flow: Flow::default(),
            known: false,
            verified: false,
            phase: Phase::Open,
            kin: 0,
            due: u64::MAX,
            hashes: [None; 2],
        }
    }

    /// Takes over the facts from the kernel, and the claim of the process that proved possession. If a process left the
    /// endpoint on TCP before any process had proved possession, that decision is void: the process may have been a
    /// stranger.
    pub fn verify(&mut self, claim: &Opened, facts: &Facts) {
        if !self.known && self.phase == Phase::Stayed {
            self.phase = Phase::Open;
        }
        self.role = claim.role;
        self.began = claim.began;
        self.opened = claim.opened;
        self.tuple = facts.tuple;
        self.netns = facts.netns;
        self.device = facts.device;
        self.sequence = facts.sequence;
        self.flow = facts.flow;
        self.known = true;
        self.verified = true;
    }

    /// Notes the hash of one direction; the first hash that is reported is kept. True if this is the first.
    pub fn learn(&mut self, direction: Direction, hash: Hash) -> bool {
        let slot = &mut self.hashes[direction as usize];
        let news = slot.is_none();
        slot.get_or_insert(hash);
        news
    }

    /// The hash of one direction.
    pub fn hash(&self, direction: Direction) -> Option<&Hash> {
        self.hashes[direction as usize].as_ref()
    }

    /// The namespace and the device, in which no other socket has its tuple.
    pub fn home(&self) -> Option<(u64, u32)> {
        (self.netns != 0).then_some((self.netns, self.device))
    }

    /// Whether it may still be paired.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }
}
