//! Named situations: how a stream is paired, and each way in which two wrong endpoints could be taken for one stream.

mod world;

use matcher::addr::Tuple;
use matcher::pairing::Event;
use matcher::reason::Reason;
use matcher::wire::{Direction, Role};
use world::{CONTAINER, End, HOST, SETTLE, WAIT, World, addr, client, server};

#[test]
fn one_namespace_one_equal_direction_is_enough() {
    let (c, s) = (client(1, HOST, 7), server(2, HOST, 7));
    let mut w = World::new();
    w.open(&[c, s]).verify(c).prefix(c, Direction::Sent, 1);
    assert!(w.effects.is_empty());
    w.verify(s).prefix(s, Direction::Received, 1);
    assert_eq!(w.pairs(), [(1, 2)]);
}

#[test]
fn the_order_of_the_reports_does_not_matter() {
    let (c, s) = (client(1, HOST, 7), server(2, HOST, 7));
    let mut w = World::new();
    w.open(&[s]).talk(s, 1, 2).open(&[c]).talk(c, 1, 2);
    assert_eq!(w.pairs(), [(1, 2)]);
}

#[test]
fn bytes_must_be_known_from_both_sides() {
    let (c, s) = (client(1, HOST, 7), server(2, HOST, 7));
    let mut w = World::new();
    w.open(&[c, s]).verify(c).verify(s).prefix(c, Direction::Sent, 1).prefix(s, Direction::Sent, 2);
    assert!(w.effects.is_empty());
    w.prefix(c, Direction::Received, 2);
    assert_eq!(w.pairs(), [(1, 2)]);
}

#[test]
fn v4_mapped_equals_v4() {
    let (c, mut s) = (client(1, HOST, 7), server(2, HOST, 7));
    s.claim.tuple = Tuple { local: addr("[::ffff:127.0.0.1]", 80), peer: addr("[::ffff:127.0.0.1]", 40_000) };
    let mut w = World::new();
    w.open(&[c, s]).talk(c, 1, 2).talk(s, 1, 2);
    assert_eq!(w.pairs(), [(1, 2)]);
}

#[test]
fn a_late_accept_is_fine_but_a_connect_after_it_is_another_stream() {
    let (c, mut s) = (client(1, HOST, 7), server(2, HOST, 7));
    s.claim.opened = 900;
    let mut w = World::new();
    w.open(&[c, s]).talk(c, 1, 2).talk(s, 1, 2);
    assert_eq!(w.pairs(), [(1, 2)]);

    let (mut c, s) = (client(1, HOST, 7), server(2, HOST, 7));
    c.claim.began = 121;
    let mut w = World::new();
    w.open(&[c, s]).talk(c, 1, 2).talk(s, 1, 2).pass(WAIT + 1);
    assert_eq!((w.pairs(), w.refused()), (vec![], vec![(1, Reason::NoPeer), (2, Reason::NoPeer)]));
}

#[test]
fn two_who_connected_are_no_pair() {
    let (c, mut s) = (client(1, HOST, 7), server(2, HOST, 7));
    s.claim.role = Role::Connected;
    let mut w = World::new();
    w.open(&[c, s]).talk(c, 1, 2).talk(s, 1, 2);
    assert!(w.pairs().is_empty());
}

#[test]
fn nobody_is_paired_before_both_are_verified() {
    let (c, s) = (client(1, HOST, 7), server(2, HOST, 7));
    let mut w = World::new();
    w.open(&[c, s]).talk(c, 1, 2).prefix(s, Direction::Sent, 2).prefix(s, Direction::Received, 1);
    assert!(w.effects.is_empty());
    w.verify(s);
    assert_eq!(w.pairs(), [(1, 2)]);
}

#[test]
fn what_the_kernel_says_overrides_the_claim() {
    let (c, s) = (client(1, HOST, 7), server(2, HOST, 7));
    let mut liar = c;
    liar.claim.tuple.local = addr("10.9.9.9", 1);
    let mut w = World::new();
    w.open(&[liar, s]).talk(c, 1, 2).talk(s, 1, 2);
    assert_eq!(w.pairs(), [(1, 2)]);
}

#[test]
fn other_bytes_are_refused() {
    let (c, s) = (client(1, HOST, 7), server(2, HOST, 7));
    let mut w = World::new();
    w.open(&[c, s]).talk(c, 1, 2).verify(s).prefix(s, Direction::Sent, 9);
    assert_eq!(w.refused(), [(1, Reason::HashDiffers), (2, Reason::HashDiffers)]);
}

