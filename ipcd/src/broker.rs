//! Everything that ipcd knows, and what it does with a message. Nothing here waits: sockets are read and written without
//! blocking, and the matcher is a state machine.

mod claims;
pub mod endpoint;
mod grant;
mod handover;
mod pairs;
mod watch;

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use matcher::pairing::{Config as Rules, Effect, Event, Matcher};
use matcher::reason::Reason;
use matcher::wire::{Direction, ErrorCode, Role, ToDaemon, ToShim, VERSION};
use tracing::{debug, warn};

use crate::broker::endpoint::{Endpoint, State};
use crate::broker::watch::Watch;
use crate::config::Config;
use crate::fault::Fault;
use crate::kernel::closing;
use crate::kernel::verify::Verifier;
use crate::serve::owner::{Owner, SessionId};
use crate::serve::page::Page;
use crate::serve::record;
use crate::serve::session::{Link, Sent, Session};
use crate::view::metrics::Metrics;
use crate::view::rows::Row;
use crate::{fault, kernel};

/// The state of one ipcd.
pub struct Broker {
    /// What was chosen.
    pub config: Config,
    /// What was counted.
    pub metrics: Metrics,
    /// Every client that said Hello.
    pub sessions: HashMap<SessionId, Session>,
    /// Every endpoint that somebody has, and those whose peer somebody has.
    pub endpoints: HashMap<u64, Box<Endpoint>>,
    /// Which endpoint each end of a new transport was granted for, by `SO_COOKIE`.
    pub ends: HashMap<u64, u64>,
    /// The last streams that ended.
    pub ended: VecDeque<Row>,
    /// Asks the kernel about sockets.
    pub verifier: Verifier,
    /// Sockets that are asked again before they are paired.
    pub watch: Watch,
    /// Endpoints that nobody speaks for, whose peer is gone; see [`Broker::unclaim`].
    pub deserted: VecDeque<u64>,
    looked: u64,
    matcher: Matcher,
    effects: Vec<Effect>,
    leaving: Vec<SessionId>,
}

impl Broker {
    /// An ipcd that knows nobody.
    pub fn new(config: Config, verifier: Verifier) -> Broker {
        let wait_peer = u64::try_from(config.wait_peer.as_nanos()).unwrap_or(u64::MAX);
        Broker {
            metrics: Metrics::new(kernel::now()),
            matcher: Matcher::new(Rules { wait_peer, proof: verifier.proof.is_some(), ..Rules::default() }),
            verifier,
            watch: Watch::default(),
            deserted: VecDeque::new(),
            looked: 0,
            config,
            sessions: HashMap::new(),
            endpoints: HashMap::new(),
            ends: HashMap::new(),
            ended: VecDeque::new(),
            effects: Vec::new(),
            leaving: Vec::new(),
        }
    }

    /// A client says Hello. False if it is turned away.
    pub fn hello(&mut self, id: SessionId, link: &Rc<Link>, owner: Owner, version: u16) -> bool {
        if version != VERSION {
            refuse_client(link, ErrorCode::Version);
            return false;
        }
        let page = match Page::new() {
            Ok(page) if self.sessions.len() < self.config.sessions => page,
            _ => {
                self.metrics.limited += 1;
                refuse_client(link, ErrorCode::Limit);
                return false;
            }
        };
        debug!(id, program = owner.program, pid = owner.pid, "hello");
        let session = Session::new(Rc::clone(link), Rc::new(owner), page);
        if session.welcome(self.config.terms) != Sent::Yes {
            return false;
        }
        self.metrics.sessions += 1;
        self.sessions.insert(id, session);
        true
    }

    /// A client did what no client does.
    pub fn malformed(&mut self, id: SessionId, code: ErrorCode) {
        self.metrics.malformed += 1;
        if let Some(session) = self.sessions.get(&id) {
            warn!(id, program = session.owner.program, pid = session.owner.pid, ?code, "dropping a malformed client");
            refuse_client(&session.link, code);
        }
        self.leave(id);
    }

