//! What the kernel's sequence numbers decide.

mod world;

use matcher::addr::Tuple;
use matcher::endpoint::Sequence;
use matcher::pairing::Effect;
use matcher::reason::Reason;
use world::{CONTAINER, End, SETTLE, WAIT, World, addr, client, server};

/// A stream with these first sequence numbers.
fn numbered(mut c: End, mut s: End, sent: u32, received: u32) -> (End, End) {
    c.sequence = Some(Sequence { sent, received });
    s.sequence = c.sequence.map(Sequence::mirrored);
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
    // Only one end of each of two streams is known, and everything that can be observed is alike.
    let (a, _) = numbered(client(1, CONTAINER, 7), server(3, CONTAINER, 9), 5, 6);
    let (_, d) = numbered(client(2, CONTAINER, 8), server(4, CONTAINER, 10), 7, 8);
    let mut w = World::with_proof();
    w.open(&[a, d]).talk(a, 1, 2).talk(d, 1, 2).pass(SETTLE).pass(WAIT);
    assert_eq!((w.pairs(), w.refused()), (vec![], vec![(1, Reason::NoPeer), (4, Reason::NoPeer)]));
    // Nor where the kernel tells nothing of one of them.
    let mut silent = d;
    silent.sequence = None;
    let mut w = World::with_proof();
    w.open(&[a, silent]).talk(a, 1, 2).talk(silent, 1, 2).pass(SETTLE).pass(WAIT);
    assert!(w.pairs().is_empty());
}

#[test]
fn numbers_that_differ_overrule_a_tuple_that_mirrors() {
    // A transparent proxy in one namespace, slow to tell when it connected.
    let (mut c, mut s) = (client(1, CONTAINER, 7), server(2, CONTAINER, 7));
    c.sequence = Some(Sequence { sent: 1, received: 2 });
    s.sequence = Some(Sequence { sent: 3, received: 4 });
    let mut w = World::with_proof();
    w.open(&[c, s]).talk(c, 1, 2).talk(s, 1, 2).pass(WAIT);
    assert!(w.pairs().is_empty());
}
