//! Copies of sockets whose pair would rest on what was observed alone. They are kept for a moment, so that both ends can
//! be asked for their offsets in step while bytes flow.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use matcher::candidate::{Offsets, in_step};
use matcher::wire::Role;

use crate::kernel::{closing, verify};

/// How many are kept at most. Without a copy nothing is asked, and the rest of the evidence decides.
const LIMIT: usize = 4096;
/// How long one is kept at most, in nanoseconds. The program notices nothing: libipc tells the peer of a close itself.
const KEPT: u64 = 1_000_000_000;
/// How often the two ends are looked at until they are decided, in nanoseconds.
pub const EVERY: u64 = 1_000_000;

/// The copies, by cookie.
#[derive(Default)]
pub struct Watch {
    sockets: HashMap<u64, Watched>,
    /// None of them was taken before.
    oldest: u64,
}

struct Watched {
    socket: OwnedFd,
    role: Role,
    since: u64,
}

impl Watch {
    /// Keeps a copy of a socket, if there is room. Not of one that lingers: its program's close would not wait.
    pub fn keep(&mut self, now: u64, cookie: u64, socket: BorrowedFd<'_>, role: Role) {
        if self.sockets.is_empty() {
            self.oldest = now;
        }
        if self.sockets.len() < LIMIT
            && closing::closes_at_once(socket)
            && let Ok(socket) = socket.try_clone_to_owned()
        {
            self.sockets.insert(cookie, Watched { socket, role, since: now });
        }
    }

    /// Closes the copy.
    pub fn release(&mut self, cookie: u64) {
        if let Some(watched) = self.sockets.remove(&cookie) {
            closing::dispose(watched.socket);
        }
    }

    /// Closes the copies that nobody has come for.
    pub fn expire(&mut self, now: u64) {
        if self.next_deadline().is_none_or(|at| at > now) {
            return;
        }
        let old = self.sockets.extract_if(|_, w| now.saturating_sub(w.since) > KEPT);
        old.for_each(|(_, w)| closing::dispose(w.socket));
        self.oldest = self.sockets.values().map(|w| w.since).min().unwrap_or(now);
    }

    /// When [`Watch::expire`] is wanted.
    pub fn next_deadline(&self) -> Option<u64> {
        (!self.sockets.is_empty()).then_some(self.oldest + KEPT + 1)
    }

    /// Whether the offsets of the two, asked one after the other, could be those of one stream. True where one of them
    /// cannot be asked.
    pub fn in_step(&self, one: u64, other: u64) -> bool {
        let ask = |cookie: u64| -> Option<Offsets> {
            let watched = self.sockets.get(&cookie)?;
            verify::offsets(watched.socket.as_fd(), watched.role)
        };
        let answers = || Some((ask(one)?, ask(other)?, ask(one)?));
        answers().is_none_or(|(first, middle, last)| in_step(first, middle, last))
    }
}
