//! What ipcd knows of one endpoint beyond what the matcher needs: who has it, and how far it came.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use matcher::addr::Tuple;
use matcher::reason::Reason;
use matcher::wire::{Direction, Opened, Role};

use crate::serve::owner::{Owner, SessionId};

/// How far an endpoint came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum State {
    /// Reported, no bytes known.
    Opened,
    /// Its first bytes are known, its peer is not.
    Waiting,
    /// It has a peer and was sent its end of the new transport.
    Granted,
    /// It watches both transports.
    Dual,
    /// It is the new transport.
    Final,
    /// It is on TCP for ever.
    Stay,
}

impl State {
    /// The word that the command line shows.
    pub fn word(self) -> &'static str {
        match self {
            State::Opened => "opened",
            State::Waiting => "waiting",
            State::Granted => "granted",
            State::Dual => "dual",
            State::Final => "final",
            State::Stay => "stay",
        }
    }
}

/// One session's word that it has the endpoint.
#[derive(Debug)]
pub struct Claim {
    /// Who.
    pub session: SessionId,
    /// What it says.
    pub opened: Opened,
    /// Whether it passed the socket itself.
    pub proven: bool,
    /// Whether it has left the endpoint to another process, of which nothing was heard yet.
    pub left: bool,
}

impl Claim {
    /// A claim that nothing supports yet.
    pub fn new(session: SessionId, opened: &Opened) -> Claim {
        Claim { session, opened: *opened, proven: false, left: false }
    }
}

/// One endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// Every session that has it; most of the time one, more after fork.
    pub claims: Vec<Claim>,
    /// The session that is sent the grant: the last that proved possession before it.
    pub speaker: Option<SessionId>,
    /// Whether anybody ever proved possession.
    pub verified: bool,
    /// Who has it, or had it.
    pub owner: Rc<Owner>,
    /// Who connected.
    pub role: Role,
    /// The four-tuple.
    pub tuple: Tuple,
    /// The network namespace, 0 while unknown.
    pub netns: u64,
    /// When connect was first called, or when accept returned.
    pub began: u64,
    /// When the first prefix came.
    pub prefixed: Option<u64>,
    /// How far it came.
    pub state: State,
    /// Why it stays.
    pub reason: Option<Reason>,
    /// The other end.
    pub peer: Option<u64>,
    /// Its end of the new transport, as long as nobody was sent it: before the grant, and when it was returned.
    pub end: Option<OwnedFd>,
    /// `SO_COOKIE` of that end.
    pub end_cookie: Option<u64>,
    /// The TCP socket, for whoever receives the new one from another process (`handover`).
    pub deposit: Option<OwnedFd>,
    /// Who has received it and waits for that: session and token.
    pub receivers: Vec<(SessionId, u64)>,
    /// Bytes that went over TCP in each direction, once it switched.
    pub offsets: [Option<u64>; 2],
    /// When it was final.
    pub finished: Option<u64>,
    /// When nobody had it any more. It is kept while its peer lives.
    pub ended: Option<u64>,
}

impl Endpoint {
    /// An endpoint that one session claims.
    pub fn new(session: SessionId, owner: Rc<Owner>, opened: &Opened) -> Endpoint {
        Endpoint {
            claims: vec![Claim::new(session, opened)],
            speaker: None,
            verified: false,
            owner,
            role: opened.role,
            tuple: opened.tuple,
            netns: 0,
            began: opened.began,
            prefixed: None,
            state: State::Opened,
            reason: None,
            peer: None,
            end: None,
            end_cookie: None,
            deposit: None,
            receivers: Vec::new(),
            offsets: [None; 2],
            finished: None,
            ended: None,
        }
    }

    /// What one session says of it.
    pub fn claim(&mut self, session: SessionId) -> Option<&mut Claim> {
        self.claims.iter_mut().find(|c| c.session == session)
    }

    /// Whether this session has passed the socket itself.
    pub fn has_proved(&self, session: SessionId) -> bool {
        self.claims.iter().any(|c| c.session == session && c.proven)
    }

    /// Whether this session may say that it stays: who has proved possession, or while nobody has the only one there is.
    pub fn heeds(&self, session: SessionId) -> bool {
        let alone = || self.claims.iter().all(|c| c.left || c.session == session);
        self.has_proved(session) || !self.verified && alone()
    }

    /// The one who left it last, if everybody has left it to processes of which nothing was heard.
    pub fn deserted_by(&self) -> Option<SessionId> {
        self.claims.last().filter(|_| self.claims.iter().all(|c| c.left)).map(|c| c.session)
    }

    /// Notes that the new transport was taken up.
    pub fn adopted(&mut self) {
        self.state = self.state.max(State::Dual);
        self.end = None;
    }

    /// Notes that a direction left TCP.
    pub fn switched(&mut self, direction: Direction, offset: u64) {
        self.adopted();
        self.offsets[direction as usize] = Some(offset);
    }
}
