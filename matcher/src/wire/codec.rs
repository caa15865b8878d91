//! Messages as bytes.

use super::message::*;
use crate::addr::{Addr, Tuple};
use crate::reason::Reason;

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

    /// Nothing, if it is the Unix-domain socket alone: that is what every version can read.
    fn transports(&mut self, transports: Transports) -> &mut Self {
        match transports {
            Transports::UNIX => self,
            Transports(more) => self.put(&[more]),
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
        Direction::try_from(self.u8()?).map_err(|_| Error::BadField("direction"))
    }

    fn role(&mut self) -> Result<Role, Error> {
        Role::try_from(self.u8()?).map_err(|_| Error::BadField("role"))
    }

    fn reason(&mut self) -> Result<Reason, Error> {
        Reason::from_code(self.u8()?).ok_or(Error::BadField("reason"))
    }

    fn transports(&mut self) -> Result<Transports, Error> {
        match self.0 {
            [] => Ok(Transports::UNIX),
            _ => match Transports(self.u8()?) {
                Transports::UNIX => Err(Error::BadField("transports")),
                more => Ok(more),
            },
        }
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

    /// The record of this message.
    pub fn encode(&self) -> Record {
        match self {
            ToDaemon::Hello { version, name, transports } => {
                *Record::new(1).put(&version.to_le_bytes()).put(name).transports(*transports)
            }
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
            1 => ToDaemon::Hello { version: r.u16()?, name: r.take()?, transports: r.transports()? },
            2 => ToDaemon::Opened(r.opened()?),
            3 => ToDaemon::Prefix { cookie: r.u64()?, direction: r.direction()?, hash: r.take()? },
            4 => ToDaemon::Adopted { cookie: r.u64()? },
            5 => ToDaemon::Switched { cookie: r.u64()?, direction: r.direction()?, offset: r.u64()? },
            6 => ToDaemon::Final { cookie: r.u64()?, at: r.u64()?, sent: r.u64()?, received: r.u64()? },
            7 => ToDaemon::Stayed { cookie: r.u64()?, reason: r.reason()? },
            8 => ToDaemon::Closed { cookie: r.u64()? },
            9 => ToDaemon::Query(Query::try_from(r.u8()?).map_err(|_| Error::BadField("query"))?),
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
    /// The record of this message.
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
            133 => ToShim::Error { code: ErrorCode::try_from(r.u8()?).map_err(|_| Error::BadField("code"))? },
            tag => return Err(Error::UnknownTag(tag)),
        };
        r.end(message)
    }
}
