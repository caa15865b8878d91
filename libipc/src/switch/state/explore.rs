//! Every interleaving of small runs of the switch, breadth first, over the very code that the shim runs.
//!
//! Two sides are joined by two FIFO pipes: TCP, there from the start, and the new transport, usable once a side has
//! adopted its grant. Each side writes a number of bytes, shuts its writing half and reads to the end of the stream.
//! Byte i of a direction is the number i, so that loss, duplication and disorder show at once. Checked: the order; every
//! state in which a side has not read everything and the end has a next step; and both sides can become final.
//! Dropping any one rule must make a check fail.

use std::collections::{HashSet, VecDeque};

use super::{self as switch, Control, Phase, Receiver, Sender, Transport, is_final, may_fall_back, may_retract};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Item {
    Control(Control),
    Byte(u64),
    End,
}

/// What travels towards a side on one transport.
type Pipe = Vec<Item>;

/// How far a side is in taking its promise back. From the first step on it holds both locks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Retracting {
    No,
    Decided,
    Shut,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Side {
    phase: Phase,
    granted: bool,
    tx: Sender,
    rx: Receiver,
    sent: u64,
    received: u64,
    /// What a blocked reader watches: nothing (it is not blocked), TCP alone, or both.
    blocked: Option<bool>,
    wrote_all: bool,
    read_all: bool,
    tcp: Pipe,
    unix: Pipe,
    /// The reading half of the new transport is shut: nothing more can be written to it.
    refuses: bool,
    retracting: Retracting,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    sides: [Side; 2],
    /// ipcd can still send grants (it may die before it sends both).
    ipcd_alive: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Broken {
    Nothing,
    Promise,
    Offset,
    Kick,
    Drain,
    /// A promise is taken back though bytes have gone over the new transport.
    Moved,
    /// A promise is taken back without asking whether the peer has left TCP meanwhile.
    Unasked,
    /// The end of the new transport is always the end of the stream.
    End,
}

#[derive(Clone, Copy)]
struct Run {
    writes: [u64; 2],
    /// A reader and a writer thread on each side, instead of one thread that does both in turn.
    two_threads: bool,
    /// Sides may decline their grant, ipcd may die between the two grants.
    failures: bool,
    /// Sides may take their promise back.
    retractions: bool,
    broken: Broken,
}

type Outcome<T> = Result<T, String>;

fn side() -> Side {
    Side {
        phase: Phase::Waiting,
        granted: false,
        tx: Sender::NEW,
        rx: Receiver::NEW,
        sent: 0,
        received: 0,
        blocked: None,
        wrote_all: false,
        read_all: false,
        tcp: vec![],
        unix: vec![],
        refuses: false,
        retracting: Retracting::No,
    }
}

impl Side {
    fn bytes_wait(&self) -> bool {
        matches!(self.unix.first(), Some(Item::Byte(_)))
    }

    /// A reader waits on TCP alone while its bytes lie on the new transport.
    fn sleeps_through(&self) -> bool {
        let waits = self.unix.iter().any(|item| matches!(item, Item::Byte(_)));
        waits && self.tcp.is_empty() && self.blocked == Some(false)
    }
}

impl Run {
    /// What the shim does whenever a call on the endpoint enters it: adopt, hear, leave, settle.
    fn enter(&self, me: &mut Side, peer: &mut Side, by_writer: bool) -> Outcome<()> {
        if me.phase == Phase::Waiting && me.granted {
            me.phase = Phase::Dual;
            peer.unix.push(Item::Control(Control::Hello));
            if by_writer && self.broken != Broken::Kick {
                me.blocked = None;
            }
        }
        if me.phase != Phase::Dual {
            return Ok(());
        }
        self.hear(me)?;
        let promised = me.rx.promised || self.broken == Broken::Promise;
        if !peer.refuses
            && let Some(Control::Switch(s)) = me.tx.leave(promised)
        {
            let s = if self.broken == Broken::Offset { s.saturating_sub(1) } else { s };
            peer.unix.push(Item::Control(Control::Switch(s)));
            if me.tx.shut {
                peer.unix.push(Item::End);
            }
        }
        if is_final(&me.tx, &me.rx) {
            me.phase = Phase::Final;
        } else if may_fall_back(&me.tx, &me.rx) {
            me.phase = Phase::Stay;
            peer.unix.push(Item::End);
        }
        if me.phase != Phase::Dual {
            me.blocked = None;
        }
        Ok(())
    }

    fn hear(&self, me: &mut Side) -> Outcome<()> {
        while me.rx.expects_control() && !me.unix.is_empty() {
            match me.unix.remove(0) {
                Item::Control(c) => me.rx.heard(c).map_err(|_| format!("refused {c:?}"))?,
                Item::End => me.rx.lost(),
                Item::Byte(b) => return Err(format!("byte {b} before SWITCH")),
            }
        }
        if self.broken == Broken::Drain && me.rx.leaves_at.is_some() {
            me.rx.on = Transport::Unix;
        }
        self.end_of_new_transport(me);
        Ok(())
    }

    /// Goes back to TCP if the new transport has ended and the stream has not.
    fn end_of_new_transport(&self, me: &mut Side) {
        let ended = me.unix.first() == Some(&Item::End) || (me.refuses && me.unix.is_empty());
        let over = || me.tcp.first() == Some(&Item::End);
        if ended && self.broken != Broken::End && me.rx.is_taken_back(me.tx.on, over) {
            me.rx.lost();
        }
    }

    fn write(&self, me: &mut Side, peer: &mut Side, total: u64) {
        let item = if me.sent == total { Item::End } else { Item::Byte(me.sent) };
        if me.tx.on == Transport::Unix && peer.refuses {
            // EPIPE. A final endpoint does the same, so the phase does not matter.
            me.tx.returns();
        }
        if me.tx.on == Transport::Tcp || item == Item::End {
            peer.tcp.push(item);
        }
        if me.tx.on == Transport::Unix {
            peer.unix.push(item);
        }
        if item == Item::End {
            me.wrote_all = true;
            me.tx.shut = true;
        } else {
            me.sent += 1;
            me.tx.wrote(1);
        }
    }

    /// True if the call returned something, false if it would block.
    fn read(&self, me: &mut Side) -> Outcome<bool> {
        let pipe = match me.rx.on {
            Transport::Tcp => &mut me.tcp,
            Transport::Unix => &mut me.unix,
        };
        if pipe.is_empty() {
            // If this side has shut the new transport, that has ended: the next `hear` goes back to TCP.
            return Ok(false);
        }
        match pipe.remove(0) {
            Item::Control(c) => return Err(format!("the program would read {c:?}")),
            Item::End => me.read_all = true,
            Item::Byte(b) if b != me.received => return Err(format!("read {b} instead of {}", me.received)),
            Item::Byte(_) => {
                me.received += 1;
                me.rx.took(1);
            }
        }
        Ok(true)
    }

    fn steps(&self, world: &World) -> Outcome<Vec<World>> {
        let mut next = vec![];
        self.grants(world, &mut next);
        for i in 0..2 {
            self.retract(world, i, &mut next)?;
            if world.sides[i].retracting != Retracting::No {
                continue;
            }
            let split = |world: &mut World| -> (Side, Side) { (world.sides[i].clone(), world.sides[1 - i].clone()) };
            let mut put = |me: Side, peer: Side| {
                let mut w = world.clone();
                w.sides[i] = me;
                w.sides[1 - i] = peer;
                next.push(w);
            };
            let (me, peer) = split(&mut world.clone());
            if !me.wrote_all {
                let (mut me, mut peer) = (me.clone(), peer.clone());
                if !self.two_threads {
                    me.blocked = None;
                }
                self.enter(&mut me, &mut peer, self.two_threads)?;
                self.write(&mut me, &mut peer, self.writes[i]);
                put(me, peer);
            }
            let on_unix = |s: &Side| !s.unix.is_empty() || (s.refuses && s.rx.on == Transport::Unix);
            let woken = me.blocked.is_none_or(|both| !me.tcp.is_empty() || (both && on_unix(&me)));
            if !me.read_all && woken {
                let (mut me, mut peer) = (me.clone(), peer.clone());
                me.blocked = None;
                self.enter(&mut me, &mut peer, false)?;
                if !self.read(&mut me)? {
                    me.blocked = Some(me.phase >= Phase::Dual && me.phase != Phase::Stay);
                }
                put(me, peer);
            }
        }
        next.retain(|w| w != world);
        Ok(next)
    }

    /// ipcd grants to either side, in any order; with failures it may die in between, and a side may decline.
    fn grants(&self, world: &World, next: &mut Vec<World>) {
        for i in 0..2 {
            let me = &world.sides[i];
            if world.ipcd_alive && !me.granted && me.phase == Phase::Waiting {
                let mut w = world.clone();
                w.sides[i].granted = true;
                next.push(w);
            }
            if self.failures && me.phase == Phase::Waiting && (me.granted || !world.ipcd_alive) {
                let mut w = world.clone();
                w.sides[i].phase = Phase::Stay;
                w.sides[1 - i].unix.push(Item::End);
                next.push(w);
            }
        }
        if self.failures && world.ipcd_alive {
            let mut w = world.clone();
            w.ipcd_alive = false;
            next.push(w);
        }
    }

    /// A side takes its promise back: it decides, shuts its reading half of the new transport, then hears the messages that
    /// the peer had sent until then.
    fn retract(&self, world: &World, i: usize, next: &mut Vec<World>) -> Outcome<()> {
        let mut w = world.clone();
        let me = &mut w.sides[i];
        match me.retracting {
            Retracting::No if !self.retractions || me.phase != Phase::Dual || me.refuses => return Ok(()),
            Retracting::No => {
                self.hear(me)?;
                if self.broken != Broken::Moved && !may_retract(&me.tx, &me.rx, me.bytes_wait()) {
                    return Ok(());
                }
                me.retracting = Retracting::Decided;
            }
            Retracting::Decided => {
                me.refuses = true;
                me.retracting = Retracting::Shut;
            }
            Retracting::Shut => {
                me.retracting = Retracting::No;
                if self.conclude(me)? {
                    w.sides[1 - i].unix.push(Item::End);
                }
            }
        }
        next.push(w);
        Ok(())
    }

    fn conclude(&self, me: &mut Side) -> Outcome<bool> {
        if self.broken != Broken::Unasked {
            self.hear(me)?;
        }
        if self.broken == Broken::Moved {
            (me.tx.used, me.rx.used) = (false, false);
        }
        let waiting = me.bytes_wait() && self.broken != Broken::Moved;
        let done = switch::retract(&mut me.tx, &mut me.rx, waiting);
        if done {
            me.phase = Phase::Stay;
            me.blocked = None;
            me.unix.clear();
        }
        Ok(done)
    }

    fn complete(&self, world: &World) -> bool {
        let [a, b] = &world.sides;
        let done = |s: &Side, total| s.wrote_all && s.read_all && s.received == total;
        done(a, self.writes[1]) && done(b, self.writes[0])
    }

    /// (states visited, whether both sides were final in some of them)
    fn explore(&self) -> Outcome<(usize, bool)> {
        let start = World { sides: [side(), side()], ipcd_alive: true };
        let mut seen = HashSet::from([start.clone()]);
        let mut todo = VecDeque::from([start]);
        let mut both_final = false;
        while let Some(world) = todo.pop_front() {
            let next = self.steps(&world).map_err(|e| format!("{e} in {world:?}"))?;
            if let Some(me) = world.sides.iter().find(|s| s.sleeps_through()) {
                return Err(format!("nothing wakes {me:?}"));
            }
            if next.is_empty() && !self.complete(&world) {
                return Err(format!("no step left in {world:?}"));
            }
            both_final |= world.sides.iter().all(|s| s.phase == Phase::Final);
            for w in next {
                if seen.insert(w.clone()) {
                    todo.push_back(w);
                }
            }
        }
        Ok((seen.len(), both_final))
    }
}

const SIZES: [[u64; 2]; 6] = [[0, 3], [3, 0], [1, 1], [2, 3], [3, 3], [4, 4]];

fn runs(broken: Broken, failures: bool, retractions: bool) -> impl Iterator<Item = Run> {
    let threads = [false, true].into_iter();
    threads.flat_map(move |two_threads| SIZES.map(|writes| Run { writes, two_threads, failures, retractions, broken }))
}

#[test]
fn every_byte_arrives_once_and_in_order_and_both_sides_become_final() {
    for run in runs(Broken::Nothing, false, false) {
        let (states, both_final) = run.explore().unwrap();
        assert!(both_final, "never final: {:?} {}", run.writes, run.two_threads);
        assert!(states > 50, "only {states} states: the search is vacuous");
    }
}

#[test]
fn a_stream_whose_switch_fails_at_any_point_goes_on_over_tcp() {
    for run in runs(Broken::Nothing, true, false).filter(|r| r.writes.iter().sum::<u64>() <= 6) {
        run.explore().unwrap();
    }
}

#[test]
fn a_promise_can_be_taken_back_at_any_point() {
    for (failures, most) in [(false, 5), (true, 2)] {
        for run in runs(Broken::Nothing, failures, true).filter(|r| r.writes.iter().sum::<u64>() <= most) {
            run.explore().unwrap();
        }
    }
}

#[test]
fn every_rule_is_needed() {
    for broken in [Broken::Promise, Broken::Offset, Broken::Kick, Broken::Drain] {
        assert!(runs(broken, false, false).any(|run| run.explore().is_err()), "nothing fails without {broken:?}");
    }
    for broken in [Broken::Moved, Broken::Unasked, Broken::End] {
        assert!(runs(broken, false, true).any(|run| run.explore().is_err()), "nothing fails without {broken:?}");
    }
}
