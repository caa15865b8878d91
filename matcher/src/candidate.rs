//! Whether two endpoints could be the two ends of one stream, and whether it is shown that they are. Every function
//! here is symmetric in its two arguments.

use crate::endpoint::{Endpoint, Sequence};
use crate::wire::{Direction, Role};

/// How far the prefix hashes of two endpoints agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evidence {
    /// The hashes of a direction that both know differ.
    Differs,
    /// There is no direction of which both know the hash.
    Nothing,
    /// There is one direction of which both know the hash, and the hashes are equal.
    One,
    /// Both know the hashes of both directions, and the hashes are equal.
    Both,
}

/// Whether one endpoint connected and the other accepted, and the connect call began before the accept call returned.
/// The accept call may return much later: the connection waited in the backlog.
fn opposite(a: &Endpoint, b: &Endpoint) -> bool {
    let (connected, accepted) = match (a.role, b.role) {
        (Role::Connected, Role::Accepted) => (a, b),
        (Role::Accepted, Role::Connected) => (b, a),
        _ => return false,
    };
    a.cookie != b.cookie && connected.began <= accepted.opened
}

/// The same, and the tuples mirror each other.
pub fn mirrors(a: &Endpoint, b: &Endpoint) -> bool {
    opposite(a, b) && a.tuple == b.tuple.mirrored()
}

/// Whether the kernel proves that the two are one stream: by their sequence numbers and flow hashes, which say yes or
/// no, or else by the namespace and the tuple, which is unique there.
pub fn are_kin(a: &Endpoint, b: &Endpoint) -> bool {
    match same_stream(a, b) {
        Some(same) => same && opposite(a, b),
        None => at_home(a, b),
    }
}

/// The tuples mirror each other in one namespace, where the kernel has only one socket with each tuple at a time.
fn at_home(a: &Endpoint, b: &Endpoint) -> bool {
    same_home(a, b) && mirrors(a, b)
}

/// What the kernel's numbers say, if they are known. Sequence numbers alone are no proof across namespaces: the kernel
/// makes them from the tuple and the time.
fn same_stream(a: &Endpoint, b: &Endpoint) -> Option<bool> {
    Some(a.sequence? == b.sequence?.mirrored() && (at_home(a, b) || same_flow(a, b)))
}

/// Whether something has arrived at one end at least, and everything that has arrived came from the other end.
fn same_flow(a: &Endpoint, b: &Endpoint) -> bool {
    let directions = [(a.flow.sent, b.flow.received), (b.flow.sent, a.flow.received)];
    let arrived = directions.into_iter().filter(|(_, received)| *received != 0);
    arrived.map(|(sent, received)| sent == received).reduce(|one, other| one && other).unwrap_or(false)
}

/// Whether the sequence numbers are those of one stream, but nothing else proves that the two are one.
pub fn is_unproven(a: &Endpoint, b: &Endpoint) -> bool {
    let mirrored = a.sequence.is_some() && a.sequence == b.sequence.map(Sequence::mirrored);
    mirrored && opposite(a, b) && !are_kin(a, b)
}

/// Whether both ends saw the same bytes, though they see different addresses.
pub fn looks_translated(a: &Endpoint, b: &Endpoint) -> bool {
    opposite(a, b) && a.tuple != b.tuple.mirrored() && a.sequence.is_none() && evidence(a, b) == Evidence::Both
}

/// The kernel says that both are in one network namespace, and are bound to one device there, or both to none.
pub fn same_home(a: &Endpoint, b: &Endpoint) -> bool {
    a.home().is_some() && a.home() == b.home()
}

/// Compares the prefix hashes: the bytes that one end sent are the bytes that the other received.
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

/// Whether one endpoint (asked first and last) and another (asked in between) can be the ends of one stream: the bytes
/// that were acknowledged had arrived, and the bytes that had arrived were written.
pub fn in_step(first: Offsets, other: Offsets, last: Offsets) -> bool {
    let there = first.acked <= other.received && other.received <= last.written;
    let back = other.acked <= last.received && first.received <= other.written;
    there && back
}

/// Whether traffic can pass between the two at all: a loopback tuple is reachable in one namespace only, and on one
/// device there.
fn reachable(a: &Endpoint, b: &Endpoint) -> bool {
    let loopback = a.tuple.local.is_loopback() || a.tuple.peer.is_loopback();
    !(loopback && a.netns != 0 && b.netns != 0 && !same_home(a, b))
}

/// Whether nothing that is known excludes that the two are the ends of one stream. It need not be shown yet: an
/// endpoint that has not reached N bytes, or that was not verified, is a candidate too.
pub fn possible(a: &Endpoint, b: &Endpoint) -> bool {
    let free = |x: &Endpoint, y: &Endpoint| x.kin == 0 || x.kin == y.cookie;
    let excluded = same_stream(a, b) == Some(false);
    mirrors(a, b) && !excluded && reachable(a, b) && free(a, b) && free(b, a) && evidence(a, b) != Evidence::Differs
}

/// Whether everything is shown that a pair across namespaces needs, except that each is the only candidate of the
/// other.
pub fn shown_across(a: &Endpoint, b: &Endpoint) -> bool {
    let loopback = a.tuple.local.is_loopback() || a.tuple.peer.is_loopback();
    !loopback
        && !same_home(a, b)
        && (a.is_open() && b.is_open())
        && (a.verified && b.verified)
        && possible(a, b)
        && evidence(a, b) == Evidence::Both
}
