//! Whether two endpoints could be, and whether they are shown to be, the two ends of one stream. Every function here is
//! symmetric in its two arguments.

use crate::endpoint::{Endpoint, Sequence};
use crate::wire::{Direction, Role};

/// How far the prefix hashes of two endpoints agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evidence {
    /// A direction that both know was seen differently.
    Differs,
    /// No direction is known from both sides.
    Nothing,
    /// One direction is known from both sides, and equal.
    One,
    /// Both directions are.
    Both,
}

/// One connected and one accepted, and the connect call began before the accept call returned. The accept call may
/// return much later: the connection waited in the backlog.
fn opposite(a: &Endpoint, b: &Endpoint) -> bool {
    let (connected, accepted) = match (a.role, b.role) {
        (Role::Connected, Role::Accepted) => (a, b),
        (Role::Accepted, Role::Connected) => (b, a),
        _ => return false,
    };
    a.cookie != b.cookie && connected.began <= accepted.opened
}

/// The same, with mirrored tuples.
pub fn mirrors(a: &Endpoint, b: &Endpoint) -> bool {
    opposite(a, b) && a.tuple == b.tuple.mirrored()
}

/// Whether the kernel proves that they are one stream: by their numbers, which say yes or no, or by the namespace and
/// the tuple, which is unique there.
pub fn are_kin(a: &Endpoint, b: &Endpoint) -> bool {
    match same_stream(a, b) {
        Some(same) => same && opposite(a, b),
        None => at_home(a, b),
    }
}

/// The kernel has one such socket at a time.
fn at_home(a: &Endpoint, b: &Endpoint) -> bool {
    same_home(a, b) && mirrors(a, b)
}

/// What the kernel's numbers say, if they are known. Sequence numbers alone are no proof across namespaces: the kernel
/// makes them of the tuple and the time.
fn same_stream(a: &Endpoint, b: &Endpoint) -> Option<bool> {
    Some(a.sequence? == b.sequence?.mirrored() && (at_home(a, b) || same_flow(a, b)))
}

/// Whether what has arrived at one end came from the other, as far as anything has, and something has.
fn same_flow(a: &Endpoint, b: &Endpoint) -> bool {
    let directions = [(a.flow.sent, b.flow.received), (b.flow.sent, a.flow.received)];
    let arrived = directions.into_iter().filter(|(_, received)| *received != 0);
    arrived.map(|(sent, received)| sent == received).reduce(|one, other| one && other).unwrap_or(false)
}

/// Whether the sequence numbers would be those of one stream, and nothing else proves it.
pub fn is_unproven(a: &Endpoint, b: &Endpoint) -> bool {
    let mirrored = a.sequence.is_some() && a.sequence == b.sequence.map(Sequence::mirrored);
    mirrored && opposite(a, b) && !are_kin(a, b)
}

/// Whether everything was seen alike at both ends, though they see other addresses.
pub fn looks_translated(a: &Endpoint, b: &Endpoint) -> bool {
    opposite(a, b) && a.tuple != b.tuple.mirrored() && a.sequence.is_none() && evidence(a, b) == Evidence::Both
}

/// The kernel says that both live in one network namespace, and are bound to one device there, or to none.
pub fn same_home(a: &Endpoint, b: &Endpoint) -> bool {
    a.home().is_some() && a.home() == b.home()
}

/// Compares the prefix hashes: what one sent is what the other received.
pub fn evidence(a: &Endpoint, b: &Endpoint) -> Evidence {
    let mut agreed = 0;
    for direction in [Direction::Sent, Direction::Received] {
        match (a.hash(direction), b.hash(direction.mirrored())) {
            (Some(x), Some(y)) if x != y => return Evidence::Differs,
            (Some(_), Some(_)) => agreed += 1,
            _ => {}
        }
    }
    match agreed {
        0 => Evidence::Nothing,
        1 => Evidence::One,
        _ => Evidence::Both,
    }
}

/// Offsets of a socket at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offsets {
    /// Bytes that its application has written.
    pub written: u64,
    /// Bytes of these that the other end's kernel has acknowledged.
    pub acked: u64,
    /// Bytes that have arrived here, read or not.
    pub received: u64,
}

/// Whether one endpoint (asked first and last) and another (asked in between) can be the ends of one stream: what was
/// acknowledged had arrived, and what had arrived was written.
pub fn in_step(first: Offsets, other: Offsets, last: Offsets) -> bool {
    let there = first.acked <= other.received && other.received <= last.written;
    let back = other.acked <= last.received && first.received <= other.written;
    there && back
}

/// Whether traffic can pass between them at all: a loopback tuple is at home in one namespace, and on one device there.
fn reachable(a: &Endpoint, b: &Endpoint) -> bool {
    let loopback = a.tuple.local.is_loopback() || a.tuple.peer.is_loopback();
    !(loopback && a.netns != 0 && b.netns != 0 && !same_home(a, b))
}

/// Whether nothing that is known rules out that they are the two ends of one stream. It need not be shown yet: an
/// endpoint that has not reached N bytes, or that was not verified, is a candidate too.
pub fn possible(a: &Endpoint, b: &Endpoint) -> bool {
    let free = |x: &Endpoint, y: &Endpoint| x.kin == 0 || x.kin == y.cookie;
    let excluded = same_stream(a, b) == Some(false);
    mirrors(a, b) && !excluded && reachable(a, b) && free(a, b) && free(b, a) && evidence(a, b) != Evidence::Differs
}

/// Whether everything is shown that a pair across namespaces needs, other than that it is the only one.
pub fn shown_across(a: &Endpoint, b: &Endpoint) -> bool {
    let loopback = a.tuple.local.is_loopback() || a.tuple.peer.is_loopback();
    !loopback
        && !same_home(a, b)
        && (a.is_open() && b.is_open())
        && (a.verified && b.verified)
        && possible(a, b)
        && evidence(a, b) == Evidence::Both
}
