//! Carries a program out, call by call.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Difference;
use super::compare::{self, Case, Judgement, compared, told};
use super::interpreter::{Interpreter, Progress};
use super::program::{End, Program, Step};
use crate::{Mode, streams};

/// How long a call may take that is over natively.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what is natively ready may need to become so.
const DELAY: Duration = Duration::from_secs(2);
/// How long a settling waits for ipcd.
const SETTLING: Duration = Duration::from_millis(40);
pub(super) const BLOCKED: &str = "blocked";
/// Before the result of a call that was over only when nothing lay unread any more.
pub(super) const LATE: &str = "late ";
/// How many parts a read may come in.
const PARTS: u32 = 4;
const SKIPPED: &str = "skipped";

/// What happened in one step: the result of its own call, and of calls in progress that it ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// The result, or that it blocks, or that its thread was not free.
    pub own: String,
    /// Which threads' calls ended, and how.
    pub others: BTreeMap<(End, usize), String>,
}

/// What happened in all steps.
pub type Trace = Vec<Entry>;

/// A whole run.
pub struct Run {
    /// What happened.
    pub trace: Trace,
    /// The named differences from the expectation that showed.
    pub excused: Vec<&'static str>,
}

/// What both ends are, while a program runs.
struct Machine<'a> {
    program: &'a Program,
    mode: Mode<'a>,
    processes: Vec<Interpreter>,
    /// The calls in progress.
    busy: BTreeMap<(End, usize), String>,
    /// The ports of the ends that connected.
    ports: BTreeMap<usize, u16>,
    /// Which streams the descriptors are.
    streams: BTreeMap<usize, usize>,
    /// A number was closed or replaced while another thread was in poll or select: unspecified (select(2)).
    left: bool,
    excused: Vec<&'static str>,
    /// Nothing more can be compared.
    over: bool,
}

/// Runs a program; if an expectation is given, up to the first difference from it.
pub fn execute(program: &Program, mode: Mode, expected: Option<&Trace>) -> Result<Run, Difference> {
    let count = if program.one_process { 2 * program.threads } else { program.threads };
    let ends = if program.one_process { 1 } else { 2 };
    let processes = (0..ends).map(|i| Interpreter::start(count, mode, i == 1)).collect();
    let mut machine = Machine {
        program,
        mode,
        processes,
        busy: BTreeMap::new(),
        ports: BTreeMap::new(),
        streams: BTreeMap::new(),
        left: false,
        excused: Vec::new(),
        over: false,
    };
    let mut trace = Trace::new();
    for at in 0..program.steps.len() {
        let entry = machine.step(at, expected.and_then(|trace| trace.get(at)))?;
        trace.push(entry);
        if machine.over {
            break;
        }
    }
    Ok(Run { trace, excused: machine.excused })
}

