//! Random histories of a small world, decided by the matcher and by a naive oracle.

#[path = "oracle/naive.rs"]
mod naive;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use matcher::addr::{Addr, Tuple};
use matcher::endpoint::{Facts, Flow, Sequence};
use matcher::pairing::{Config, Effect, Event, Matcher};
use matcher::wire::{Direction, Opened, Role};
use naive::Oracle;
use proptest::prelude::*;

const WAIT: u64 = 40;
const SETTLE: u64 = 2;

/// The facts about one socket of the random world.
#[derive(Clone, Debug)]
struct Socket {
    loopback: bool,
    role: Role,
    netns: u64,
    device: u32,
    bytes: (u8, u8),
    numbers: Option<(u32, u32)>,
    flow: (u32, u32),
}

fn tuple(loopback: bool, role: Role) -> Tuple {
    let host = if loopback { "127.0.0.1" } else { "10.0.0.1" };
    let at = |port: u16| Addr::from(format!("{host}:{port}").parse::<SocketAddr>().unwrap());
    let tuple = Tuple { local: at(4000), peer: at(80) };
    if role == Role::Connected { tuple } else { tuple.mirrored() }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Open { ago: u64 },
    Verify { ago: u64 },
    Prefix(Direction),
    Orphan,
    Stay,
    End,
    Contradict { other: u64 },
    Tick,
}

fn steps() -> impl Strategy<Value = (u64, u64, Step)> {
    let step = prop_oneof![
        6 => (0..6u64).prop_map(|ago| Step::Open { ago }),
        8 => (0..6u64).prop_map(|ago| Step::Verify { ago }),
        7 => Just(Step::Prefix(Direction::Sent)),
        7 => Just(Step::Prefix(Direction::Received)),
        1 => Just(Step::Orphan),
        1 => Just(Step::Stay),
        2 => Just(Step::End),
        1 => (0..6u64).prop_map(|other| Step::Contradict { other }),
        6 => Just(Step::Tick),
    ];
    (0..5u64, 0..6u64, step)
}

fn world() -> impl Strategy<Value = Vec<Socket>> {
    let role = prop_oneof![Just(Role::Connected), Just(Role::Accepted)];
    let byte = || prop_oneof![8 => Just(0u8), 1 => Just(1u8)];
    // Few numbers, so that some mirror each other; most worlds have none.
    let numbers = prop::option::weighted(0.4, (0..2u32, 0..2u32));
    let flow = || prop_oneof![4 => Just(1u32), 1 => Just(2u32), 1 => Just(0u32)];
    let numbers = (numbers, (1..3u32, flow()));
    let place = (0..4u64, prop_oneof![8 => Just(0u32), 1 => 1..3u32]);
    let socket = (prop::bool::weighted(0.4), role, place, byte(), byte(), numbers).prop_map(
        |(loopback, role, (netns, device), s, r, (numbers, flow))| Socket {
            loopback,
            role,
            netns,
            device,
            bytes: (s, r),
            numbers,
            flow,
        },
    );
    prop::collection::vec(socket, 2..7)
}

fn event(world: &[Socket], now: u64, which: u64, step: Step) -> Event {
    let cookie = which % world.len() as u64 + 1;
    let socket = &world[cookie as usize - 1];
    let tuple = tuple(socket.loopback, socket.role);
    let claim =
        |ago: u64| Opened { cookie, token: 0, role: socket.role, tuple, began: now.saturating_sub(ago), opened: now };
    match step {
        Step::Open { ago } => Event::Opened(claim(ago)),
        Step::Verify { ago } => Event::Verified {
            claim: claim(ago),
            facts: Facts {
                netns: socket.netns,
                device: socket.device,
                tuple,
                sequence: socket.numbers.map(|(sent, received)| Sequence { sent, received }),
                flow: Flow { sent: socket.flow.0, received: socket.flow.1 },
            },
        },
        Step::Prefix(direction) => {
            let byte = if direction == Direction::Sent { socket.bytes.0 } else { socket.bytes.1 };
            Event::Prefixes { cookie, hashes: direction.alone([byte; 32]) }
        }
        Step::Orphan => Event::Orphaned { cookie },
        Step::Stay => Event::Stayed { cookie },
        Step::End => Event::Ended { cookie },
        Step::Contradict { other } => Event::OutOfStep { connected: cookie, accepted: other % world.len() as u64 + 1 },
        Step::Tick => Event::Tick,
    }
}

/// Plays a history to both and returns the effects that they agreed on.
fn play(proof: bool, world: &[Socket], history: &[(u64, u64, Step)]) -> Result<Vec<Effect>, TestCaseError> {
    let mut matcher = Matcher::new(Config { wait_peer: WAIT, settle: SETTLE, departed: 1_000_000, proof });
    let (mut oracle, mut now, mut all) = (Oracle::new(proof), 100, Vec::new());
    for (i, (pass, which, step)) in history.iter().enumerate() {
        now += pass;
        let event = event(world, now, *which, *step);
        let mut effects = Vec::new();
        matcher.handle(now, event, &mut effects);
        let mut expected = oracle.handle(now, event);
        effects.sort();
        expected.sort();
        prop_assert_eq!(&effects, &expected, "step {} at {}: {:?}", i, now, event);
        all.extend(effects);
    }
    Ok(all)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn the_matcher_decides_what_the_oracle_decides(
        proof: bool,
        world in world(),
        history in prop::collection::vec(steps(), 1..90),
    ) {
        play(proof, &world, &history)?;
    }
}

/// A comparison proves nothing if nothing ever happens in it.
#[test]
fn the_random_histories_reach_every_kind_of_decision() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = (world(), prop::collection::vec(steps(), 60..90));
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..3000 {
        let (world, history) = strategy.new_tree(&mut runner).unwrap().current();
        for effect in play(false, &world, &history).unwrap() {
            let word = match effect {
                Effect::Pair { connected, accepted, proven } => {
                    let (c, s) = (&world[connected as usize - 1], &world[accepted as usize - 1]);
                    let same = c.netns != 0 && c.netns == s.netns && c.device == s.device;
                    if same {
                        "pair"
                    } else if proven {
                        "pair-by-numbers"
                    } else {
                        "pair-across"
                    }
                }
                Effect::Refuse { reason, .. } => reason.word(),
            };
            *seen.entry(word.to_owned()).or_default() += 1;
        }
    }
    println!("{seen:?}");
    for word in [
        "pair",
        "pair-across",
        "ambiguous",
        "no-peer",
        "hash-differs",
        "counters-differ",
        "peer-declined",
        "pair-by-numbers",
        "translated",
    ] {
        assert!(seen.get(word).is_some_and(|n| *n >= 5), "{word}: {seen:?}");
    }
}
