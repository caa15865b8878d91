//! The differences that have a name (docs/limits.md).

use std::collections::BTreeSet;

use super::events::{self, Events};
use super::program::{End, Program, Step, is_one_of, verb};
use super::result::{BLOCKED, number, says};

/// One result and the native one.
pub struct Case<'a> {
    /// The program.
    pub program: &'a Program,
    /// The step that was made last. The call may belong to an earlier step and have been ended by this one.
    pub at: usize,
    /// The end that made the call.
    pub end: End,
    /// The call.
    pub words: Vec<&'a str>,
    /// Its native result.
    pub native: &'a str,
    /// Its result under the shim so far.
    pub shim: &'a str,
    /// Whether the call belongs to the last step.
    pub own: bool,
    /// Whether a number was closed or replaced while this call, or one of the peer's, was in poll or select.
    pub left: bool,
    /// Whether the peer has closed or replaced a number while another of its threads was in a call.
    pub closed_beside_a_call: bool,
    /// Whether a stream may be between the transports.
    pub between: bool,
    /// The steps that were calls and succeeded natively.
    pub made: &'a BTreeSet<usize>,
}

/// A named difference. Nothing that follows it can be compared.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) holds: fn(&Case) -> bool,
}

/// The differences that docs/limits.md describes for streams that move.
pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "a write after the peer has closed fails at once",
        holds: |c| {
            let wrote = c.is("send") && number(c.native) > Some(0) && says(c.shim, "EPIPE");
            c.peer_closed() && (wrote || !c.own && c.step_is(c.end, &["send", "fill", "bulk"]))
        },
    },
    Rule {
        name: "how much fits",
        holds: |c| {
            let blocks = c.is("send") && (c.native == BLOCKED) != (c.shim == BLOCKED);
            let full = c.is("fill") && c.peer_closed() && says(c.native, "EAGAIN") != says(c.shim, "EAGAIN");
            let all = c.is("drain") && c.before(c.end.peer(), &["fill"]);
            let waiting = c.is("inq") && c.before(c.end.peer(), &["fill", "bulk"]);
            full || all || waiting || c.before(c.end, &["fill", "bulk"]) && (blocks || c.differs_in_room_only())
        },
    },
    Rule {
        name: "the end of the stream is seen before TCP would have sent it",
        holds: |c| {
            let seen = c.events().is_some_and(|(native, shim)| events::hold(&shim, &native));
            c.peer_ended() && c.looks() && says(c.shim, "RDHUP") && !says(c.native, "RDHUP") && seen
        },
    },
    Rule {
        name: "the end of the stream is there before TCP would have sent it, and a writer is told of it",
        holds: |c| {
            let told = says(c.native, "ECONNRESET") && says(c.shim, "EPIPE");
            c.peer_closed() && told && c.step_is(c.end, &["send", "fill"]) && c.before(c.end.peer(), &["fill", "bulk"])
        },
    },
    Rule {
        name: "an edge more than TCP has",
        holds: |c| c.is("epwait") && c.events().is_some_and(|(native, shim)| c.has_more_edges(&native, &shim)),
    },
    Rule {
        name: "a blocked reader may wake in the middle of what is sent",
        holds: |c| {
            let read = !c.own && c.is("recv");
            // The end has closed its number meanwhile, and the stream ends with its call: between two messages or after
            // both.
            let cut = c.how("sendmmsg") && c.peer_closed();
            (read || cut) && number(c.native) > Some(0) && number(c.shim) > Some(0)
        },
    },
    Rule {
        name: "an edge that only TCP has: the answer to a write after the peer has closed",
        holds: |c| {
            let over = says(c.native, "ERR") || says(c.native, "HUP");
            let written = over && c.peer_closed() && c.before(c.end, &["send", "bulk"]);
            written && c.is("epwait") && c.events().is_some_and(|(native, shim)| c.has_more_edges(&shim, &native))
        },
    },
    Rule {
        name: "a registration that outlives its number, which was closed, has other events or none",
        holds: |c| c.is("epwait") && c.events().is_some_and(|(native, shim)| c.differs_in_outlived(&native, &shim)),
    },
    Rule {
        name: "which of several that are ready come first, where there is no room for all",
        holds: |c| c.has_no_room() && c.events().is_some_and(|(_, shim)| shim.keys().all(|name| c.is_in_force(name))),
    },
    Rule {
        name: "one of several signals comes when the wait for them is over",
        holds: |c| c.before(c.end, &["sigwait"]) && c.has_more_signals(|flags| flags == "IN|RDNORM"),
    },
    Rule {
        name: "a wait past the C library between the transports",
        holds: |c| c.between && c.words[0].starts_with("raw") && c.events().is_some(),
    },
    Rule {
        name: "a wait past the C library after the move sees the HUP of AF_UNIX",
        holds: |c| {
            let more = c.events().is_some_and(|(native, shim)| events::hold(&shim, &native));
            c.words[0].starts_with("raw") && more && says(c.shim, "HUP") && c.peer_ended()
        },
    },
    Rule {
        name: "a registration past the C library beside one that was made through it",
        holds: |c| {
            let less = c.events().is_some_and(|(native, shim)| events::hold(&native, &shim));
            let lost = c.is("epctl") && (says(c.native, "EEXIST") || says(c.shim, "ENOENT"));
            let both = c.has_controlled("rawepctl", "add") && c.has_controlled("epctl", "add");
            (c.is("epwait") && less || lost) && both
        },
    },
    Rule {
        name: "a registration past the C library that outlives its number until ipcd has looked at the socket",
        holds: |c| {
            let more = c.events().is_some_and(|(native, shim)| c.has_more_of_what_is_closed(&native, &shim));
            c.is("epwait") && more
        },
    },
    Rule {
        name: "a change past the C library of a registration that was made through it",
        holds: |c| {
            let changed = ["mod", "del"].iter().any(|op| c.has_controlled("rawepctl", op));
            c.is("epwait") && changed && c.has_controlled("epctl", "add")
        },
    },
    Rule { name: "a signal of room that TCP does not send", holds: |c| c.has_more_signals_of_room() },
    Rule {
        name: "a signal of bytes that a thread waits for in a reading call",
        holds: |c| {
            let waits = c.program.threads > 0 && c.before(c.end, &["recv", "take"]) || c.has_spliced();
            // Of a signal that is no real-time signal only the first is kept.
            let first = (c.is("signals") || c.is("sigwait")) && says(c.shim, "IN") && !says(c.native, "IN");
            waits && (c.has_more_signals(|flags| flags == "IN|RDNORM") || first)
        },
    },
    Rule {
        name: "a number is closed while recvmmsg waits: it ends with the message that was under way",
        holds: |c| {
            let waited = c.how("recvmmsg") && !c.own && c.before(c.end, &["close", "dup2"]);
            waited && number(c.native).is_some() && number(c.native) == number(c.shim)
        },
    },
    Rule {
        name: "signals come from TCP alone between the transports",
        holds: |c| c.between && (c.is("signals") || c.is("sigwait")),
    },
    Rule {
        name: "a program without the shim was given a stream between the transports, with bytes that its parent left unread",
        holds: |c| {
            let ends = c.is("recv") && number(c.shim).is_none_or(|n| n <= 0);
            c.peer_closed() && c.before(c.end.peer(), &["child"]) && (c.between || ends)
        },
    },
    Rule {
        name: "a reset by a program without the shim, which is the last that has the stream",
        holds: |c| {
            let reset = ["ERR", "HUP", "ECONNRESET", "EPIPE", "ENOTCONN"].iter().any(|word| says(c.native, word));
            let released = End::BOTH.iter().any(|end| c.before(*end, &["release"]));
            reset && c.peer_closed() && c.before(c.end.peer(), &["child"]) && released
        },
    },
    Rule {
        name: "a reset at the close, while another thread of the closer is in a call",
        holds: |c| c.closed_beside_a_call && ["ECONNRESET", "ENOTCONN", "EPIPE"].iter().any(|word| says(c.shim, word)),
    },
    Rule {
        name: "the end of a stream is signalled as AF_UNIX has it",
        holds: |c| {
            let more = c.has_more_signals(|flags| flags == "IN|RDNORM");
            let fewer = c.has_fewer_signals(|_| true);
            let ends = says(c.shim, "ERR") || says(c.native, "HUP") || more || fewer;
            // In one process the signals of either end come to both.
            let ended = c.peer_ended() || c.program.one_process && c.before(c.end, &["close", "shutdown"]);
            (c.is("signals") || c.is("sigwait")) && ended && ends
        },
    },
    Rule {
        name: "a number is closed while a plain read waits on the new socket: a reset shows as the end of the stream",
        holds: |c| {
            let left = c.is("recv") && !c.own && c.before(c.end, &["close", "dup2"]);
            left && c.peer_closed() && says(c.native, "ECONNRESET") && number(c.shim) == Some(0)
        },
    },
    Rule {
        name: "ancillary data that is asked for while a call waits",
        holds: |c| {
            (c.how("recvmsg") || c.how("recvmmsg")) && !c.own && c.before(c.end, &["set"]) && says(c.shim, "0x8")
        },
    },
    Rule {
        name: "bytes that TCP had at the sender still arrive when the reader has made room, with a signal",
        holds: |c| c.before(c.end.peer(), &["fill", "bulk"]) && c.has_fewer_signals(|flags| flags == "IN|RDNORM"),
    },
    Rule {
        name: "the time of recvmmsg was over in one of the runs",
        holds: |c| {
            c.how("recvmmsg") && says(c.native, "some") != says(c.shim, "some") && number(c.native) == number(c.shim)
        },
    },
    Rule { name: "a number is closed or replaced while another thread polls it", holds: |c| c.left },
];