/// The kernel gives one tuple to several sockets, if each is bound to a device of its own.
#[test]
fn a_tuple_is_unique_on_a_device() {
    let on = |device, mut e: End| {
        e.device = device;
        e
    };
    // Two streams with one tuple, each on its device.
    let ends = [client(1, HOST, 7), server(2, HOST, 7)];
    let more = [client(3, HOST, 7), server(4, HOST, 7)].map(|e| on(5, e));
    let mut w = World::new();
    w.open(&ends).open(&more).talk(ends[0], 1, 2).talk(more[1], 1, 2).talk(more[0], 1, 2).talk(ends[1], 1, 2);
    assert_eq!((w.pairs(), w.refused()), (vec![(3, 4), (1, 2)], vec![]));

    // For two sockets that are bound differently the tuple proves nothing: they pair as across namespaces.
    let (c, s) = (on(5, client(1, CONTAINER, 7)), server(2, CONTAINER, 7));
    let mut w = World::new();
    w.open(&[c, s]).talk(c, 1, 2).talk(s, 1, 2);
    assert_eq!(w.pairs(), []);
    assert_eq!(w.pass(SETTLE).pairs(), [(1, 2)]);

    // And with a loopback tuple they do not pair at all.
    let (c, s) = (on(5, client(1, HOST, 7)), server(2, HOST, 7));
    let mut w = World::new();
    w.open(&[c, s]).talk(c, 1, 2).talk(s, 1, 2).pass(WAIT);
    assert_eq!((w.pairs(), w.refused()), (vec![], vec![(1, Reason::NoPeer), (2, Reason::NoPeer)]));
}

#[test]
fn two_containers_with_one_loopback_tuple_both_pair() {
    let ends = [client(1, HOST, 7), client(2, HOST, 8), server(3, HOST, 7), server(4, HOST, 8)];
    let mut w = World::new();
    w.open(&ends);
    for e in ends {
        w.talk(e, 1, 2);
    }
    assert_eq!(w.pairs(), [(1, 3), (2, 4)]);
    assert!(w.refused().is_empty());
}

#[test]
fn loopback_never_pairs_across_namespaces() {
    let (c, s) = (client(1, HOST, 7), server(2, HOST, 8));
    let mut w = World::new();
    w.open(&[c, s]).talk(c, 1, 2).talk(s, 1, 2).pass(SETTLE).pass(WAIT);
    assert_eq!((w.pairs(), w.refused()), (vec![], vec![(1, Reason::NoPeer), (2, Reason::NoPeer)]));

    // Nor where the kernel does not tell the namespace.
    let (c, s) = (client(1, HOST, 0), server(2, HOST, 0));
    let mut w = World::new();
    w.open(&[c, s]).talk(c, 1, 2).talk(s, 1, 2).pass(SETTLE).pass(WAIT);
    assert!(w.pairs().is_empty());
}

#[test]
fn across_namespaces_both_directions_are_needed_and_a_moment_to_settle() {
    let (c, s) = (client(1, CONTAINER, 7), server(2, CONTAINER, 8));
    let mut w = World::new();
    w.open(&[c, s]).talk(c, 1, 2).verify(s).prefix(s, Direction::Received, 1).pass(SETTLE);
    assert!(w.effects.is_empty());
    w.prefix(s, Direction::Sent, 2);
    assert!(w.effects.is_empty());
    w.pass(SETTLE);
    assert_eq!(w.pairs(), [(1, 2)]);
}

#[test]
fn one_tuple_on_several_networks_is_refused_for_all() {
    let ends = [client(1, CONTAINER, 7), client(2, CONTAINER, 8), server(3, CONTAINER, 9), server(4, CONTAINER, 10)];
    let mut w = World::new();
    w.open(&ends);
    for e in ends {
        w.talk(e, 1, 2);
    }
    w.pass(SETTLE);
    assert_eq!(w.refused(), [1, 2, 3, 4].map(|c| (c, Reason::Ambiguous)));
    assert!(w.pairs().is_empty());
}

#[test]
fn one_tuple_on_several_networks_is_told_apart_by_the_bytes() {
    let ends = [client(1, CONTAINER, 7), client(2, CONTAINER, 8), server(3, CONTAINER, 9), server(4, CONTAINER, 10)];
    let mut w = World::new();
    w.open(&ends);
    w.talk(ends[0], 1, 2).talk(ends[1], 1, 3).talk(ends[3], 1, 3).talk(ends[2], 1, 2);
    w.pass(SETTLE);
    // The first pair was shown while the bytes of server 3 were not known yet: it could have been either.
    assert_eq!(w.pairs(), []);
    let mut w = World::new();
    w.open(&ends[..2]).talk(ends[0], 1, 2).talk(ends[1], 1, 3);
    w.open(&ends[2..3]).talk(ends[2], 1, 2).pass(SETTLE);
    w.open(&ends[3..]).talk(ends[3], 1, 3).pass(SETTLE);
    assert_eq!(w.pairs(), [(1, 3), (2, 4)]);
}

