//! All endpoints, found by cookie, by tuple, and by namespace and tuple; and a limited number of those that have ended.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use crate::addr::Tuple;
use crate::candidate::{are_kin, possible};
use crate::endpoint::{Endpoint, Phase, Sequence};
use crate::wire::{Direction, Hash, Role};

/// How many endpoints with the same bytes, or the same numbers, are compared at most.
const ALIKE: usize = 64;

/// The key by which an endpoint is found by its bytes, once they are known.
fn bytes_key(of: &Endpoint) -> Option<(Hash, Role, u64)> {
    let direction = if of.role == Role::Connected { Direction::Sent } else { Direction::Received };
    of.hash(direction).map(|hash| (*hash, of.role, of.cookie))
}

/// The endpoints that have not been reported as ended, and those that ended recently.
#[derive(Default)]
pub struct Registry {
    /// Boxed: the nodes of the tree are half empty.
    live: BTreeMap<u64, Box<Endpoint>>,
    by_tuple: BTreeSet<(Tuple, u64)>,
    /// Verified endpoints: the kernel has one socket at most for each of these keys.
    by_home: BTreeMap<((u64, u32), Tuple), u64>,
    /// Verified endpoints whose sequence numbers are known.
    by_sequence: BTreeSet<(Sequence, u64)>,
    /// Endpoints by the hash of the bytes that the connecting end has sent, as each endpoint saw them.
    by_bytes: BTreeSet<(Hash, Role, u64)>,
    departed: VecDeque<(u64, (Tuple, u64))>,
    departed_by_tuple: BTreeMap<(Tuple, u64), (u64, Box<Endpoint>)>,
    departed_limit: usize,
    /// Endpoints that ended at or before this time may be forgotten.
    horizon: u64,
}

impl Registry {
    /// An empty registry that remembers this many endpoints after their end.
    pub fn new(departed_limit: usize) -> Registry {
        Registry { departed_limit, ..Registry::default() }
    }

    /// The endpoint with this cookie.
    pub fn get(&self, cookie: u64) -> Option<&Endpoint> {
        self.live.get(&cookie).map(Box::as_ref)
    }

    /// The same, mutable. The fields that it is found by are changed by [`Registry::update`] and [`Registry::learn`]
    /// only.
    pub fn get_mut(&mut self, cookie: u64) -> Option<&mut Endpoint> {
        self.live.get_mut(&cookie).map(Box::as_mut)
    }

    /// How many endpoints are alive.
    pub fn count(&self) -> usize {
        self.live.len()
    }

    /// Adds an endpoint, or replaces the one with its cookie, and keeps every index right.
    pub fn update(&mut self, endpoint: Endpoint) {
        self.unindex(endpoint.cookie);
        self.by_tuple.insert((endpoint.tuple, endpoint.cookie));
        self.by_home.extend(endpoint.home().map(|home| ((home, endpoint.tuple), endpoint.cookie)));
        self.by_sequence.extend(endpoint.sequence.map(|s| (s, endpoint.cookie)));
        self.by_bytes.extend(bytes_key(&endpoint));
        self.live.insert(endpoint.cookie, Box::new(endpoint));
    }

    fn unindex(&mut self, cookie: u64) -> Option<Box<Endpoint>> {
        let old = self.live.remove(&cookie)?;
        self.by_tuple.remove(&(old.tuple, cookie));
        let place = old.home().map(|home| (home, old.tuple));
        if let Some(place) = place.filter(|place| self.by_home.get(place) == Some(&cookie)) {
            self.by_home.remove(&place);
        }
        if let Some(sequence) = old.sequence {
            self.by_sequence.remove(&(sequence, cookie));
        }
        if let Some(key) = bytes_key(&old) {
            self.by_bytes.remove(&key);
        }
        Some(old)
    }

    /// Notes the hash of one direction of an endpoint. True if the hash was not known before.
    pub fn learn(&mut self, cookie: u64, direction: Direction, hash: Hash) -> bool {
        let Some(endpoint) = self.live.get_mut(&cookie) else { return false };
        let news = endpoint.learn(direction, hash);
        self.by_bytes.extend(bytes_key(endpoint));
        news
    }

