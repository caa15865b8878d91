//! Decides which two endpoints are one stream.
//!
//! ```text
//!           Opened            Prefix              shown, and the only one
//!   (none) ───────> Open ───────────────> Open ──────────────────────────> Paired
//!                    │                     │ ambiguous, other bytes, out of step, no peer in time
//!                    │ Stayed              └────────────────────────────────────────────────> Refused
//!                    └──> Stayed                    Ended, from anywhere ──> departed, or forgotten
//! ```
//!
//! Two ways lead to a pair. Inside one network namespace the kernel keeps tuples unique, so two verified sockets with
//! mirrored tuples are one stream whatever else was reported; the hashes confirm it. Across namespaces only observation
//! speaks for a pair: both directions must be known and equal, and no other endpoint, alive or departed, may be
//! possible for either of the two. Such a pair is looked at again a moment later, so that a report which was already on
//! its way to ipcd counts too.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::candidate::{Evidence, are_kin, evidence, is_unproven, looks_translated, mirrors, shown_across};
use crate::endpoint::{Endpoint, Facts, Phase};
use crate::reason::Reason;
use crate::registry::Registry;
use crate::wire::{Direction, Hash, Opened, Role};

/// The time limits of a matcher, in nanoseconds, and the size of its memory.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How long an endpoint whose first bytes are known waits for the report of a peer.
    pub wait_peer: u64,
    /// How long a pair across namespaces is held back, so that reports of other candidates can arrive.
    pub settle: u64,
    /// How many endpoints are remembered after their end.
    pub departed: usize,
    /// Whether pairs need the kernel's proof: then observation alone makes none.
    pub proof: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config { wait_peer: 10_000_000_000, settle: 5_000_000, departed: 4096, proof: false }
    }
}

/// The events that the matcher is given. Every event except [`Event::Opened`] is ignored for an endpoint that is not
/// open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A process claims to have an endpoint. Ignored if the cookie is known: two processes may hold one socket.
    Opened(Opened),
    /// A process passed the socket itself, and the kernel was asked about it. The claim is that process's.
    Verified {
        /// What the process that proved possession claims about the endpoint.
        claim: Opened,
        /// What the kernel says about the socket.
        facts: Facts,
    },
    /// Hashes of the first N bytes that have become known.
    Prefixes {
        /// The endpoint.
        cookie: u64,
        /// SHA-256 of the first N bytes, by [`Direction`].
        hashes: [Option<Hash>; 2],
    },
    /// The process that proved possession is gone, but others still claim the endpoint.
    Orphaned {
        /// The endpoint.
        cookie: u64,
    },
    /// Its process leaves the endpoint on TCP.
    Stayed {
        /// The endpoint.
        cookie: u64,
    },
    /// The offsets of two endpoints whose pair is held back cannot be those of one stream.
    OutOfStep {
        /// The end that connected.
        connected: u64,
        /// The end that accepted.
        accepted: u64,
    },
    /// No process has the endpoint any more.
    Ended {
        /// The endpoint.
        cookie: u64,
    },
    /// Time passes.
    Tick,
}

/// The decisions of the matcher.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Effect {
    /// These two endpoints are one stream.
    Pair {
        /// The end that called connect.
        connected: u64,
        /// The end that accept returned.
        accepted: u64,
        /// Whether the kernel proves it, not only observation.
        proven: bool,
    },
    /// This endpoint stays on TCP.
    Refuse {
        /// The endpoint.
        cookie: u64,
        /// Why.
        reason: Reason,
    },
}

/// The pair (connected, accepted) that has been held back long enough, if the evaluation is about one.
type Settled = Option<(u64, u64)>;

/// The state machine. It knows no clock: `now` is an argument, in nanoseconds, and never goes back.
pub struct Matcher {
    config: Config,
    registry: Registry,
    /// The times at which the matcher checks whether an endpoint still has a possible peer to wait for.
    due: BTreeSet<(u64, u64)>,
    /// Pairs across namespaces that will be looked at again: time, connected, accepted.
    settling: BTreeSet<(u64, u64, u64)>,
}

impl Matcher {
    /// A matcher that knows no endpoint.
    pub fn new(config: Config) -> Matcher {
        let registry = Registry::new(config.departed);
        Matcher { config, registry, due: BTreeSet::new(), settling: BTreeSet::new() }
    }

