//! What the kernel's sequence numbers and flow hashes decide.

mod world;

use matcher::addr::Tuple;
use matcher::endpoint::{Flow, Sequence};
use matcher::pairing::Effect;
use matcher::reason::Reason;
use world::{CONTAINER, End, SETTLE, WAIT, World, addr, client, server};

/// A stream with these first sequence numbers, and with flow hashes that no other stream has.
fn numbered(mut c: End, mut s: End, sent: u32, received: u32) -> (End, End) {
    c.sequence = Some(Sequence { sent, received });
    s.sequence = c.sequence.map(Sequence::mirrored);
    let hash = |e: End| e.claim.cookie as u32 * 1000;
    c.flow = Flow { sent: hash(c), received: hash(s) };
    s.flow = Flow { sent: hash(s), received: hash(c) };
    (c, s)
}

#[test]
fn translated_addresses_are_named_and_pair_with_proof() {
    // The server sees the gateway's address and the client a published port.
    let (c, mut s) = (client(1, CONTAINER, 7), server(2, CONTAINER, 8));
    s.claim.tuple = Tuple { local: addr("172.18.0.2", 6379), peer: addr("172.18.0.1", 50_000) };
    let mut w = World::new();
    w.open(&[c, s]).talk(c, 1, 2).talk(s, 1, 2).pass(WAIT);
    assert_eq!(w.refused(), [(1, Reason::Translated), (2, Reason::Translated)]);

    let (c, s) = numbered(c, s, 111, 222);
    let mut w = World::with_proof();
    w.open(&[c, s]).talk(c, 1, 2).talk(s, 1, 2);
    assert_eq!(w.effects, [Effect::Pair { connected: 1, accepted: 2, proven: true }]);
}

#[test]
fn with_proof_one_tuple_on_several_networks_pairs_rightly() {
    let ends = [client(1, CONTAINER, 7), client(2, CONTAINER, 8), server(3, CONTAINER, 9), server(4, CONTAINER, 10)];
    let (a, d) = numbered(ends[0], ends[3], 5, 6);
    let (b, c) = numbered(ends[1], ends[2], 7, 8);
    let mut w = World::with_proof();
    w.open(&[a, b, c, d]).talk(a, 1, 2).talk(c, 1, 2).talk(b, 1, 2).talk(d, 1, 2);
    assert_eq!(w.pairs(), [(2, 3), (1, 4)]);
}

#[test]
fn with_proof_half_a_deployment_never_pairs_the_wrong_two() {
    // Only one end of each of two streams is known, and everything that can be observed is the same.
    let (a, _) = numbered(client(1, CONTAINER, 7), server(3, CONTAINER, 9), 5, 6);
    let (_, d) = numbered(client(2, CONTAINER, 8), server(4, CONTAINER, 10), 7, 8);
    let mut w = World::with_proof();
    w.open(&[a, d]).talk(a, 1, 2).talk(d, 1, 2).pass(SETTLE).pass(WAIT);
    assert_eq!((w.pairs(), w.refused()), (vec![], vec![(1, Reason::NoPeer), (4, Reason::NoPeer)]));
    // They are not paired either where the kernel tells nothing about one of them.
    let mut silent = d;
    silent.sequence = None;
    let mut w = World::with_proof();
    w.open(&[a, silent]).talk(a, 1, 2).talk(silent, 1, 2).pass(SETTLE).pass(WAIT);
    assert!(w.pairs().is_empty());
}

#[test]
fn numbers_that_differ_overrule_a_tuple_that_mirrors() {
    // A transparent proxy in one namespace that is slow to report when it connected.
    let (mut c, mut s) = (client(1, CONTAINER, 7), server(2, CONTAINER, 7));
    c.sequence = Some(Sequence { sent: 1, received: 2 });
    s.sequence = Some(Sequence { sent: 3, received: 4 });
    let mut w = World::with_proof();
    w.open(&[c, s]).talk(c, 1, 2).talk(s, 1, 2).pass(WAIT);
    assert!(w.pairs().is_empty());
}

/// Two streams of one tuple that began at the same moment on two networks: the kernel has given them the same numbers.
#[test]
fn half_a_deployment_with_equal_numbers_is_not_paired() {
    let (a, _) = numbered(client(1, CONTAINER, 7), server(3, CONTAINER, 9), 5, 6);
    let (_, d) = numbered(client(2, CONTAINER, 8), server(4, CONTAINER, 10), 5, 6);
    let unproven = vec![(1, Reason::Unproven), (4, Reason::Unproven)];
    for [first, second] in [[a, d], [d, a]] {
        let mut w = World::with_proof();
        w.open(&[first, second]).talk(first, 1, 2).talk(second, 1, 2).pass(SETTLE).pass(WAIT);
        assert_eq!((w.pairs(), w.refused()), (vec![], unproven.clone()));
    }
    // Nor if nothing has arrived at one end, or at both: an end that has received a segment has its sender's flow hash.
    for (a_has, d_has) in [(true, false), (false, true), (false, false)] {
        let (mut a, mut d) = (a, d);
        a.flow.received *= u32::from(a_has);
        d.flow.received *= u32::from(d_has);
        let mut w = World::with_proof();
        w.open(&[a, d]).talk(a, 1, 2).talk(d, 1, 2).pass(SETTLE).pass(WAIT);
        assert_eq!((w.pairs(), w.refused()), (vec![], unproven.clone()));
    }
}

#[test]
fn all_four_with_equal_numbers_find_their_own() {
    let (a, c) = numbered(client(1, CONTAINER, 7), server(3, CONTAINER, 9), 5, 6);
    let (b, d) = numbered(client(2, CONTAINER, 8), server(4, CONTAINER, 10), 5, 6);
    for order in [[a, b, c, d], [a, d, b, c], [d, a, c, b], [c, d, a, b]] {
        let mut w = World::with_proof();
        w.open(&order);
        for e in order {
            w.talk(e, 1, 2);
        }
        let mut pairs = w.pairs();
        pairs.sort();
        assert_eq!(pairs, [(1, 3), (2, 4)]);
    }
}

/// The connection was accepted with its first data, as with a server that defers accepting.
#[test]
fn one_direction_of_flow_hashes_is_enough() {
    let (c, mut s) = numbered(client(1, CONTAINER, 7), server(2, CONTAINER, 8), 5, 6);
    s.flow.received = 0;
    let mut w = World::with_proof();
    w.open(&[c, s]).talk(c, 1, 2).talk(s, 1, 2);
    assert_eq!(w.pairs(), [(1, 2)]);
}

/// A flow hash is drawn anew after a loss. Inside one namespace the tuple is unique, so that does not matter.
#[test]
fn at_home_the_numbers_are_enough() {
    let (c, mut s) = numbered(client(1, CONTAINER, 7), server(2, CONTAINER, 7), 5, 6);
    s.flow.received = 77;
    let mut w = World::with_proof();
    w.open(&[c, s]).talk(c, 1, 2).talk(s, 1, 2);
    assert_eq!(w.pairs(), [(1, 2)]);
}