    /// A client is gone, or is made to go.
    pub fn leave(&mut self, id: SessionId) {
        self.leaving.push(id);
        self.settle();
    }

    /// A message from a client that said Hello before.
    pub fn message(&mut self, id: SessionId, message: &ToDaemon, fds: Vec<OwnedFd>) {
        let expected = fds.is_empty() || message.carries_descriptor();
        match *message {
            ToDaemon::Hello { .. } | ToDaemon::Query(_) => self.malformed(id, ErrorCode::Unexpected),
            ToDaemon::Opened(opened) => self.opened(id, &opened),
            ToDaemon::Offer { opened, hashes } => {
                self.offered(id, &opened, hashes, fds.first());
                fault::point(self.config.fault, Fault::AfterPrefix);
            }
            ToDaemon::Prefix { cookie, direction, hash } => self.prefix(id, cookie, direction, hash),
            ToDaemon::Closed { cookie } => self.closed(id, cookie),
            ToDaemon::Left { cookie } => self.left_to_kin(id, cookie),
            ToDaemon::Returned { cookie } => self.returned(cookie, fds.first()),
            ToDaemon::Deposit { cookie } => self.deposit(id, cookie, fds.first()),
            ToDaemon::Received { token } => self.received(id, token, fds.first()),
            ToDaemon::Adopted { cookie } => self.report(id, cookie, Endpoint::adopted),
            ToDaemon::Switched { cookie, direction, offset } => {
                self.report(id, cookie, |e| e.switched(direction, offset));
            }
            ToDaemon::Final { cookie, at, sent, received } => self.became_final(id, cookie, at, [sent, received]),
            ToDaemon::Stayed { cookie, reason } => self.stayed(id, cookie, reason),
        }
        if !expected {
            self.malformed(id, ErrorCode::Unexpected);
        }
        // The one who passed them is charged for closing them.
        let fair = match self.sessions.get(&id) {
            Some(session) => session.bury(fds, self.config.closing),
            None => {
                closing::bury(fds, || {});
                true
            }
        };
        if !fair {
            self.malformed(id, ErrorCode::Limit);
        }
        self.settle();
    }

    /// When [`Broker::tick`] is wanted.
    pub fn next_deadline(&self) -> Option<u64> {
        let look = self.matcher.settling().next().map(|_| self.looked + watch::EVERY);
        [self.matcher.next_deadline(), self.watch.next_deadline(), look].into_iter().flatten().min()
    }

    /// Whether a pair waits for everything that was sent to have been read.
    pub fn settles(&self) -> bool {
        self.matcher.settles(kernel::now())
    }

    /// Time passes.
    pub fn tick(&mut self) {
        self.looked = kernel::now();
        let out_of_step: Vec<_> = self.matcher.settling().filter(|(c, a)| !self.watch.in_step(*c, *a)).collect();
        for (connected, accepted) in out_of_step {
            self.tell(kernel::now(), Event::OutOfStep { connected, accepted });
        }
        self.watch.expire(self.looked);
        self.tell(kernel::now(), Event::Tick);
        self.settle();
    }

    pub(crate) fn tell(&mut self, now: u64, event: Event) {
        self.matcher.handle(now, event, &mut self.effects);
    }

    /// Whether nothing but observation may come to speak for a pair with this endpoint.
    pub(crate) fn needs_watching(&self, cookie: u64) -> bool {
        let open = |e: &&matcher::endpoint::Endpoint| e.is_open() && e.kin == 0 && !e.tuple.local.is_loopback();
        self.verifier.proof.is_none() && self.matcher.endpoint(cookie).filter(open).is_some()
    }