    /// Takes one event and appends the decisions that follow from it.
    pub fn handle(&mut self, now: u64, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Opened(claim) => {
                if self.registry.get(claim.cookie).is_none() {
                    self.registry.update(Endpoint::new(&claim));
                }
            }
            Event::Verified { claim, facts } => self.verified(now, &claim, &facts, effects),
            Event::Prefixes { cookie, hashes } => self.prefixes(now, cookie, hashes, effects),
            Event::Orphaned { cookie } => {
                if let Some(e) = self.registry.get_mut(cookie) {
                    e.verified = false;
                }
            }
            Event::Stayed { cookie } => {
                self.decide(cookie, Phase::Stayed);
                if let Some(kin) = self.registry.get(cookie).map(|e| e.kin) {
                    self.evaluate(now, kin, None, effects);
                }
            }
            Event::Ended { cookie } => {
                self.decide(cookie, Phase::Stayed);
                self.registry.depart(now, cookie);
            }
            Event::OutOfStep { connected, accepted } => {
                self.refuse_all(&[connected, accepted], Reason::CountersDiffer, effects);
            }
            Event::Tick => self.tick(now, effects),
        }
    }

    /// When the next [`Event::Tick`] is wanted, if ever.
    pub fn next_deadline(&self) -> Option<u64> {
        let settled = self.settling.first().map(|(at, _, _)| *at);
        let due = self.due.first().map(|(at, _)| *at);
        settled.into_iter().chain(due).min()
    }

    /// Whether a pair is held back that a tick at this time would decide. The caller first reads the messages that
    /// processes have already sent, then ticks.
    pub fn settles(&self, now: u64) -> bool {
        self.settling.first().is_some_and(|(at, _, _)| *at <= now)
    }

    /// The pairs that are held back, as (connected, accepted).
    pub fn settling(&self) -> impl Iterator<Item = (u64, u64)> {
        self.settling.iter().map(|(_, connected, accepted)| (*connected, *accepted))
    }

    /// The endpoint with this cookie.
    pub fn endpoint(&self, cookie: u64) -> Option<&Endpoint> {
        self.registry.get(cookie)
    }

    /// How many endpoints are alive.
    pub fn len(&self) -> usize {
        self.registry.count()
    }

    /// Whether no endpoint is alive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn verified(&mut self, now: u64, claim: &Opened, facts: &Facts, effects: &mut Vec<Effect>) {
        let cookie = claim.cookie;
        let Some(mut endpoint) = self.registry.get(cookie).copied() else { return };
        endpoint.verify(claim, facts);
        // The kernel gave the tuple out again, so the endpoint that had it before has ended without a report.
        if let Some(old) = self.registry.at_home_of(&endpoint, endpoint.tuple)
            && old != cookie
        {
            self.refuse(old, Reason::Unverified, effects);
            self.registry.depart(now, old);
        }
        self.registry.update(endpoint);
        self.find_kin(&endpoint);
        // The decision that `verify` made void may have removed the deadline.
        if endpoint.is_open() && endpoint.due != u64::MAX {
            self.due.insert((endpoint.due, cookie));
        }
        self.evaluate(now, cookie, None, effects);
    }

    /// Joins an endpoint with the endpoint that the kernel proves to be its other end.
    fn find_kin(&mut self, endpoint: &Endpoint) {
        let by_tuple = self.registry.at_home_of(endpoint, endpoint.tuple.mirrored());
        let by_numbers = self.registry.proven(endpoint);
        let Some(kin) = by_numbers.or(by_tuple) else { return };
        let Some(other) = self.registry.get_mut(kin) else { return };
        let free = |x: &Endpoint, y: &Endpoint| x.kin == 0 || x.kin == y.cookie;
        if !are_kin(endpoint, other) || !free(endpoint, other) || !free(other, endpoint) {
            return;
        }
        other.kin = endpoint.cookie;
        if let Some(e) = self.registry.get_mut(endpoint.cookie) {
            e.kin = kin;
        }
    }

    fn prefixes(&mut self, now: u64, cookie: u64, hashes: [Option<Hash>; 2], effects: &mut Vec<Effect>) {
        let mut news = false;
        for (direction, hash) in [Direction::Sent, Direction::Received].into_iter().zip(hashes) {
            news |= hash.is_some_and(|hash| self.registry.learn(cookie, direction, hash));
        }
        if !news {
            return;
        }
        let Some(endpoint) = self.registry.get_mut(cookie) else { return };
        if endpoint.due == u64::MAX {
            endpoint.due = now.saturating_add(self.config.wait_peer);
            if endpoint.is_open() {
                self.due.insert((endpoint.due, cookie));
            }
        }
        self.evaluate(now, cookie, None, effects);
    }

    /// Checks whether something can be decided for this endpoint, after an event about it.
    fn evaluate(&mut self, now: u64, cookie: u64, settled: Settled, effects: &mut Vec<Effect>) {
        let Some(endpoint) = self.registry.get(cookie).copied() else { return };
        if !endpoint.is_open() || !endpoint.verified {
            return;
        }
        if endpoint.kin == 0 {
            if !self.config.proof {
                self.evaluate_across(now, &endpoint, settled, effects);
            }
            return;
        }
        let Some(kin) = self.registry.get(endpoint.kin).copied() else { return };
        if kin.phase == Phase::Stayed {
            self.refuse(cookie, Reason::PeerDeclined, effects);
        } else if kin.is_open() && kin.verified {
            self.evaluate_kin(&endpoint, &kin, effects);
        }
    }

    /// The kernel proves that the two are one stream; the hashes have to agree.
    fn evaluate_kin(&mut self, a: &Endpoint, b: &Endpoint, effects: &mut Vec<Effect>) {
        match evidence(a, b) {
            Evidence::Nothing => {}
            Evidence::Differs => self.refuse_all(&[a.cookie, b.cookie], Reason::HashDiffers, effects),
            Evidence::One | Evidence::Both => self.pair(a, b, effects),
        }
    }

    fn evaluate_across(&mut self, now: u64, endpoint: &Endpoint, settled: Settled, effects: &mut Vec<Effect>) {
        let shown: Vec<Endpoint> =
            self.registry.candidates(endpoint).filter(|b| shown_across(endpoint, b)).copied().collect();
        let Some(peer) = shown.first() else { return };
        let (connected, accepted) = match endpoint.role {
            Role::Connected => (endpoint, peer),
            Role::Accepted => (peer, endpoint),
        };
        // Endpoints that ended before the horizon are forgotten, so one of them may have been the true peer.
        let remembered = self.registry.horizon() == 0 || connected.began > self.registry.horizon();
        let only = self.registry.only_candidate(endpoint, peer) && self.registry.only_candidate(peer, endpoint);
        if !only || !remembered {
            let mut all = self.registry.candidate_cookies(endpoint);
            for other in &shown {
                all.extend(self.registry.candidate_cookies(other));
            }
            self.refuse_all(&all, Reason::Ambiguous, effects);
        } else if settled == Some((connected.cookie, accepted.cookie)) {
            self.pair(endpoint, peer, effects);
        } else {
            let at = now.saturating_add(self.config.settle);
            self.settling.insert((at, connected.cookie, accepted.cookie));
        }
    }

    fn pair(&mut self, a: &Endpoint, b: &Endpoint, effects: &mut Vec<Effect>) {
        let (connected, accepted) = match a.role {
            Role::Connected => (a.cookie, b.cookie),
            Role::Accepted => (b.cookie, a.cookie),
        };
        self.decide(connected, Phase::Paired);
        self.decide(accepted, Phase::Paired);
        effects.push(Effect::Pair { connected, accepted, proven: a.kin == b.cookie });
    }

    fn refuse_all(&mut self, cookies: &[u64], reason: Reason, effects: &mut Vec<Effect>) {
        for cookie in cookies {
            self.refuse(*cookie, reason, effects);
        }
    }

    fn refuse(&mut self, cookie: u64, reason: Reason, effects: &mut Vec<Effect>) {
        if self.registry.get(cookie).is_some_and(Endpoint::is_open) {
            self.decide(cookie, Phase::Refused(reason));
            effects.push(Effect::Refuse { cookie, reason });
        }
    }

    /// Ends the open phase of an endpoint. It stays a candidate: it still exists, and might be the true peer of
    /// another.
    fn decide(&mut self, cookie: u64, phase: Phase) {
        if let Some(e) = self.registry.get_mut(cookie)
            && e.is_open()
        {
            e.phase = phase;
            self.due.remove(&(e.due, cookie));
        }
    }

    fn tick(&mut self, now: u64, effects: &mut Vec<Effect>) {
        while let Some((at, connected, accepted)) = self.settling.first().copied()
            && at <= now
        {
            self.settling.pop_first();
            self.evaluate(now, connected, Some((connected, accepted)), effects);
        }
        while let Some((at, cookie)) = self.due.first().copied()
            && at <= now
        {
            self.due.pop_first();
            self.overdue(now, cookie, effects);
        }
    }

    /// Gives up waiting, unless there is an open endpoint that may yet turn out to be the peer.
    fn overdue(&mut self, now: u64, cookie: u64, effects: &mut Vec<Effect>) {
        let Some(endpoint) = self.registry.get(cookie).copied() else { return };
        if self.registry.candidates(&endpoint).any(Endpoint::is_open) {
            let due = now.saturating_add(self.config.wait_peer.max(1));
            if let Some(e) = self.registry.get_mut(cookie) {
                e.due = due;
                self.due.insert((due, cookie));
            }
            return;
        }
        self.refuse(cookie, self.why_alone(&endpoint), effects);
    }

    fn why_alone(&self, endpoint: &Endpoint) -> Reason {
        if let Some(other) = self.registry.candidates(endpoint).next() {
            // The peer exists, but it will not move.
            return match other.phase {
                Phase::Refused(reason) => reason,
                Phase::Paired => Reason::Ambiguous,
                Phase::Stayed | Phase::Open => Reason::PeerDeclined,
            };
        }
        let differs = |other: &Endpoint| mirrors(endpoint, other) && evidence(endpoint, other) == Evidence::Differs;
        let translated = |other: &Endpoint| other.phase != Phase::Paired && looks_translated(endpoint, other);
        if self.registry.mirrored(endpoint).any(differs) {
            Reason::HashDiffers
        } else if self.registry.same_bytes(endpoint).any(translated) {
            Reason::Translated
        } else if self.registry.same_numbers(endpoint).any(|other| is_unproven(endpoint, other)) {
            Reason::Unproven
        } else {
            Reason::NoPeer
        }
    }
}