#[test]
fn partial_deployment_a_candidate_that_has_said_nothing_yet_counts() {
    // The peers of 1 and of 3 may be without libipc; endpoint 2 has not reached N bytes and is not verified.
    let (c, silent, s) = (client(1, CONTAINER, 7), server(2, CONTAINER, 8), server(3, CONTAINER, 9));
    let mut w = World::new();
    w.open(&[c, silent, s]).talk(c, 1, 2).talk(s, 1, 2).pass(SETTLE);
    assert_eq!(w.refused(), [1, 2, 3].map(|c| (c, Reason::Ambiguous)));
}

#[test]
fn same_first_bytes_a_candidate_that_comes_forward_before_the_decision_counts() {
    let (c, s, late) = (client(1, CONTAINER, 7), server(2, CONTAINER, 8), server(3, CONTAINER, 9));
    let mut w = World::new();
    w.open(&[c, s]).talk(c, 1, 2).talk(s, 1, 2).open(&[late]).pass(SETTLE);
    assert_eq!(w.refused(), [1, 2, 3].map(|c| (c, Reason::Ambiguous)));
}

#[test]
fn overlapping_times_a_candidate_that_has_ended_counts() {
    let (c, gone, s) = (client(1, CONTAINER, 7), server(2, CONTAINER, 8), server(3, CONTAINER, 9));
    let mut w = World::new();
    w.open(&[gone, c]).end(gone).open(&[s]).talk(c, 1, 2).talk(s, 1, 2).pass(SETTLE);
    assert_eq!(w.refused(), [1, 3].map(|c| (c, Reason::Ambiguous)));
}

#[test]
fn overlapping_times_what_was_forgotten_rules_out_who_was_there() {
    let (c, s) = (client(1, CONTAINER, 7), server(3, CONTAINER, 9));
    let mut w = World::remembering(1);
    w.open(&[c]);
    for cookie in [20, 21] {
        let gone = server(cookie, "172.17.0.9", 8);
        w.open(&[gone]).end(gone);
    }
    w.open(&[s]).talk(c, 1, 2).talk(s, 1, 2).pass(SETTLE);
    assert_eq!(w.refused(), [1, 3].map(|c| (c, Reason::Ambiguous)));
}

#[test]
fn a_stream_within_a_namespace_is_no_candidate_for_others() {
    // Two hosts' worth of containers with equal addresses: 1-2 within a namespace, 3-4 across two others.
    let (a, b) = (client(1, CONTAINER, 7), server(2, CONTAINER, 7));
    let (c, d) = (client(3, CONTAINER, 8), server(4, CONTAINER, 9));
    let mut w = World::new();
    w.open(&[a, b, c, d]).talk(a, 1, 2).talk(b, 1, 2).talk(c, 1, 2).talk(d, 1, 2).pass(SETTLE);
    assert_eq!(w.pairs(), [(1, 2), (3, 4)]);
}

#[test]
fn a_proven_peer_that_ended_is_never_replaced() {
    let (a, b, other) = (client(1, CONTAINER, 7), server(2, CONTAINER, 7), server(3, CONTAINER, 8));
    let mut w = World::new();
    w.open(&[a, b]).verify(a).verify(b).end(b).open(&[other]).talk(a, 1, 2).talk(other, 1, 2).pass(SETTLE);
    assert!(w.pairs().is_empty());
}

#[test]
fn a_reused_tuple_never_pairs_with_an_ended_endpoint() {
    let (old, new, s) = (client(1, HOST, 7), client(2, HOST, 7), server(3, HOST, 7));
    let mut w = World::new();
    w.open(&[old]).talk(old, 1, 2).end(old).open(&[s]).talk(s, 1, 2);
    assert!(w.pairs().is_empty());
    w.open(&[new]).talk(new, 1, 2);
    assert_eq!(w.pairs(), [(2, 3)]);
}

#[test]
fn a_reused_tuple_ends_the_endpoint_that_nobody_ended() {
    let (old, new, s) = (client(1, HOST, 7), client(2, HOST, 7), server(3, HOST, 7));
    let mut w = World::new();
    w.open(&[old]).talk(old, 1, 2).open(&[new]).talk(new, 1, 2).open(&[s]).talk(s, 1, 2);
    assert_eq!((w.pairs(), w.refused()), (vec![(2, 3)], vec![(1, Reason::Unverified)]));
    assert!(w.matcher.endpoint(1).is_none());
}