    /// Some endpoints whose sequence numbers mirror those of this one.
    pub fn same_numbers(&self, of: &Endpoint) -> impl Iterator<Item = &Endpoint> {
        let range = of.sequence.map(Sequence::mirrored).map(|s| (s, 0)..=(s, u64::MAX));
        let all = range.into_iter().flat_map(|range| self.by_sequence.range(range));
        all.take(ALIKE).filter_map(|(_, cookie)| self.get(*cookie))
    }

    /// The one among these endpoints that is proven to be the other end, if there is exactly one.
    pub fn proven(&self, of: &Endpoint) -> Option<u64> {
        let mut all = self.same_numbers(of).filter(|other| are_kin(of, other)).map(|other| other.cookie);
        all.next().filter(|_| all.next().is_none())
    }

    /// Some endpoints of the other role that saw the same bytes from the connecting end.
    pub fn same_bytes(&self, of: &Endpoint) -> impl Iterator<Item = &Endpoint> {
        let other = if of.role == Role::Connected { Role::Accepted } else { Role::Connected };
        let range = bytes_key(of).map(|(hash, _, _)| (hash, other, 0)..=(hash, other, u64::MAX));
        let all = range.into_iter().flat_map(|range| self.by_bytes.range(range));
        all.take(ALIKE).filter_map(|(_, _, cookie)| self.get(*cookie))
    }

    /// The endpoint to which the kernel gave this tuple in the home (namespace and device) of another endpoint.
    pub fn at_home_of(&self, other: &Endpoint, tuple: Tuple) -> Option<u64> {
        self.by_home.get(&(other.home()?, tuple)).copied()
    }

    /// Ends an endpoint. An endpoint that could have been the peer of an endpoint in another namespace is remembered:
    /// its peer may be reported later, and must not be paired with a third one.
    pub fn depart(&mut self, now: u64, cookie: u64) {
        let Some(old) = self.unindex(cookie) else { return };
        let settled = old.phase == Phase::Paired || old.kin != 0;
        let loopback = old.tuple.local.is_loopback() || old.tuple.peer.is_loopback();
        if settled || loopback {
            return;
        }
        let key = (old.tuple, cookie);
        self.departed.push_back((now, key));
        self.departed_by_tuple.insert(key, (now, old));
        if self.departed.len() > self.departed_limit
            && let Some((ended, key)) = self.departed.pop_front()
        {
            self.horizon = self.horizon.max(ended);
            // The endpoint may have come back and departed again since.
            if self.departed_by_tuple.get(&key).is_some_and(|(at, _)| *at == ended) {
                self.departed_by_tuple.remove(&key);
            }
        }
    }

    /// Every live endpoint with the mirrored tuple.
    pub fn mirrored(&self, of: &Endpoint) -> impl Iterator<Item = &Endpoint> {
        let tuple = of.tuple.mirrored();
        self.by_tuple
            .range((tuple, 0)..=(tuple, u64::MAX))
            .filter_map(|(_, cookie)| self.live.get(cookie).map(Box::as_ref))
    }

    /// Every live endpoint that could be the peer.
    pub fn candidates(&self, of: &Endpoint) -> impl Iterator<Item = &Endpoint> {
        self.mirrored(of).filter(|other| possible(of, other))
    }

    /// The cookies of [`Registry::candidates`].
    pub fn candidate_cookies(&self, of: &Endpoint) -> Vec<u64> {
        self.candidates(of).map(|e| e.cookie).collect()
    }

    /// Whether `peer` is the only endpoint, living or departed, that could be the peer of `of`.
    pub fn only_candidate(&self, of: &Endpoint, peer: &Endpoint) -> bool {
        let tuple = of.tuple.mirrored();
        let mut gone = self.departed_by_tuple.range((tuple, 0)..=(tuple, u64::MAX)).map(|(_, (_, e))| e.as_ref());
        self.candidates(of).all(|e| e.cookie == peer.cookie)
            && !gone.any(|e| e.cookie != peer.cookie && possible(of, e))
    }

    /// The time up to which endpoints may have ended without being remembered.
    pub fn horizon(&self) -> u64 {
        self.horizon
    }
}
