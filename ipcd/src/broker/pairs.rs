//! What is done with a pair: the policy is asked, and each end is sent its end of a new transport.

use std::os::fd::{AsFd, OwnedFd};

use matcher::policy::{Pair, Party};
use matcher::reason::Reason;
use matcher::wire::{ToShim, Transports};
use tracing::{info, warn};

use super::Broker;
use super::endpoint::{Endpoint, State};
use super::grant;
use crate::fault::{self, Fault};
use crate::kernel;

impl Broker {
    /// The matcher is sure; the policy has the last word.
    pub(crate) fn paired(&mut self, connected: u64, accepted: u64, proven: bool) {
        self.watch.release(accepted);
        match self.objection(connected, accepted, proven) {
            Some(reason) => [connected, accepted].into_iter().for_each(|cookie| self.refuse(cookie, reason)),
            None => self.grant(connected, accepted),
        }
    }

    fn objection(&self, connected: u64, accepted: u64, proven: bool) -> Option<Reason> {
        let known = |cookie| Some(self.endpoints.get(&cookie)?.owner.transports);
        if !known(connected)?.common(known(accepted)?).contains(Transports::UNIX) {
            return Some(Reason::NoTransport);
        }
        let party = |cookie| {
            let e = self.endpoints.get(&cookie)?;
            let (uid, program) = (e.owner.uid, e.owner.program.as_str());
            Some(Party { address: e.tuple.local, uid, program, netns: e.netns })
        };
        let (client, server) = (party(connected)?, party(accepted)?);
        self.config.policy.objection(&Pair { client, server, proven })
    }

    fn grant(&mut self, connected: u64, accepted: u64) {
        let heard = |cookie| self.endpoints.get(&cookie).is_some_and(|e| e.speaker.is_some());
        if !heard(connected) || !heard(accepted) {
            return;
        }
        let ends = match grant::transport(self.config.buffer) {
            Ok(ends) => ends,
            Err(error) => {
                warn!(%error, "cannot make a transport");
                self.refuse(connected, Reason::NoDescriptors);
                self.refuse(accepted, Reason::NoDescriptors);
                return;
            }
        };
        let now = kernel::now();
        for (cookie, peer, end) in [(connected, accepted, ends.0), (accepted, connected, ends.1)] {
            if let Some(e) = self.endpoints.get_mut(&cookie) {
                e.state = State::Granted;
                e.peer = Some(peer);
                e.end_cookie = kernel::cookie(end.as_fd());
                e.end_cookie.and_then(|end| self.ends.insert(end, cookie));
                e.end = Some(end);
                self.metrics.granted(now.saturating_sub(e.prefixed.unwrap_or(now)));
            }
        }
        self.metrics.pairs += 1;
        info!(connected, accepted, "paired");
        let first = self.deliver(connected);
        fault::point(self.config.fault, Fault::BetweenGrants);
        if !first {
            // Its peer would be told of the end of the new transport anyway.
            self.refuse(accepted, Reason::PeerDeclined);
            return;
        }
        if !self.deliver(accepted) {
            self.note_stay(accepted, Reason::NoDescriptors);
        }
        fault::point(self.config.fault, Fault::AfterGrants);
    }

    /// Sends an endpoint's end of the new transport to whoever speaks for it now; ipcd has it no more then. False if it
    /// cannot be sent.
    pub(crate) fn deliver(&mut self, cookie: u64) -> bool {
        let Some(e) = self.endpoints.get_mut(&cookie) else { return false };
        let Some(claim) = e.claims.iter().find(|c| Some(c.session) == e.speaker) else { return false };
        let (session, token) = (claim.session, claim.opened.token);
        let Some(end) = e.end.take() else { return false };
        self.send(session, ToShim::Grant { cookie, token }, Some(end))
    }

    /// Whoever was sent an end has left the endpoint to a child meanwhile: the child is sent it, once it is known. It is
    /// believed to be that end because it is.
    pub(crate) fn returned(&mut self, cookie: u64, end: Option<&OwnedFd>) {
        let socket = end.and_then(|end| kernel::cookie(end.as_fd()));
        match self.endpoints.get_mut(&cookie) {
            Some(e) if e.state == State::Granted && socket.is_some() && e.end_cookie == socket => {
                e.end = end.and_then(|end| end.try_clone().ok());
            }
            _ => {
                self.metrics.stray += 1;
                return;
            }
        }
        let speaks = |e: &Endpoint| e.claims.iter().any(|c| Some(c.session) == e.speaker && !c.left);
        if self.endpoints.get(&cookie).is_some_and(|e| speaks(e)) {
            self.deliver(cookie);
        }
    }
}