    /// Carries out what was decided, until nothing is left to do.
    fn settle(&mut self) {
        loop {
            if let Some(id) = self.leaving.pop() {
                self.left(id);
                continue;
            }
            let effects = std::mem::take(&mut self.effects);
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                let (Effect::Pair { connected: decided, .. } | Effect::Refuse { cookie: decided, .. }) = effect;
                self.watch.release(decided);
                match effect {
                    Effect::Pair { connected, accepted, proven } => self.paired(connected, accepted, proven),
                    Effect::Refuse { cookie, reason } => self.refuse(cookie, reason),
                }
            }
        }
    }

    fn left(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        session.link.hang_up();
        for cookie in session.cookies {
            self.unclaim(id, cookie);
        }
    }

    pub(crate) fn refuse(&mut self, cookie: u64, reason: Reason) {
        self.note_stay(cookie, reason);
        *self.metrics.refused.entry(reason).or_default() += 1;
        let Some(e) = self.endpoints.get(&cookie) else { return };
        let told: Vec<_> = e.claims.iter().map(|c| (c.session, c.opened.token)).collect();
        debug!(cookie, reason = reason.word(), "refused");
        for (id, token) in told {
            self.send(id, ToShim::Refuse { cookie, token, reason }, None);
        }
        self.forget_deserted(cookie);
    }

    pub(crate) fn note_stay(&mut self, cookie: u64, reason: Reason) {
        if let Some(e) = self.endpoints.get_mut(&cookie) {
            e.state = State::Stay;
            e.reason = Some(reason);
            e.end = None;
        }
    }

    /// Sends without waiting. False if the client did not get it and will not.
    pub(crate) fn send(&mut self, id: SessionId, message: ToShim, fd: Option<OwnedFd>) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let sent = session.send(message, fd, self.config.outbox);
        self.after_sending(id, sent)
    }

    /// Sends what waits for a client.
    pub fn flush(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let sent = session.flush();
        self.after_sending(id, sent);
        self.settle();
    }

    fn after_sending(&mut self, id: SessionId, sent: Sent) -> bool {
        let Some(session) = self.sessions.get(&id) else { return false };
        match sent {
            Sent::Yes => return true,
            Sent::TooManyFds => return false,
            Sent::Slow => {
                self.metrics.slow += 1;
                warn!(id, program = session.owner.program, pid = session.owner.pid, "dropping a slow client");
            }
            Sent::Gone => {}
        }
        self.leaving.push(id);
        false
    }

    /// Applies a report of whoever has proved that the endpoint is his; others are not heard.
    fn report(&mut self, id: SessionId, cookie: u64, apply: impl FnOnce(&mut Endpoint)) {
        match self.endpoints.get_mut(&cookie) {
            Some(e) if e.has_proved(id) => apply(e),
            _ => self.metrics.stray += 1,
        }
    }

    fn became_final(&mut self, id: SessionId, cookie: u64, at: u64, [sent, received]: [u64; 2]) {
        self.report(id, cookie, |e| {
            e.switched(Direction::Sent, sent);
            e.switched(Direction::Received, received);
            e.state = State::Final;
            e.end = None;
            e.finished.get_or_insert(at);
        });
        let Some(e) = self.endpoints.get(&cookie).filter(|e| e.finished == Some(at)) else { return };
        let Some(peer) = e.peer.and_then(|p| self.endpoints.get(&p)) else { return };
        if let Some(other) = peer.finished {
            let began = if e.role == Role::Connected { e.began } else { peer.began };
            self.metrics.became_final(at.max(other).saturating_sub(began));
        }
    }

    fn stayed(&mut self, id: SessionId, cookie: u64, reason: Reason) {
        let Some(e) = self.endpoints.get_mut(&cookie).filter(|e| e.heeds(id)) else {
            self.metrics.stray += 1;
            return;
        };
        e.state = State::Stay;
        e.reason = Some(reason);
        e.end = None;
        *self.metrics.stayed.entry(reason).or_default() += 1;
        self.watch.release(cookie);
        self.tell(kernel::now(), Event::Stayed { cookie });
    }
}

/// The last word to a client.
pub fn refuse_client(link: &Link, code: ErrorCode) {
    let _ = record::send(&link.socket, ToShim::Error { code }.encode().as_bytes(), None);
}