#[test]
fn fork_equal_claims_of_two_sessions_are_one_endpoint() {
    let (c, s) = (client(1, HOST, 7), server(2, HOST, 7));
    let mut w = World::new();
    w.open(&[c, s, s]).talk(c, 1, 2).talk(s, 1, 2);
    assert_eq!(w.pairs(), [(1, 2)]);
    // The child proves possession too, after the decision.
    w.open(&[s]).talk(s, 1, 2);
    assert_eq!(w.pairs(), [(1, 2)]);
}

#[test]
fn fork_an_orphan_waits_for_the_child_to_speak() {
    let (c, s) = (client(1, HOST, 7), server(2, HOST, 7));
    let mut w = World::new();
    w.open(&[c, s]).talk(s, 1, 2).say(Event::Orphaned { cookie: 2 }).talk(c, 1, 2);
    assert!(w.effects.is_empty());
    w.verify(s);
    assert_eq!(w.pairs(), [(1, 2)]);
}

#[test]
fn a_strangers_decision_is_void_once_somebody_proves_possession() {
    let (c, s) = (client(1, HOST, 7), server(2, HOST, 7));
    let mut w = World::new();
    w.open(&[c, s]).say(Event::Stayed { cookie: 2 }).talk(c, 1, 2).talk(s, 1, 2);
    assert_eq!(w.pairs(), [(1, 2)]);
    // The decision of the process that proved possession holds, and the peer need not wait for another.
    let declined = (vec![], vec![(1, Reason::PeerDeclined)]);
    let mut w = World::new();
    w.open(&[c, s]).verify(s).say(Event::Stayed { cookie: 2 }).talk(c, 1, 2).talk(s, 1, 2);
    assert_eq!((w.pairs(), w.refused()), declined);
    let mut w = World::new();
    w.open(&[c, s]).talk(c, 1, 2).verify(s).say(Event::Stayed { cookie: 2 });
    assert_eq!((w.pairs(), w.refused()), declined);
}

#[test]
fn nobody_in_time_is_no_peer_but_a_silent_peer_is_waited_for() {
    let (c, s) = (client(1, HOST, 7), server(2, HOST, 7));
    let mut w = World::new();
    w.open(&[c]).talk(c, 1, 2).pass(WAIT - 10);
    assert!(w.effects.is_empty());
    w.pass(10);
    assert_eq!(w.refused(), [(1, Reason::NoPeer)]);
    assert_eq!(w.matcher.next_deadline(), None);

    let mut w = World::new();
    w.open(&[c, s]).talk(c, 1, 2).pass(WAIT).pass(WAIT).pass(WAIT);
    assert!(w.effects.is_empty());
    w.end(s).pass(WAIT);
    assert_eq!(w.refused(), [(1, Reason::NoPeer)]);
}

#[test]
fn fifty_thousand_endpoints_on_one_machine() {
    let mut w = World::new();
    let port = |i: u64| (addr(HOST, (i % 25_000) as u16 + 10_000), addr(HOST, 80));
    for i in 0..25_000 {
        let (mut c, mut s) = (client(2 * i + 1, HOST, 7), server(2 * i + 2, HOST, 7));
        let (local, peer) = port(i);
        c.claim.tuple = Tuple { local, peer };
        s.claim.tuple = c.claim.tuple.mirrored();
        w.open(&[c, s]).talk(c, 1, 2).talk(s, 1, 2);
    }
    assert_eq!(w.pairs().len(), 25_000);
    assert_eq!(w.matcher.next_deadline(), None);
    assert!(size_of::<matcher::endpoint::Endpoint>() <= 256, "{}", size_of::<matcher::endpoint::Endpoint>());
}

#[test]
fn out_of_step_is_refused() {
    let (c, s) = (client(1, CONTAINER, 7), server(2, CONTAINER, 8));
    let mut w = World::new();
    w.open(&[c, s]).talk(c, 1, 2).talk(s, 1, 2);
    assert_eq!(w.matcher.settling().collect::<Vec<_>>(), [(1, 2)]);
    w.say(Event::OutOfStep { connected: 1, accepted: 2 }).pass(SETTLE);
    assert_eq!((w.pairs(), w.refused()), (vec![], vec![(1, Reason::CountersDiffer), (2, Reason::CountersDiffer)]));
}
