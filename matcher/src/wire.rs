//! What libipc and ipcd say to each other, one message per SOCK_SEQPACKET record, little-endian, fixed sizes.
//!
//! Every record starts with a one-byte tag. Decoding is total: any byte string gives a message or an [`Error`], and
//! bytes left over are an error too. Nothing here allocates, so the same code runs inside a host program.
//!
//! Endpoints are named by their socket cookie (`SO_COOKIE`, socket(7)): unique on the host until reboot, and checked
//! by ipcd against the socket itself. The `token` is the sender's own handle, echoed and never interpreted.

use crate::addr::{Addr, Tuple};
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
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Role {
    /// It called connect.
    Connected = 0,
    /// accept returned it.
    Accepted = 1,
}

/// A direction as its endpoint sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Direction {
    /// Bytes that this endpoint writes.
    Sent = 0,
    /// Bytes that this endpoint reads.
    Received = 1,
}

impl Direction {
    /// By direction, with nothing for the other one.
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

/// What a process says of a connection when connect succeeds or accept returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// `SO_COOKIE` of the socket.
    pub cookie: u64,
    /// The sender's handle.
    pub token: u64,
    /// Who connected.
    pub role: Role,
    /// The four-tuple.
    pub tuple: Tuple,
    /// CLOCK_MONOTONIC nanoseconds when connect was first called; of an accepted endpoint the same as `opened`.
    pub began: u64,
    /// CLOCK_MONOTONIC nanoseconds when accept returned; of a connected endpoint the same as `began`.
    pub opened: u64,
}

/// What a process asks of ipcd's knowledge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Query {
    /// Every endpoint and stream.
    List = 0,
    /// Counters.
    Stats = 1,
}

/// From libipc (or the command line) to ipcd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ToDaemon {
    /// First on every connection of a shim.
    Hello {
        /// [`VERSION`] of the sender.
        version: u16,
        /// The program's name (the last path component of its executable), zero-padded UTF-8 or any bytes.
        name: [u8; NAME_LEN],
    },
    /// A new endpoint.
    Opened(Opened),
    /// An endpoint with the socket itself (SCM_RIGHTS), which proves that the sender has it, and what is known of its
    /// bytes.
    Offer {
        /// What [`ToDaemon::Opened`] says, or said.
        opened: Opened,
        /// SHA-256 of the first N bytes of each [`Direction`], where there are so many.
        hashes: [Option<Hash>; 2],
    },
    /// The first N bytes of one direction of an endpoint that was offered without them.
    Prefix {
        /// The endpoint.
        cookie: u64,
        /// Which bytes.
        direction: Direction,
        /// SHA-256 of the first N of them.
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
    /// Both directions left TCP and the descriptor is the new socket. Says again where they left it: the reports
    /// before this one are dropped when ipcd does not keep up.
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
    /// The program closed its last descriptor of the endpoint, which a process that it forked or executed still has.
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
    /// The program passes the descriptor, which is the new socket, to another process; carries the TCP socket (SCM_RIGHTS)
    /// for whoever receives it.
    Deposit {
        /// The endpoint.
        cookie: u64,
    },
    /// The program has received a descriptor from another process; carries it (SCM_RIGHTS), which may be a new socket. The
    /// answer is Passed or Refuse.
    Received {
        /// The sender's handle.
        token: u64,
    },
    /// Asked by the command line; no Hello before it.
    Query(Query),
}

/// Why ipcd ends a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ErrorCode {
    /// The record could not be read.
    Malformed = 1,
    /// Another [`VERSION`].
    Version = 2,
    /// A message that may not come at this point (no Hello, a second Hello, a descriptor that does not belong to it).
    Unexpected = 3,
    /// More endpoints or connections than the limits allow.
    Limit = 4,
}

/// Which connections a process offers, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// N: how many bytes of each direction are hashed, 1 to [`MAX_PREFIX`].
    pub prefix_bytes: u32,
    /// How many changes of direction a connection shows before it is offered, or as many times 16 KiB; 0: at once.
    pub patience: u32,
    /// A connection that was worth moving for its bytes alone stays if the program wrote fewer at a time; 0: none does.
    pub small_writes: u32,
}

/// From ipcd to libipc (or the command line).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ToShim {
    /// Answers Hello; carries the page of [`GRANT_PAGE_LEN`] bytes (SCM_RIGHTS, a sealed memfd).
    Welcome(Terms),
    /// The endpoint is paired; carries its end of the new socketpair.
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
        /// The token of the question.
        token: u64,
        /// The endpoint.
        cookie: u64,
        /// Who connected.
        role: Role,
        /// CLOCK_MONOTONIC nanoseconds when connect was first called, or when accept returned.
        began: u64,
    },
    /// Answers Query; carries a memfd that holds the JSON answer from offset 0.
    Answer {
        /// Bytes of JSON in the memfd.
        len: u64,
    },
    /// Last word before ipcd closes the connection.
    Error {
        /// Why.
        code: ErrorCode,
    },
}

