//! The messages and their fields.

use num_enum::TryFromPrimitive;

use crate::addr::Tuple;
use crate::reason::Reason;

/// The protocol spoken here. A peer with another version is refused with [`ErrorCode::Version`].
pub const VERSION: u16 = 5;
/// No record is longer than this many bytes.
pub const MAX_MESSAGE: usize = 160;
/// Bytes of a direction's prefix hash (SHA-256, FIPS 180-4).
pub const HASH_LEN: usize = 32;
/// Bytes of the program name in [`ToDaemon::Hello`], zero-padded.
pub const NAME_LEN: usize = 64;
/// The largest N (prefix length in bytes) that a daemon may announce.
pub const MAX_PREFIX: u32 = 1 << 16;

/// SHA-256 of the first N bytes of one direction.
pub type Hash = [u8; HASH_LEN];

/// Why a record could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The record ends before the message does, or is empty.
    Truncated,
    /// The record is longer than its message.
    TooLong,
    /// No message has this tag.
    UnknownTag(u8),
    /// A field has a value that no sender of this version writes.
    BadField(&'static str),
}

/// Which end of the handshake an endpoint is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, TryFromPrimitive)]
#[repr(u8)]
pub enum Role {
    /// The endpoint called connect.
    Connected = 0,
    /// The endpoint was returned by accept.
    Accepted = 1,
}

/// A direction as its endpoint sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, TryFromPrimitive)]
#[repr(u8)]
pub enum Direction {
    /// Bytes that this endpoint writes.
    Sent = 0,
    /// Bytes that this endpoint reads.
    Received = 1,
}

impl Direction {
    /// An array by direction, with `None` for the other direction.
    pub fn alone<T>(self, value: T) -> [Option<T>; 2] {
        match self {
            Direction::Sent => [Some(value), None],
            Direction::Received => [None, Some(value)],
        }
    }

    /// The same bytes as the peer sees them.
    pub fn mirrored(self) -> Direction {
        match self {
            Direction::Sent => Direction::Received,
            Direction::Received => Direction::Sent,
        }
    }
}

/// What a process reports about a connection when connect succeeds or accept returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// `SO_COOKIE` of the socket.
    pub cookie: u64,
    /// The sender's handle.
    pub token: u64,
    /// Whether this end connected or accepted.
    pub role: Role,
    /// The four-tuple.
    pub tuple: Tuple,
    /// CLOCK_MONOTONIC nanoseconds when connect was first called; of an accepted endpoint the same as `opened`.
    pub began: u64,
    /// CLOCK_MONOTONIC nanoseconds when accept returned; of a connected endpoint the same as `began`.
    pub opened: u64,
}

/// What a process asks ipcd for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, TryFromPrimitive)]
#[repr(u8)]
pub enum Query {
    /// Every endpoint and stream.
    List = 0,
    /// Counters.
    Stats = 1,
}

/// The transports that a shim can move a connection to, a bit for each. It may know some that this version does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transports(pub u8);

impl Transports {
    /// A Unix-domain socketpair ([`ToShim::Grant`]).
    pub const UNIX: Transports = Transports(1);

    /// Whether all of the others are among these.
    pub fn contains(self, others: Transports) -> bool {
        self.0 & others.0 == others.0
    }

    /// Those that both ends know.
    pub fn common(self, other: Transports) -> Transports {
        Transports(self.0 & other.0)
    }
}