/// Whether a call asks for readiness.
pub fn looks(call: &str) -> bool {
    matches!(verb(call), "poll" | "select" | "epwait")
}

impl Case<'_> {
    pub(super) fn is(&self, call: &str) -> bool {
        verb(self.words[0]) == call
    }

    pub(super) fn how(&self, how: &str) -> bool {
        self.words.get(1) == Some(&how)
    }

    /// A check of readiness, without waiting.
    pub(super) fn looks(&self) -> bool {
        looks(self.words[0]) && self.shim != BLOCKED
    }

    /// The events reported natively and under the shim, if the call reports readiness.
    pub(super) fn events(&self) -> Option<(Events, Events)> {
        let read = |result| events::read(verb(self.words[0]), result);
        Some((read(self.native)?, read(self.shim)?))
    }

    /// Whether this end has made or changed a registration, through the library (`epctl`) or past it (`rawepctl`).
    pub(super) fn has_controlled(&self, call: &str, op: &str) -> bool {
        let is = |step: &Step| step.words().first() == Some(&call) && step.words().get(2) == Some(&op);
        self.program.steps[..=self.at].iter().any(|step| is_one_of(step, self.end, &["epctl"]) && is(step))
    }

    /// Whether everything reported natively is reported here, and every other event here belongs to a number that was
    /// closed and registered past the library.
    pub(super) fn has_more_of_what_is_closed(&self, native: &Events, shim: &Events) -> bool {
        let step = |name: &str| self.program.steps.get(name.split_once('@')?.1.parse::<usize>().ok()?.checked_sub(1)?);
        let past = |name: &str| step(name).is_some_and(|step| step.words().first() == Some(&"rawepctl"));
        let closed = |name: &String| !self.is_in_force(name) && past(name);
        events::hold(shim, native) && shim.keys().filter(|name| !native.contains_key(*name)).all(closed)
    }

    /// Whether the two differ only in the flags that report that something can be written.
    pub(super) fn differs_in_room_only(&self) -> bool {
        self.events().is_some_and(|(native, shim)| events::without_room(&native) == events::without_room(&shim))
    }

    /// Whether everything in `few` is in `many`, and everything else in `many` belongs to edge-triggered registrations
    /// that are in force.
    pub(super) fn has_more_edges(&self, few: &Events, many: &Events) -> bool {
        let is_edge = |name: &str| self.mask_in_force(name).is_some_and(|mask| mask >> 31 != 0);
        events::hold(many, few) && many.iter().all(|(name, flags)| few.get(name) == Some(flags) || is_edge(name))
    }

    pub(super) fn is_in_force(&self, name: &str) -> bool {
        self.mask_in_force(name).is_some()
    }

    /// Whether the two differ only in registrations that TCP reports although their number was closed, because a
    /// duplicate keeps the file (epoll(7), question 6). A registration that only the shim reports is stale.
    pub(super) fn differs_in_outlived(&self, native: &Events, shim: &Events) -> bool {
        let mut others = native.keys().chain(shim.keys()).filter(|name| native.get(*name) != shim.get(*name));
        others.all(|name| native.contains_key(name) && !self.is_in_force(name))
    }

    /// Whether the number of events was limited by the caller's array, natively and here.
    pub(super) fn has_no_room(&self) -> bool {
        let most = self.words.get(3).and_then(|most| most.parse().ok());
        self.is("epwait") && most.is_some() && number(self.native) == most && number(self.shim) == most
    }

    /// The mask of an event's registration, if the registration still has this data and its descriptor was not closed
    /// since.
    pub(super) fn mask_in_force(&self, name: &str) -> Option<u32> {
        let (slot, turn) = name.split_once('@')?;
        let at: usize = turn.parse::<usize>().ok()?.checked_sub(1)?;
        let words = self.program.steps.get(at)?.words();
        let mask: u32 = words.get(4)?.parse().ok()?;
        let steps = self.program.steps.get(..self.at)?.iter().enumerate();
        let mut since =
            steps.filter(|(later, _)| *later > at && self.made.contains(later)).map(|(_, step)| step.words());
        let changes = |later: &Vec<&str>| match *later.first().unwrap_or(&"") {
            "close" => later.get(1) == Some(&slot),
            "dup2" => later.get(2) == Some(&slot),
            call => verb(call) == "epctl" && later.get(1) == words.get(1) && later.get(3) == Some(&slot),
        };
        (!since.any(|later| changes(&later))).then_some(mask)
    }

    /// Whether the call reads without taking the bytes.
    pub(super) fn peeks(&self) -> bool {
        let flags = self.words.get(4).and_then(|word| word.parse::<i32>().ok()).unwrap_or_default();
        self.is("recv") && self.words[1].starts_with("recv") && flags & libc::MSG_PEEK != 0
    }

    /// Whether everything that TCP signals was signalled, and every other signal reports room or does not say what it
    /// reports.
    pub(super) fn has_more_signals_of_room(&self) -> bool {
        self.has_more_signals(|what| !what.contains(|c: char| c.is_ascii_uppercase()) || events::is_room(what))
    }

    /// Whether everything that TCP signals was signalled, and every other signal satisfies `may_be`.
    pub(super) fn has_more_signals(&self, may_be: impl Fn(&str) -> bool) -> bool {
        self.are_more_signals(self.shim, self.native, may_be)
    }

    /// Whether TCP signals everything that was signalled, and more that satisfies `may_be`.
    pub(super) fn has_fewer_signals(&self, may_be: impl Fn(&str) -> bool) -> bool {
        self.are_more_signals(self.native, self.shim, may_be)
    }

    fn are_more_signals(&self, more: &str, fewer: &str, may_be: impl Fn(&str) -> bool) -> bool {
        let signals = |result: &str| match result {
            BLOCKED => BTreeSet::new(),
            _ => result.split(' ').skip(1).map(str::to_owned).collect(),
        };
        let (more, fewer): (BTreeSet<String>, BTreeSet<String>) = (signals(more), signals(fewer));
        (self.is("signals") || self.is("sigwait"))
            && more.is_superset(&fewer)
            && more.difference(&fewer).all(|signal| may_be(signal.rsplit(':').next().unwrap_or_default()))
    }

    pub(super) fn step_is(&self, end: End, calls: &[&str]) -> bool {
        is_one_of(&self.program.steps[self.at], end, calls)
    }

    /// Whether an end has made one of these calls so far.
    pub(super) fn before(&self, end: End, calls: &[&str]) -> bool {
        self.program.steps[..=self.at].iter().any(|step| is_one_of(step, end, calls))
    }

    pub(super) fn peer_closed(&self) -> bool {
        self.before(self.end.peer(), &["close"])
    }

    /// Whether this end has read by splice.
    pub(super) fn has_spliced(&self) -> bool {
        let splices = |step: &Step| matches!(step.words()[..], ["recv", "splice", ..]);
        self.program.steps[..=self.at].iter().any(|step| is_one_of(step, self.end, &["recv"]) && splices(step))
    }

    /// Whether the peer has closed, or shut a half.
    pub(super) fn peer_ended(&self) -> bool {
        self.before(self.end.peer(), &["close", "shutdown"])
    }
}
