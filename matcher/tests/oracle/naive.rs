//! The oracle: goes through every pair of endpoints after every event. Written from the rules of docs/pairing.md, without
//! any index.

use matcher::endpoint::Facts;
use matcher::pairing::{Effect, Event};
use matcher::reason::Reason;
use matcher::wire::{Opened, Role};

use crate::{SETTLE, WAIT};

#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    Open,
    Stayed,
    Refused(Reason),
    Paired,
}

#[derive(Clone, Debug)]
struct End {
    claim: Opened,
    netns: Option<(u64, u32)>,
    asked: bool,
    proven: bool,
    state: State,
    sent: Option<u8>,
    received: Option<u8>,
    due: Option<u64>,
    kin: Option<u64>,
    numbers: Option<(u32, u32)>,
    flow: (u32, u32),
}

/// Everything that ever happened, unsorted.
#[derive(Default)]
pub(crate) struct Oracle {
    live: Vec<End>,
    gone: Vec<End>,
    held: Vec<(u64, u64, u64)>,
    proof: bool,
    out: Vec<Effect>,
}

fn in_turn(a: &End, b: &End) -> bool {
    let (c, s) = match (a.claim.role, b.claim.role) {
        (Role::Connected, Role::Accepted) => (a, b),
        (Role::Accepted, Role::Connected) => (b, a),
        _ => return false,
    };
    a.claim.cookie != b.claim.cookie && c.claim.began <= s.claim.opened
}

fn mirrored(a: &End, b: &End) -> bool {
    a.claim.tuple.local == b.claim.tuple.peer && a.claim.tuple.peer == b.claim.tuple.local
}

fn could_be(a: &End, b: &End) -> bool {
    in_turn(a, b) && mirrored(a, b)
}

fn same_place(a: &End, b: &End) -> bool {
    a.netns.is_some() && a.netns == b.netns
}

/// Whether the sequence numbers are those of one stream, if both are known.
fn same_numbers(a: &End, b: &End) -> Option<bool> {
    let (a, b) = (a.numbers?, b.numbers?);
    Some(a == (b.1, b.0))
}

/// What all of the kernel's numbers say.
fn same_stream(a: &End, b: &End) -> Option<bool> {
    let contradicts = |(sent, _): (u32, u32), (_, received): (u32, u32)| received != 0 && received != sent;
    let contradicted = contradicts(a.flow, b.flow) || contradicts(b.flow, a.flow);
    let silent = a.flow.1 == 0 && b.flow.1 == 0;
    let at_home = same_place(a, b) && could_be(a, b);
    Some(same_numbers(a, b)? && (at_home || !(contradicted || silent)))
}

fn differ(a: Option<u8>, b: Option<u8>) -> bool {
    a.is_some() && b.is_some() && a != b
}

fn candidates(a: &End, b: &End) -> bool {
    let loopback = a.claim.tuple.local.is_loopback();
    let apart = a.netns.is_some() && b.netns.is_some() && a.netns != b.netns;
    let taken = a.kin.is_some_and(|k| k != b.claim.cookie) || b.kin.is_some_and(|k| k != a.claim.cookie);
    let unlike = differ(a.sent, b.received) || differ(a.received, b.sent);
    let unreachable = loopback && apart;
    could_be(a, b) && !unreachable && !taken && !unlike && same_stream(a, b) != Some(false)
}

fn shown_across(a: &End, b: &End) -> bool {
    let same = a.netns.is_some() && a.netns == b.netns;
    let both = a.sent.is_some() && a.received.is_some() && a.sent == b.received && a.received == b.sent;
    let ready = a.state == State::Open && b.state == State::Open && a.proven && b.proven;
    !a.claim.tuple.local.is_loopback() && !same && both && ready && candidates(a, b)
}

impl Oracle {
    pub(crate) fn new(proof: bool) -> Oracle {
        Oracle { proof, ..Oracle::default() }
    }

    fn at(&self, cookie: u64) -> Option<usize> {
        self.live.iter().position(|e| e.claim.cookie == cookie)
    }

    fn refuse(&mut self, cookie: u64, reason: Reason) {
        if let Some(i) = self.at(cookie)
            && self.live[i].state == State::Open
        {
            self.live[i].state = State::Refused(reason);
            self.out.push(Effect::Refuse { cookie, reason });
        }
    }

