//! Descriptors that a program passes to another process by itself (SCM_RIGHTS). What travels is the new socket; the TCP
//! socket beside it is left here by who passes it, and fetched by who receives it.
//!
//! ```text
//!   sender ──Deposit + TCP socket──► ipcd
//!      └──── the new socket, in the program's own message ────► receiver
//!                                    ipcd ◄──Received + new socket──┘
//!                                    ipcd ──Passed + TCP socket──► receiver
//! ```
//!
//! As long as the other end of the stream lives, the TCP socket stays open here: to the peer the connection is what it was,
//! also where the receiver does not know of libipc and never asks.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use matcher::reason::Reason;
use matcher::wire::{Opened, ToShim};

use crate::broker::Broker;
use crate::broker::endpoint::{Claim, State};
use crate::kernel;
use crate::serve::owner::SessionId;

/// How many receivers may wait for one deposit.
const WAITING: usize = 16;

impl Broker {
    /// A program passes an endpoint on. Its TCP socket is believed to be that if it is.
    pub(crate) fn deposit(&mut self, id: SessionId, cookie: u64, tcp: Option<&OwnedFd>) {
        let Some(e) = self.endpoints.get_mut(&cookie).filter(|e| e.has_proved(id)) else {
            self.metrics.stray += 1;
            return;
        };
        let Some(tcp) = tcp.filter(|tcp| kernel::cookie(tcp.as_fd()) == Some(cookie)) else {
            self.metrics.stray += 1;
            return;
        };
        if e.deposit.is_none() {
            e.deposit = tcp.try_clone().ok();
        }
        for (receiver, token) in std::mem::take(&mut e.receivers) {
            self.pass(receiver, token, cookie);
        }
    }

    /// A program has received a descriptor. If it is an end of a stream that is known, the program has that stream.
    pub(crate) fn received(&mut self, id: SessionId, token: u64, socket: Option<&OwnedFd>) {
        let cookie = socket.and_then(|socket| kernel::cookie(socket.as_fd()));
        let cookie = cookie.and_then(|cookie| self.ends.get(&cookie).copied());
        match cookie.and_then(|cookie| Some((cookie, self.endpoints.get_mut(&cookie)?))) {
            Some((cookie, e)) if e.deposit.is_some() => self.pass(id, token, cookie),
            // Whoever passes it has said so before the message was sent, on another connection.
            Some((_, e)) if e.receivers.len() < WAITING => e.receivers.push((id, token)),
            _ => drop(self.send(id, ToShim::Refuse { cookie: 0, token, reason: Reason::Unverified }, None)),
        }
    }

    fn pass(&mut self, id: SessionId, token: u64, cookie: u64) {
        let (Some(e), Some(session)) = (self.endpoints.get_mut(&cookie), self.sessions.get_mut(&id)) else { return };
        let Some(tcp) = e.deposit.as_ref().and_then(|tcp| tcp.try_clone().ok()) else { return };
        let (role, began) = (e.role, e.began);
        if session.cookies.insert(cookie) {
            let opened = Opened { cookie, token, role, tuple: e.tuple, began, opened: began };
            e.claims.push(Claim { proven: true, ..Claim::new(id, &opened) });
        }
        e.ended = None;
        e.state = State::Final;
        e.owner = Rc::clone(&session.owner);
        self.send(id, ToShim::Passed { token, cookie, role, began }, Some(tcp));
    }
}