/// The layout of the page that ipcd shares with one shim: a count of the records it has sent, so that the shim need
/// not make a system call to learn that there is nothing to read. One `u32` at offset 0, written only by ipcd.
pub const GRANT_PAGE_LEN: usize = 4096;

/// An encoded record.
#[derive(Clone, Copy)]
pub struct Record {
    bytes: [u8; MAX_MESSAGE],
    len: usize,
}

impl Record {
    fn new(tag: u8) -> Record {
        let mut r = Record { bytes: [0; MAX_MESSAGE], len: 0 };
        r.put(&[tag]);
        r
    }

    fn put(&mut self, field: &[u8]) -> &mut Self {
        for (to, from) in self.bytes.iter_mut().skip(self.len).zip(field) {
            *to = *from;
        }
        self.len += field.len();
        self
    }

    fn u32(&mut self, v: u32) -> &mut Self {
        self.put(&v.to_le_bytes())
    }

    fn u64(&mut self, v: u64) -> &mut Self {
        self.put(&v.to_le_bytes())
    }

    fn addr(&mut self, a: &Addr) -> &mut Self {
        self.put(&a.ip).put(&a.port.to_le_bytes())
    }

    fn opened(&mut self, o: &Opened) -> &mut Self {
        let role = [o.role as u8];
        self.u64(o.cookie).u64(o.token).put(&role).addr(&o.tuple.local).addr(&o.tuple.peer).u64(o.began).u64(o.opened)
    }

    fn hash(&mut self, hash: &Option<Hash>) -> &mut Self {
        match hash {
            Some(hash) => self.put(&[1]).put(hash),
            None => self.put(&[0]),
        }
    }