    fn end(&mut self, cookie: u64) {
        let Some(i) = self.at(cookie) else { return };
        let mut e = self.live.remove(i);
        if e.state == State::Paired || e.kin.is_some() {
            return;
        }
        e.state = State::Stayed;
        self.gone.retain(|g| g.claim.cookie != cookie || g.claim.tuple != e.claim.tuple);
        self.gone.push(e);
    }

    fn pair(&mut self, a: &End, b: &End) {
        let (c, s) = if a.claim.role == Role::Connected { (a, b) } else { (b, a) };
        let (connected, accepted) = (c.claim.cookie, s.claim.cookie);
        for e in self.live.iter_mut().filter(|e| e.claim.cookie == connected || e.claim.cookie == accepted) {
            e.state = State::Paired;
        }
        self.out.push(Effect::Pair { connected, accepted, proven: a.kin.is_some() });
    }

    fn look(&mut self, now: u64, cookie: u64, held: Option<(u64, u64)>) {
        let Some(i) = self.at(cookie) else { return };
        let a = self.live[i].clone();
        if a.state != State::Open || !a.proven {
            return;
        }
        if let Some(kin) = a.kin {
            let Some(b) = self.live.iter().find(|e| e.claim.cookie == kin).cloned() else { return };
            if b.state == State::Stayed {
                self.refuse(cookie, Reason::PeerDeclined);
            }
            if b.state != State::Open || !b.proven {
                return;
            }
            if differ(a.sent, b.received) || differ(a.received, b.sent) {
                self.refuse(a.claim.cookie, Reason::HashDiffers);
                self.refuse(b.claim.cookie, Reason::HashDiffers);
            } else if (a.sent.is_some() && b.received.is_some()) || (a.received.is_some() && b.sent.is_some()) {
                self.pair(&a, &b);
            }
            return;
        }
        if self.proof {
            return;
        }
        let shown: Vec<End> = self.live.iter().filter(|b| shown_across(&a, b)).cloned().collect();
        let Some(b) = shown.first() else { return };
        let everybody: Vec<&End> = self.live.iter().chain(&self.gone).collect();
        let of_a = everybody.iter().filter(|x| candidates(&a, x) && x.claim.cookie != b.claim.cookie).count();
        let of_b = everybody.iter().filter(|x| candidates(b, x) && x.claim.cookie != a.claim.cookie).count();
        if of_a + of_b > 0 {
            let concerned = |x: &&End| candidates(&a, x) || shown.iter().any(|b| candidates(b, x));
            let all: Vec<u64> = self.live.iter().filter(concerned).map(|x| x.claim.cookie).collect();
            for cookie in all {
                self.refuse(cookie, Reason::Ambiguous);
            }
            return;
        }
        let (c, s) = if a.claim.role == Role::Connected { (&a, b) } else { (b, &a) };
        if held == Some((c.claim.cookie, s.claim.cookie)) {
            self.pair(&a, b);
        } else {
            self.held.push((now + SETTLE, c.claim.cookie, s.claim.cookie));
        }
    }

    fn verified(&mut self, now: u64, claim: Opened, facts: Facts) {
        let Some(i) = self.at(claim.cookie) else { return };
        let e = &mut self.live[i];
        if !e.asked && e.state == State::Stayed {
            e.state = State::Open;
        }
        e.asked = true;
        e.proven = true;
        e.claim = Opened { tuple: facts.tuple, ..claim };
        e.netns = Some((facts.netns, facts.device)).filter(|(netns, _)| *netns != 0);
        e.numbers = facts.sequence.map(|s| (s.sent, s.received));
        e.flow = (facts.flow.sent, facts.flow.received);
        let me = e.clone();
        let near = |o: &&End| same_place(o, &me) && o.claim.cookie != me.claim.cookie;
        let stale: Vec<u64> =
            self.live.iter().filter(near).filter(|o| o.claim.tuple == me.claim.tuple).map(|o| o.claim.cookie).collect();
        for cookie in stale {
            self.refuse(cookie, Reason::Unverified);
            self.end(cookie);
        }
        let with_mine = |o: &&End| same_stream(&me, o) == Some(true) && in_turn(&me, o);
        let kin = match self.live.iter().filter(with_mine).collect::<Vec<_>>().as_slice() {
            [one] => Some((*one).clone()),
            _ => {
                self.live.iter().filter(near).find(|o| could_be(&me, o) && same_stream(&me, o) != Some(false)).cloned()
            }
        };
        if let Some(kin) = kin
            && me.kin.is_none_or(|k| k == kin.claim.cookie)
            && kin.kin.is_none_or(|k| k == me.claim.cookie)
        {
            let (i, j) = (self.at(me.claim.cookie).unwrap(), self.at(kin.claim.cookie).unwrap());
            self.live[i].kin = Some(kin.claim.cookie);
            self.live[j].kin = Some(me.claim.cookie);
        }
        self.look(now, claim.cookie, None);
    }