impl Machine<'_> {
    fn process(&mut self, end: End) -> &mut Interpreter {
        let at = if self.program.one_process { 0 } else { end as usize };
        &mut self.processes[at]
    }

    /// The number that a thread of an end has in its process.
    fn number(&self, end: End, thread: usize) -> usize {
        match self.program.threads {
            0 => 0,
            n => (thread.max(1) - 1) % n + 1 + if self.program.one_process && end == End::B { n } else { 0 },
        }
    }

    /// A thread of an end that is not in a call.
    fn idle(&self, end: End) -> Option<usize> {
        (1..=self.program.threads.max(1)).map(|t| self.number(end, t)).find(|t| !self.busy.contains_key(&(end, *t)))
    }

    fn progress(&mut self, end: End, thread: usize, must_end: Option<Duration>) -> String {
        match self.process(end).progress(thread, must_end) {
            Progress::Done(result) => result,
            Progress::Blocked => BLOCKED.into(),
            Progress::Died => "the process died".into(),
        }
    }

    fn call(&mut self, end: End, thread: usize, call: &str, must_end: Option<Duration>) -> String {
        self.process(end).begin(thread, call);
        self.progress(end, thread, must_end)
    }

    /// A call that is none of the program's steps, by any free thread.
    fn helper(&mut self, end: End, call: &str) -> Option<String> {
        let thread = self.idle(end)?;
        let result = self.call(end, thread, call, Some(PATIENCE));
        if result == BLOCKED {
            self.busy.insert((end, thread), call.to_owned());
            return None;
        }
        Some(result)
    }

    fn step(&mut self, at: usize, expected: Option<&Entry>) -> Result<Entry, Difference> {
        let step = &self.program.steps[at];
        let (own, difference) = match step {
            Step::Open { stream, by } => (self.open(*stream, *by).unwrap_or(SKIPPED.into()), None),
            Step::Warm(stream) => (self.warm(*stream).unwrap_or(SKIPPED.into()), None),
            Step::Settle(stream) => (self.settle(*stream), None),
            Step::Take { end, stream, .. } => (self.take(*end, *stream).unwrap_or(SKIPPED.into()), None),
            Step::Bulk { end, how, stream, bytes, .. } => {
                (self.bulk(*end, how, *stream, *bytes).unwrap_or(SKIPPED.into()), None)
            }
            Step::Call { end, thread, call } => self.own_call(at, *end, *thread, call, expected),
        };
        if let Some(difference) = difference {
            return Err(difference);
        }
        let mut entry = Entry { own, others: BTreeMap::new() };
        for ((end, thread), call) in self.busy.clone() {
            let must = expected.and_then(|e| e.others.get(&(end, thread)));
            let result = self.progress(end, thread, must.map(|_| PATIENCE));
            if result == BLOCKED && must.is_none() {
                continue;
            }
            self.busy.remove(&(end, thread));
            let result = compared(&result).to_owned();
            if expected.is_some() {
                let native = must.map_or(BLOCKED, String::as_str);
                self.reconcile(at, (end, thread), &call, native, result.clone(), false)?;
            }
            entry.others.insert((end, thread), result);
        }
        match expected {
            // What is excused goes on as if it had been the same.
            Some(expected) if expected.own != entry.own && !matches!(step, Step::Call { .. }) => {
                match compare::name_of_composed(self.program, at, &expected.own, &entry.own) {
                    Some(name) => {
                        self.excused.push(name);
                        self.over = true;
                        Ok(entry)
                    }
                    None => Err(self.difference(at, &expected.own, &entry.own)),
                }
            }
            Some(expected) => Ok(expected.clone()),
            None => Ok(entry),
        }
    }

    fn difference(&self, step: usize, native: &str, shim: &str) -> Difference {
        let mut shim = shim.to_owned();
        if shim.ends_with(BLOCKED) && !native.ends_with(BLOCKED) {
            self.processes.iter().for_each(|p| shim += &format!("\n{}", p.describe()));
        }
        for stream in self.ports.keys().filter_map(|stream| self.stream(*stream)) {
            shim += &format!(" ({})", stream.reasons.first().unwrap_or(&stream.state));
        }
        Difference { step, native: native.to_owned(), shim }
    }

    fn own_call(
        &mut self,
        at: usize,
        end: End,
        thread: usize,
        call: &str,
        expected: Option<&Entry>,
    ) -> (String, Option<Difference>) {
        let thread = self.number(end, thread);
        // A call that its timeout ends is not left in progress.
        let (timed, call) = call.strip_prefix('!').map_or((false, call), |call| (true, call));
        if self.busy.contains_key(&(end, thread)) || self.meets(end, call) {
            return (SKIPPED.into(), None);
        }
        self.follow(end, call);
        let must = expected.map(|e| e.own.as_str()).filter(|own| *own != BLOCKED);
        let patience = (timed || must.is_some()).then_some(PATIENCE);
        let result = compared(&self.call(end, thread, call, patience)).to_owned();
        if result == BLOCKED {
            self.busy.insert((end, thread), call.to_owned());
        }
        let Some(expected) = expected else { return (result, None) };
        match self.reconcile(at, (end, thread), call, &expected.own, result, true) {
            Ok(()) => (expected.own.clone(), None),
            Err(difference) => (String::new(), Some(difference)),
        }
    }

    /// Which stream a call moves bytes of, and whether it sends.
    fn moves(&self, call: &str) -> Option<(usize, bool)> {
        let words: Vec<&str> = call.split(' ').collect();
        let slot = match words[0] {
            "send" | "sendall" | "recv" => words.get(2),
            "fill" | "drain" | "take" => words.get(1),
            _ => None,
        }?;
        Some((*self.streams.get(&slot.parse().ok()?)?, matches!(words[0], "send" | "sendall" | "fill")))
    }

    /// Whether another call in progress moves bytes of the same direction, or waits while this one would read, or the
    /// other way round: which of two threads comes first is not said.
    fn meets(&self, end: End, call: &str) -> bool {
        let moved = self.moves(call);
        let waits = |call: &str| ["poll", "select", "epwait"].contains(&call.split(' ').next().unwrap_or_default());
        let reads = |call: &str| self.moves(call).is_some_and(|(_, sends)| !sends);
        self.busy.iter().any(|((e, _), other)| {
            let together = moved.is_some() && self.moves(other) == moved;
            *e == end && (together || waits(call) && reads(other) || reads(call) && waits(other))
        })
    }

    /// Keeps account of descriptors.
    fn follow(&mut self, end: End, call: &str) {
        let words: Vec<&str> = call.split(' ').collect();
        let slot = |at: usize| words.get(at).and_then(|word| word.parse::<usize>().ok());
        if let ("dup" | "dup2", Some(from), Some(to)) = (words[0], slot(1), slot(2))
            && let Some(stream) = self.streams.get(&from).copied()
        {
            self.streams.insert(to, stream);
        }
        let polls = |((e, _), busy): (&(End, usize), &String)| {
            *e == end && (busy.starts_with("poll") || busy.starts_with("select"))
        };
        self.left |= matches!(words[0], "close" | "dup2") && self.busy.iter().any(polls);
    }

    /// Whether a result is the expected one, or becomes it when the call is made again, or differs in a way that has
    /// a name.
    fn reconcile(
        &mut self,
        at: usize,
        (end, thread): (End, usize),
        call: &str,
        native: &str,
        mut shim: String,
        own: bool,
    ) -> Result<(), Difference> {
        let start = Instant::now();
        let (mut so_far, mut parts) = (shim.clone(), 0);
        loop {
            let words = call.split(' ').collect();
            let case = Case { program: self.program, at, end, words, native, shim: &so_far, own, left: self.left };
            let name = match compare::judge(&case, &shim) {
                Judgement::Same => return Ok(()),
                Judgement::Named(name) => {
                    self.excused.push(name);
                    return Ok(());
                }
                Judgement::Again(again) if start.elapsed() < DELAY && shim != BLOCKED && parts < PARTS => {
                    std::thread::sleep(Duration::from_millis(1));
                    parts += u32::from(compare::has_bytes(call, &shim));
                    let result = self.call(end, thread, &again, Some(PATIENCE));
                    shim = compared(&result).to_owned();
                    so_far = compare::join(call, &so_far, &shim);
                    continue;
                }
                _ => compare::name(&case),
            };
            let Some(name) = name else {
                let what = format!("{end}{thread} {call}: ");
                return Err(self.difference(at, &(what.clone() + native), &(what + &so_far)));
            };
            self.excused.push(name);
            self.over = true;
            return Ok(());
        }
    }

    fn open(&mut self, stream: usize, by: End) -> Option<String> {
        let family = if self.program.v6 { 6 } else { 4 };
        let (own, peer) = (by.slot(stream), by.peer().slot(stream));
        let listening = self.helper(by.peer(), &format!("listen - {stream} {family}"))?;
        let port = told(&listening, 0)?;
        let connected = self.helper(by, &format!("connect {own} {stream} {family} {port}"))?;
        self.streams.extend([(own, stream), (peer, stream)]);
        self.ports.insert(stream, told(&connected, 0)? as u16);
        self.helper(by.peer(), &format!("accept {peer} {stream}"))?;
        Some("opened".into())
    }

    /// The stream as ipcd knows it; `None` natively.
    fn stream(&self, stream: usize) -> Option<streams::Stream> {
        let all = self.mode.daemon()?.streams();
        streams::at(&all, *self.ports.get(&stream)?).cloned()
    }

    fn warm(&mut self, stream: usize) -> Option<String> {
        for round in 0..200 {
            for end in End::BOTH {
                let (from, to) = (end.slot(stream), end.peer().slot(stream));
                if self.helper(end, &format!("send send {from} 16 0"))? != "= 16" {
                    return Some("cold".into());
                }
                if compared(&self.helper(end.peer(), &format!("take {to} 16"))?) != "all" {
                    return Some("cold".into());
                }
            }
            let settled = match self.mode.daemon() {
                Some(_) if round % 4 == 3 => self.stream(stream).is_some_and(|s| s.is_final() || s.state == "stay"),
                Some(_) => false,
                None => round == 3,
            };
            if settled {
                return Some("warm".into());
            }
        }
        Some("never warm".into())
    }

    fn settle(&mut self, stream: usize) -> String {
        let start = Instant::now();
        while self.mode.daemon().is_some() && start.elapsed() < SETTLING {
            let state = self.stream(stream).map(|s| s.state).unwrap_or_default();
            if ["granted", "dual", "final", "stay", "closed"].contains(&state.as_str()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        String::new()
    }

    fn bulk(&mut self, end: End, how: &str, stream: usize, bytes: usize) -> Option<String> {
        let (own, peer) = (end.slot(stream), end.peer().slot(stream));
        let (send, take) = (format!("sendall {how} {own} {bytes} 0"), format!("take {peer} {bytes}"));
        let thread = self.idle(end)?;
        self.idle(end.peer())?;
        if self.meets(end, &send) || self.meets(end.peer(), &take) {
            return None;
        }
        // One thread cannot do both.
        if self.program.one_process && self.number(end, 1) == self.number(end.peer(), 1) {
            return None;
        }
        let unread = self.unread(end, stream);
        self.process(end).begin(thread, &send);
        self.busy.insert((end, thread), send.clone());
        let taken = self.helper(end.peer(), &take).map_or(BLOCKED.into(), |r| compared(&r).to_owned());
        self.busy.remove(&(end, thread));
        let (mut sent, mut late) = (self.progress(end, thread, Some(PATIENCE)), "");
        if let (Mode::Shim(_), BLOCKED, Some(rest @ 1..), "all") = (self.mode, sent.as_str(), unread, taken.as_str()) {
            // The new socket's writer waits until three quarters of its room are free, and the last piece may be more.
            self.helper(end.peer(), &format!("take {peer} {rest}"));
            (sent, late) = (self.progress(end, thread, Some(PATIENCE)), LATE);
        }
        if sent == BLOCKED {
            self.busy.insert((end, thread), send);
        }
        Some(format!("{late}{} and {taken}", compared(&sent)))
    }

    /// How many bytes an end has sent that its peer has not read.
    fn unread(&mut self, end: End, stream: usize) -> Option<u64> {
        let (own, peer) = (end.slot(stream), end.peer().slot(stream));
        let sent = told(&self.helper(end, &format!("count {own}"))?, 0)?;
        let taken = told(&self.helper(end.peer(), &format!("count {peer}"))?, 1)?;
        Some(sent.saturating_sub(taken))
    }

    fn take(&mut self, end: End, stream: usize) -> Option<String> {
        let own = end.slot(stream);
        let missing = self.unread(end.peer(), stream)?;
        if self.meets(end, &format!("take {own} {missing}")) {
            return None;
        }
        let result = self.helper(end, &format!("take {own} {missing}"))?;
        Some(compared(&result).to_owned())
    }
}
