//! Who has which endpoint: claims, what proves them, and their end.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use matcher::endpoint::Facts;
use matcher::pairing::Event;
use matcher::reason::Reason;
use matcher::wire::{Direction, Hash, Opened, ToShim};
use tracing::debug;

use crate::broker::Broker;
use crate::broker::endpoint::{Claim, Endpoint, State};
use crate::kernel;
use crate::serve::owner::SessionId;
use crate::view::rows::Row;

/// How many endpoints are kept that everybody has left, and whose peer is gone.
const DESERTED: usize = 256;

impl Broker {
    pub(crate) fn opened(&mut self, id: SessionId, opened: &Opened) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.cookies.len() >= self.config.endpoints_per_session {
            self.metrics.limited += 1;
            self.send(id, ToShim::Refuse { cookie: opened.cookie, token: opened.token, reason: Reason::Limit }, None);
            return;
        }
        if !session.cookies.insert(opened.cookie) {
            self.metrics.stray += 1;
            return;
        }
        let owner = Rc::clone(&session.owner);
        if self.endpoints.get(&opened.cookie).is_some_and(|e| e.ended.is_some() && e.state != State::Dual) {
            self.archive(opened.cookie);
        }
        match self.endpoints.get_mut(&opened.cookie) {
            Some(known) => known.claims.push(Claim::new(id, opened)),
            None => {
                self.metrics.endpoints += 1;
                self.endpoints.insert(opened.cookie, Box::new(Endpoint::new(id, owner, opened)));
                self.tell(kernel::now(), Event::Opened(*opened));
            }
        }
    }

    /// A session says what it knows of an endpoint, and proves with the socket that it has it.
    pub(crate) fn offered(&mut self, id: SessionId, opened: &Opened, hashes: [Option<Hash>; 2], fd: Option<&OwnedFd>) {
        let cookie = opened.cookie;
        if self.sessions.get(&id).is_some_and(|session| !session.cookies.contains(&cookie)) {
            self.opened(id, opened);
        }
        let Some(claim) = self.endpoints.get_mut(&cookie).and_then(|e| e.claim(id)) else { return };
        if !claim.proven {
            let opened = claim.opened;
            let now = kernel::now();
            match fd.map(|fd| self.verifier.verify(fd.as_fd(), &opened)) {
                Some(Ok(facts)) => {
                    self.proven(id, &opened, &facts);
                    self.tell(now, Event::Verified { claim: opened, facts });
                    if let Some(fd) = fd.filter(|_| self.needs_watching(cookie)) {
                        self.watch.keep(now, cookie, fd.as_fd(), opened.role);
                    }
                }
                doubt => {
                    debug!(id, cookie, ?doubt, "unverified");
                    return self.unverified(id, &opened);
                }
            }
        }
        if hashes != [None; 2] {
            self.prefixes(cookie, hashes);
        }
    }

    pub(crate) fn prefix(&mut self, id: SessionId, cookie: u64, direction: Direction, hash: Hash) {
        match self.endpoints.get_mut(&cookie).and_then(|e| e.claim(id)) {
            Some(claim) if claim.proven => self.prefixes(cookie, direction.alone(hash)),
            Some(claim) => {
                let opened = claim.opened;
                self.unverified(id, &opened);
            }
            None => self.metrics.stray += 1,
        }
    }

    fn prefixes(&mut self, cookie: u64, hashes: [Option<Hash>; 2]) {
        let now = kernel::now();
        if let Some(e) = self.endpoints.get_mut(&cookie) {
            e.prefixed.get_or_insert(now);
            e.state = e.state.max(State::Waiting);
        }
        self.tell(now, Event::Prefixes { cookie, hashes });
    }

    fn proven(&mut self, id: SessionId, opened: &Opened, facts: &Facts) {
        self.drop_left(opened.cookie);
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(e) = self.endpoints.get_mut(&opened.cookie) else { return };
        if let Some(claim) = e.claim(id) {
            claim.proven = true;
        }
        if !e.verified && e.state == State::Stay {
            // Whoever said so before had proved nothing.
            e.state = State::Opened;
            e.reason = None;
        }
        // If it had ended, then by an exec between the transports, and this is the program that was executed.
        e.ended = None;
        e.verified = true;
        e.role = opened.role;
        e.began = opened.began;
        e.tuple = facts.tuple;
        e.netns = facts.netns;
        let granted = e.state == State::Granted;
        if e.speaker.is_none() || e.peer.is_none() || granted {
            e.speaker = Some(id);
            e.owner = Rc::clone(&session.owner);
        }
        if granted {
            // Whoever was sent its end has returned it, or will, and holds the endpoint no more: a child went on with it.
            self.deliver(opened.cookie);
            return;
        }
        if let Some(reason) = e.reason {
            self.send(id, ToShim::Refuse { cookie: opened.cookie, token: opened.token, reason }, None);
        }
    }

    fn unverified(&mut self, id: SessionId, opened: &Opened) {
        let cookie = opened.cookie;
        let reason = Reason::Unverified;
        *self.metrics.refused.entry(reason).or_default() += 1;
        if let Some(e) = self.endpoints.get_mut(&cookie)
            && e.heeds(id)
        {
            e.state = State::Stay;
            e.reason = Some(reason);
            self.tell(kernel::now(), Event::Stayed { cookie });
        }
        self.send(id, ToShim::Refuse { cookie, token: opened.token, reason }, None);
    }

    pub(crate) fn closed(&mut self, id: SessionId, cookie: u64) {
        if self.sessions.get_mut(&id).is_some_and(|session| session.cookies.remove(&cookie)) {
            self.unclaim(id, cookie);
        } else {
            self.metrics.stray += 1;
        }
    }

    /// A session has the endpoint no more, but a process that it forked or executed has, which will speak for it. As long
    /// as it does not, what the session said holds; where there is nothing to hold, the claim ends here.
    pub(crate) fn left_to_kin(&mut self, id: SessionId, cookie: u64) {
        let Some(claim) = self.endpoints.get_mut(&cookie).and_then(|e| e.claim(id)) else {
            self.metrics.stray += 1;
            return;
        };
        claim.left = true;
        self.forget_deserted(cookie);
    }

    /// Ends an endpoint that everybody has left and nobody else needs to speak for.
    pub(crate) fn forget_deserted(&mut self, cookie: u64) {
        let Some(e) = self.endpoints.get(&cookie) else { return };
        let holds = matches!(e.state, State::Waiting | State::Granted | State::Dual);
        let deserted_by = e.deserted_by();
        if deserted_by.is_none() {
            self.drop_left(cookie);
        } else if e.state == State::Opened {
            // Nothing is known of it yet but that it exists: whoever has it will say so again.
            self.drop_left(cookie);
            self.endpoints.remove(&cookie);
            self.tell(kernel::now(), Event::Ended { cookie });
        } else if !holds && let Some(last) = deserted_by {
            self.unclaim(last, cookie);
        }
    }

    /// Takes away the claims of those who have left the endpoint to others.
    fn drop_left(&mut self, cookie: u64) {
        let Some(e) = self.endpoints.get_mut(&cookie) else { return };
        let mut speaker_left = false;
        for claim in e.claims.extract_if(.., |c| c.left) {
            speaker_left |= e.speaker == Some(claim.session);
            if let Some(session) = self.sessions.get_mut(&claim.session) {
                session.cookies.remove(&cookie);
            }
        }
        if speaker_left {
            e.speaker = None;
            self.tell(kernel::now(), Event::Orphaned { cookie });
        }
    }

    /// A session has the endpoint no more; the last one ends it.
    pub(crate) fn unclaim(&mut self, id: SessionId, cookie: u64) {
        let now = kernel::now();
        let Some(e) = self.endpoints.get_mut(&cookie) else { return };
        let spoke = e.speaker == Some(id);
        e.claims.retain(|c| c.session != id);
        self.watch.release(cookie);
        if spoke {
            e.speaker = None;
        }
        if e.claims.iter().any(|c| !c.left) {
            if spoke {
                self.tell(now, Event::Orphaned { cookie });
            }
            return;
        }
        self.drop_left(cookie);
        let Some(e) = self.endpoints.get_mut(&cookie) else { return };
        e.ended = Some(now);
        e.end = None;
        e.speaker = None;
        let peer = e.peer;
        self.tell(now, Event::Ended { cookie });
        match peer.and_then(|p| Some((p, self.endpoints.get(&p)?))) {
            Some((peer, e)) if e.ended.is_none() => {
                if e.deserted_by().is_some() {
                    self.wait_for_kin(peer);
                }
            }
            _ => self.archive(cookie),
        }
    }

    /// The stream is over at the other end. Whoever has this one may still say what became of it, or may have ended
    /// without a word: that is not known, so only so many are waited for.
    fn wait_for_kin(&mut self, cookie: u64) {
        self.deserted.push_back(cookie);
        if self.deserted.len() <= DESERTED {
            return;
        }
        let Some(oldest) = self.deserted.pop_front() else { return };
        if let Some(last) = self.endpoints.get(&oldest).filter(|e| e.ended.is_none()).and_then(|e| e.deserted_by()) {
            self.unclaim(last, oldest);
        }
    }

    /// Moves a stream that nobody has any more to the ended ones.
    fn archive(&mut self, cookie: u64) {
        let Some(e) = self.endpoints.remove(&cookie) else { return };
        let peer = e.peer.and_then(|p| match self.endpoints.get_mut(&p) {
            Some(other) if other.ended.is_some() => self.endpoints.remove_entry(&p),
            Some(other) => {
                other.peer = None;
                None
            }
            None => None,
        });
        for end in [Some(&e), peer.as_ref().map(|(_, e)| e)].into_iter().flatten().filter_map(|e| e.end_cookie) {
            self.ends.remove(&end);
        }
        let row = Row::new((cookie, &e), peer.as_ref().map(|(c, e)| (*c, e.as_ref())), kernel::now());
        if self.ended.len() >= self.config.ended {
            self.ended.pop_front();
        }
        if self.config.ended > 0 {
            self.ended.push_back(row);
        }
    }
}