    fn tick(&mut self, now: u64) {
        loop {
            self.held.sort();
            if self.held.first().is_none_or(|h| h.0 > now) {
                break;
            }
            let (_, c, s) = self.held.remove(0);
            self.look(now, c, Some((c, s)));
        }
        for i in 0..self.live.len() {
            let e = self.live[i].clone();
            if e.state != State::Open || e.due.is_none_or(|d| d > now) {
                continue;
            }
            let there: Vec<&End> = self.live.iter().filter(|o| candidates(&e, o)).collect();
            if there.iter().any(|o| o.state == State::Open) {
                self.live[i].due = Some(now + WAIT);
                continue;
            }
            let unlike = |o: &End| could_be(&e, o) && (differ(e.sent, o.received) || differ(e.received, o.sent));
            let alike = |o: &End| {
                let same = e.sent.is_some() && e.received.is_some() && e.sent == o.received && e.received == o.sent;
                same && in_turn(&e, o) && !mirrored(&e, o) && e.numbers.is_none() && o.state != State::Paired
            };
            let unproven = |o: &End| {
                let alike = same_numbers(&e, o) == Some(true) && in_turn(&e, o);
                alike && same_stream(&e, o) == Some(false)
            };
            // If several candidates will not move, the one with the lowest cookie gives the reason.
            let reason = match there.iter().min_by_key(|o| o.claim.cookie).map(|o| o.state) {
                Some(State::Refused(reason)) => reason,
                Some(State::Paired) => Reason::Ambiguous,
                Some(_) => Reason::PeerDeclined,
                None if self.live.iter().any(unlike) => Reason::HashDiffers,
                None if self.live.iter().any(alike) => Reason::Translated,
                None if self.live.iter().any(unproven) => Reason::Unproven,
                None => Reason::NoPeer,
            };
            self.refuse(e.claim.cookie, reason);
        }
    }

    pub(crate) fn handle(&mut self, now: u64, event: Event) -> Vec<Effect> {
        match event {
            Event::Opened(claim) if self.at(claim.cookie).is_none() => self.live.push(End {
                claim,
                netns: None,
                asked: false,
                proven: false,
                state: State::Open,
                sent: None,
                received: None,
                due: None,
                kin: None,
                numbers: None,
                flow: (0, 0),
            }),
            Event::Opened(_) => {}
            Event::Verified { claim, facts } => self.verified(now, claim, facts),
            Event::Prefixes { cookie, hashes: [sent, received] } => {
                let Some(i) = self.at(cookie) else { return Vec::new() };
                let e = &mut self.live[i];
                let before = (e.sent, e.received);
                e.sent = e.sent.or(sent.map(|hash| hash[0]));
                e.received = e.received.or(received.map(|hash| hash[0]));
                if (e.sent, e.received) != before {
                    e.due = e.due.or(Some(now + WAIT));
                    self.look(now, cookie, None);
                }
            }
            Event::Orphaned { cookie } => {
                if let Some(i) = self.at(cookie) {
                    self.live[i].proven = false;
                }
            }
            Event::Stayed { cookie } => {
                if let Some(i) = self.at(cookie)
                    && self.live[i].state == State::Open
                {
                    self.live[i].state = State::Stayed;
                }
                if let Some(kin) = self.at(cookie).and_then(|i| self.live[i].kin) {
                    self.look(now, kin, None);
                }
            }
            Event::OutOfStep { connected, accepted } => {
                self.refuse(connected, Reason::CountersDiffer);
                self.refuse(accepted, Reason::CountersDiffer);
            }
            Event::Ended { cookie } => self.end(cookie),
            Event::Tick => self.tick(now),
        }
        std::mem::take(&mut self.out)
    }
}