    /// The bytes to send as one record.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}

/// Reads fields off the front of a record.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const L: usize>(&mut self) -> Result<[u8; L], Error> {
        let (head, rest) = self.0.split_first_chunk::<L>().ok_or(Error::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Error> {
        Ok(self.take::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, Error> {
        Ok(u16::from_le_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn addr(&mut self) -> Result<Addr, Error> {
        Ok(Addr { ip: self.take()?, port: self.u16()? })
    }

    fn direction(&mut self) -> Result<Direction, Error> {
        match self.u8()? {
            0 => Ok(Direction::Sent),
            1 => Ok(Direction::Received),
            _ => Err(Error::BadField("direction")),
        }
    }

    fn role(&mut self) -> Result<Role, Error> {
        match self.u8()? {
            0 => Ok(Role::Connected),
            1 => Ok(Role::Accepted),
            _ => Err(Error::BadField("role")),
        }
    }

    fn reason(&mut self) -> Result<Reason, Error> {
        Reason::from_code(self.u8()?).ok_or(Error::BadField("reason"))
    }

    fn opened(&mut self) -> Result<Opened, Error> {
        Ok(Opened {
            cookie: self.u64()?,
            token: self.u64()?,
            role: self.role()?,
            tuple: Tuple { local: self.addr()?, peer: self.addr()? },
            began: self.u64()?,
            opened: self.u64()?,
        })
    }

    fn hash(&mut self) -> Result<Option<Hash>, Error> {
        match self.u8()? {
            0 => Ok(None),
            1 => Ok(Some(self.take()?)),
            _ => Err(Error::BadField("hash")),
        }
    }

    fn end<T>(self, message: T) -> Result<T, Error> {
        if self.0.is_empty() { Ok(message) } else { Err(Error::TooLong) }
    }
}

impl ToDaemon {
    /// Whether a descriptor belongs to the message (SCM_RIGHTS).
    pub fn carries_descriptor(&self) -> bool {
        use ToDaemon::*;
        matches!(self, Offer { .. } | Returned { .. } | Deposit { .. } | Received { .. })
    }

    /// The record that says this.
    pub fn encode(&self) -> Record {
        match self {
            ToDaemon::Hello { version, name } => *Record::new(1).put(&version.to_le_bytes()).put(name),
            ToDaemon::Opened(opened) => *Record::new(2).opened(opened),
            ToDaemon::Offer { opened, hashes: [sent, received] } => {
                *Record::new(11).opened(opened).hash(sent).hash(received)
            }
            ToDaemon::Prefix { cookie, direction, hash } => {
                *Record::new(3).u64(*cookie).put(&[*direction as u8]).put(hash)
            }
            ToDaemon::Adopted { cookie } => *Record::new(4).u64(*cookie),
            ToDaemon::Switched { cookie, direction, offset } => {
                *Record::new(5).u64(*cookie).put(&[*direction as u8]).u64(*offset)
            }
            ToDaemon::Final { cookie, at, sent, received } => {
                *Record::new(6).u64(*cookie).u64(*at).u64(*sent).u64(*received)
            }
            ToDaemon::Stayed { cookie, reason } => *Record::new(7).u64(*cookie).put(&[*reason as u8]),
            ToDaemon::Closed { cookie } => *Record::new(8).u64(*cookie),
            ToDaemon::Left { cookie } => *Record::new(10).u64(*cookie),
            ToDaemon::Returned { cookie } => *Record::new(12).u64(*cookie),
            ToDaemon::Deposit { cookie } => *Record::new(13).u64(*cookie),
            ToDaemon::Received { token } => *Record::new(14).u64(*token),
            ToDaemon::Query(q) => *Record::new(9).put(&[*q as u8]),
        }
    }

    /// Reads one record.
    pub fn decode(record: &[u8]) -> Result<ToDaemon, Error> {
        let mut r = Reader(record);
        let message = match r.u8()? {
            1 => ToDaemon::Hello { version: r.u16()?, name: r.take()? },
            2 => ToDaemon::Opened(r.opened()?),
            3 => ToDaemon::Prefix { cookie: r.u64()?, direction: r.direction()?, hash: r.take()? },
            4 => ToDaemon::Adopted { cookie: r.u64()? },
            5 => ToDaemon::Switched { cookie: r.u64()?, direction: r.direction()?, offset: r.u64()? },
            6 => ToDaemon::Final { cookie: r.u64()?, at: r.u64()?, sent: r.u64()?, received: r.u64()? },
            7 => ToDaemon::Stayed { cookie: r.u64()?, reason: r.reason()? },
            8 => ToDaemon::Closed { cookie: r.u64()? },
            9 => ToDaemon::Query(match r.u8()? {
                0 => Query::List,
                1 => Query::Stats,
                _ => return Err(Error::BadField("query")),
            }),
            10 => ToDaemon::Left { cookie: r.u64()? },
            11 => ToDaemon::Offer { opened: r.opened()?, hashes: [r.hash()?, r.hash()?] },
            12 => ToDaemon::Returned { cookie: r.u64()? },
            13 => ToDaemon::Deposit { cookie: r.u64()? },
            14 => ToDaemon::Received { token: r.u64()? },
            tag => return Err(Error::UnknownTag(tag)),
        };
        r.end(message)
    }
}

impl ToShim {
    /// The record that says this.
    pub fn encode(&self) -> Record {
        match self {
            ToShim::Welcome(t) => *Record::new(129).u32(t.prefix_bytes).u32(t.patience).u32(t.small_writes),
            ToShim::Grant { cookie, token } => *Record::new(130).u64(*cookie).u64(*token),
            ToShim::Refuse { cookie, token, reason } => {
                *Record::new(131).u64(*cookie).u64(*token).put(&[*reason as u8])
            }
            ToShim::Passed { token, cookie, role, began } => {
                *Record::new(134).u64(*token).u64(*cookie).put(&[*role as u8]).u64(*began)
            }
            ToShim::Answer { len } => *Record::new(132).u64(*len),
            ToShim::Error { code } => *Record::new(133).put(&[*code as u8]),
        }
    }

    /// Reads one record.
    pub fn decode(record: &[u8]) -> Result<ToShim, Error> {
        let mut r = Reader(record);
        let message = match r.u8()? {
            129 => {
                let terms = Terms { prefix_bytes: r.u32()?, patience: r.u32()?, small_writes: r.u32()? };
                if terms.prefix_bytes == 0 || terms.prefix_bytes > MAX_PREFIX {
                    return Err(Error::BadField("prefix_bytes"));
                }
                ToShim::Welcome(terms)
            }
            130 => ToShim::Grant { cookie: r.u64()?, token: r.u64()? },
            134 => ToShim::Passed { token: r.u64()?, cookie: r.u64()?, role: r.role()?, began: r.u64()? },
            131 => ToShim::Refuse { cookie: r.u64()?, token: r.u64()?, reason: r.reason()? },
            132 => ToShim::Answer { len: r.u64()? },
            133 => ToShim::Error {
                code: match r.u8()? {
                    1 => ErrorCode::Malformed,
                    2 => ErrorCode::Version,
                    3 => ErrorCode::Unexpected,
                    4 => ErrorCode::Limit,
                    _ => return Err(Error::BadField("code")),
                },
            },
            tag => return Err(Error::UnknownTag(tag)),
        };
        r.end(message)
    }
}