/// From libipc (or the command line) to ipcd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ToDaemon {
    /// The first message on every connection of a shim.
    Hello {
        /// [`VERSION`] of the sender.
        version: u16,
        /// The program's name (the last path component of its executable), zero-padded UTF-8 or any bytes.
        name: [u8; NAME_LEN],
        /// What the shim can move a connection to. Both ends are granted the best that both know. A record that ends before this
        /// field is from a shim that knows [`Transports::UNIX`] alone.
        transports: Transports,
    },
    /// A new endpoint.
    Opened(Opened),
    /// An endpoint with the socket itself (SCM_RIGHTS), which proves that the sender has it, and what is known of its
    /// bytes.
    Offer {
        /// The contents of [`ToDaemon::Opened`], sent before or not.
        opened: Opened,
        /// SHA-256 of the first N bytes of each [`Direction`] that has so many.
        hashes: [Option<Hash>; 2],
    },
    /// The first N bytes of one direction of an endpoint that was offered without them.
    Prefix {
        /// The endpoint.
        cookie: u64,
        /// The direction.
        direction: Direction,
        /// SHA-256 of its first N bytes.
        hash: Hash,
    },
    /// The endpoint adopted its grant and promised to watch both transports.
    Adopted {
        /// The endpoint.
        cookie: u64,
    },
    /// One direction of the endpoint left TCP.
    Switched {
        /// The endpoint.
        cookie: u64,
        /// Which direction.
        direction: Direction,
        /// Bytes of this direction that went over TCP.
        offset: u64,
    },
    /// Both directions left TCP and the descriptor is the new socket. Repeats the offsets at which they left: earlier
    /// reports are dropped when ipcd does not keep up.
    Final {
        /// The endpoint.
        cookie: u64,
        /// CLOCK_MONOTONIC nanoseconds.
        at: u64,
        /// Bytes sent over TCP.
        sent: u64,
        /// Bytes received over TCP.
        received: u64,
    },
    /// The endpoint stays on TCP.
    Stayed {
        /// The endpoint.
        cookie: u64,
        /// Why.
        reason: Reason,
    },
    /// The program closed its last descriptor of the endpoint.
    Closed {
        /// The endpoint.
        cookie: u64,
    },
    /// The program closed its last descriptor of the endpoint, but a process that it forked or executed still has one.
    Left {
        /// The endpoint.
        cookie: u64,
    },
    /// The process was granted an endpoint that it does not have any more; carries the end of the new transport
    /// (SCM_RIGHTS) for the process that has it.
    Returned {
        /// The endpoint.
        cookie: u64,
    },
    /// The program passes the descriptor, which is the new socket, to another process; carries the TCP socket
    /// (SCM_RIGHTS) for the process that receives it.
    Deposit {
        /// The endpoint.
        cookie: u64,
    },
    /// The program has received a descriptor from another process; carries this descriptor (SCM_RIGHTS), which may be a
    /// new socket. The answer is Passed or Refuse.
    Received {
        /// The sender's handle.
        token: u64,
    },
    /// Sent by the command line; no Hello before it.
    Query(Query),
}

/// Why ipcd ends a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, TryFromPrimitive)]
#[repr(u8)]
pub enum ErrorCode {
    /// The record could not be read.
    Malformed = 1,
    /// The peer has another [`VERSION`].
    Version = 2,
    /// A message that may not come at this point (no Hello, a second Hello, a descriptor that does not belong to it).
    Unexpected = 3,
    /// More endpoints or connections than the limits allow.
    Limit = 4,
}

/// The conditions under which a process offers a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// N: how many bytes of each direction are hashed, 1 to [`MAX_PREFIX`].
    pub prefix_bytes: u32,
    /// How many changes of direction a connection shows before it is offered (16 KiB count as one); 0: it is offered at
    /// once.
    pub patience: u32,
    /// A connection that was worth moving for its bytes alone stays if the program wrote fewer than this at a time; 0:
    /// none stays.
    pub small_writes: u32,
}

/// From ipcd to libipc (or the command line).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ToShim {
    /// Answers Hello; carries the page of [`GRANT_PAGE_LEN`] bytes (SCM_RIGHTS, a sealed memfd).
    Welcome(Terms),
    /// The endpoint is paired; carries its end of the new socketpair. It is the grant of [`Transports::UNIX`]: that of another
    /// transport is another message, which only a shim is sent that knows it.
    Grant {
        /// The endpoint.
        cookie: u64,
        /// The token it was opened with.
        token: u64,
    },
    /// The endpoint stays on TCP.
    Refuse {
        /// The endpoint.
        cookie: u64,
        /// The token it was opened with.
        token: u64,
        /// Why.
        reason: Reason,
    },
    /// Answers Received: the descriptor is the new socket of this endpoint. Carries the TCP socket.
    Passed {
        /// The token of the Received that this answers.
        token: u64,
        /// The endpoint.
        cookie: u64,
        /// Whether this end connected or accepted.
        role: Role,
        /// CLOCK_MONOTONIC nanoseconds when connect was first called, or when accept returned.
        began: u64,
    },
    /// Answers Query; carries a memfd that holds the JSON answer from offset 0.
    Answer {
        /// Bytes of JSON in the memfd.
        len: u64,
    },
    /// The last message before ipcd closes the connection.
    Error {
        /// Why.
        code: ErrorCode,
    },
}

/// The layout of the page that ipcd shares with one shim: a count of the records it has sent, so that the shim need
/// not make a system call to learn that there is nothing to read. One `u32` at offset 0, written only by ipcd.
pub const GRANT_PAGE_LEN: usize = 4096;
