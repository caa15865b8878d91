//! A matcher, a clock, and the endpoints that it is told about.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::net::SocketAddr;

use matcher::addr::{Addr, Tuple};
use matcher::endpoint::{Facts, Flow, Sequence};
use matcher::pairing::{Config, Effect, Event, Matcher};
use matcher::reason::Reason;
use matcher::wire::{Direction, Opened, Role};

pub(crate) const WAIT: u64 = 10_000;
pub(crate) const SETTLE: u64 = 10;
pub(crate) const HOST: &str = "127.0.0.1";
pub(crate) const CONTAINER: &str = "172.17.0.2";

/// A matcher, a clock, and all decisions so far.
pub(crate) struct World {
    pub matcher: Matcher,
    pub now: u64,
    pub effects: Vec<Effect>,
}

/// One end as the kernel knows it.
#[derive(Clone, Copy)]
pub(crate) struct End {
    pub claim: Opened,
    pub netns: u64,
    pub device: u32,
    pub sequence: Option<Sequence>,
    pub flow: Flow,
}

pub(crate) fn addr(host: &str, port: u16) -> Addr {
    Addr::from(format!("{host}:{port}").parse::<SocketAddr>().unwrap())
}

pub(crate) fn end(cookie: u64, role: Role, host: &str, netns: u64) -> End {
    let tuple = Tuple { local: addr(host, 40_000), peer: addr(host, 80) };
    let tuple = if role == Role::Connected { tuple } else { tuple.mirrored() };
    let (began, opened) = if role == Role::Connected { (100, 110) } else { (50, 120) };
    let claim = Opened { cookie, token: cookie, role, tuple, began, opened };
    End { claim, netns, device: 0, sequence: None, flow: Flow::default() }
}

pub(crate) fn client(cookie: u64, host: &str, netns: u64) -> End {
    end(cookie, Role::Connected, host, netns)
}

pub(crate) fn server(cookie: u64, host: &str, netns: u64) -> End {
    end(cookie, Role::Accepted, host, netns)
}

impl World {
    pub(crate) fn new() -> World {
        World::remembering(1000)
    }

    pub(crate) fn remembering(departed: usize) -> World {
        World::with(Config { wait_peer: WAIT, settle: SETTLE, departed, proof: false })
    }

    /// A matcher that demands the kernel's proof.
    pub(crate) fn with_proof() -> World {
        World::with(Config { wait_peer: WAIT, settle: SETTLE, departed: 1000, proof: true })
    }

    pub(crate) fn with(config: Config) -> World {
        World { matcher: Matcher::new(config), now: 1000, effects: Vec::new() }
    }

    pub(crate) fn say(&mut self, event: Event) -> &mut World {
        self.now += 1;
        self.matcher.handle(self.now, event, &mut self.effects);
        self
    }

    pub(crate) fn open(&mut self, ends: &[End]) -> &mut World {
        for e in ends {
            self.say(Event::Opened(e.claim));
        }
        self
    }

    pub(crate) fn verify(&mut self, e: End) -> &mut World {
        let (netns, device) = (e.netns, e.device);
        let facts = Facts { netns, device, tuple: e.claim.tuple, sequence: e.sequence, flow: e.flow };
        self.say(Event::Verified { claim: e.claim, facts })
    }

    /// Verified, and both directions known. `up` are the bytes from the client to the server.
    pub(crate) fn talk(&mut self, e: End, up: u8, down: u8) -> &mut World {
        let (sent, received) = if e.claim.role == Role::Connected { (up, down) } else { (down, up) };
        self.verify(e).prefix(e, Direction::Sent, sent).prefix(e, Direction::Received, received)
    }

    pub(crate) fn prefix(&mut self, e: End, direction: Direction, byte: u8) -> &mut World {
        self.say(Event::Prefixes { cookie: e.claim.cookie, hashes: direction.alone([byte; 32]) })
    }

    pub(crate) fn end(&mut self, e: End) -> &mut World {
        self.say(Event::Ended { cookie: e.claim.cookie })
    }

    pub(crate) fn pass(&mut self, time: u64) -> &mut World {
        self.now += time;
        self.say(Event::Tick)
    }

    pub(crate) fn pairs(&self) -> Vec<(u64, u64)> {
        let pair = |e: &Effect| match e {
            Effect::Pair { connected, accepted, .. } => Some((*connected, *accepted)),
            Effect::Refuse { .. } => None,
        };
        self.effects.iter().filter_map(pair).collect()
    }

    pub(crate) fn refused(&self) -> Vec<(u64, Reason)> {
        let refused = |e: &Effect| match e {
            Effect::Refuse { cookie, reason } => Some((*cookie, *reason)),
            Effect::Pair { .. } => None,
        };
        let mut all: Vec<_> = self.effects.iter().filter_map(refused).collect();
        all.sort();
        all
    }
}
