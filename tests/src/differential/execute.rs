//! Carries a program out, call by call.

mod composed;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::Difference;
use super::arrival::Arrivals;
use super::compare::{self, Judgement};
use super::interpreter::{Interpreter, Progress};
use super::program::{End, Program, Step, is_one_of, verb};
use super::result::{BLOCKED, compared};
use super::rules::{self, Case};
use crate::Mode;

/// How long a call may take that natively ends at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a call may take while ipcd is stopped, if natively it ends at once.
const AT_ONCE: Duration = Duration::from_millis(700);
/// How long ipcd may need to close its copy of a socket, in parts.
const LETTING_GO: Duration = Duration::from_millis(50);
/// How many parts a read may come in.
const PARTS: u32 = 4;
const SKIPPED: &str = "skipped";

/// What happened in one step: the result of its own call, and the results of calls in progress that it ended.
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
    /// The named differences from the expectation that were seen.
    pub excused: Vec<&'static str>,
}

/// The state of both ends while a program runs.
struct Machine<'a> {
    program: &'a Program,
    mode: Mode<'a>,
    processes: Vec<Interpreter>,
    /// The calls in progress.
    busy: BTreeMap<(End, usize), String>,
    /// The ports of the streams: of the end that connected, and of the other.
    ports: BTreeMap<usize, (u16, u16)>,
    arrivals: Arrivals,
    /// Whether ipcd is stopped.
    stopped: bool,
    /// Which streams the descriptors are.
    streams: BTreeMap<usize, usize>,
    /// Calls that were in poll or select while a number was closed or replaced: their result is unspecified
    /// (select(2)).
    left: BTreeSet<(End, usize)>,
    /// Ends that have closed or replaced a number while another of their threads was in a call.
    closed_beside_a_call: BTreeSet<End>,
    /// The steps that were calls and succeeded.
    made: BTreeSet<usize>,
    excused: Vec<&'static str>,
    /// Whether nothing more can be compared.
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
        arrivals: Arrivals::new(),
        stopped: false,
        streams: BTreeMap::new(),
        left: BTreeSet::new(),
        closed_beside_a_call: BTreeSet::new(),
        made: BTreeSet::new(),
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
    Ok(Run { trace, excused: std::mem::take(&mut machine.excused) })
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

    /// A call that is not one of the program's steps, by any free thread.
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
            Step::Stop => (self.stop(), None),
            Step::Resume => (self.resume(), None),
            Step::Take { end, stream, .. } => (self.take(*end, *stream).unwrap_or(SKIPPED.into()), None),
            Step::Bulk { end, how, stream, bytes, .. } => {
                (self.bulk(*end, how, *stream, *bytes).unwrap_or(SKIPPED.into()), None)
            }
            Step::Call { end, thread, call } => self.own_call(at, *end, *thread, call, expected),
        };
        if let Some(difference) = difference {
            return Err(difference);
        }
        self.arrive();
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
            // A step whose difference has a name counts as the same from here on.
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

    fn difference(&mut self, step: usize, native: &str, shim: &str) -> Difference {
        let mut shim = shim.to_owned();
        if shim.ends_with(BLOCKED) && !native.ends_with(BLOCKED) {
            self.processes.iter().for_each(|p| shim += &format!("\n{}", p.describe()));
        }
        for (stream, ports) in self.ports.clone() {
            let known = self.stream(stream);
            let word = known.as_ref().map_or("unknown", |s| s.reasons.first().unwrap_or(&s.state));
            shim += &format!(" ({word}, TCP {:?})", self.arrivals.states(self.program.v6, ports));
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
        // A call that ends by itself, whatever the peer does, is not left in progress.
        let (timed, call) = call.strip_prefix('!').map_or((false, call), |call| (true, call));
        let timed = timed || matches!(verb(call), "child" | "release");
        // Each registration gets data that no other registration had.
        let call = &if verb(call) == "epctl" { format!("{call} {}", at + 1) } else { call.to_owned() };
        if self.busy.contains_key(&(end, thread)) || self.meets(end, call) {
            return (SKIPPED.into(), None);
        }
        self.follow(end, call);
        let must = expected.map(|e| e.own.as_str()).filter(|own| *own != BLOCKED);
        let patience = (timed || must.is_some()).then_some(PATIENCE);
        let start = Instant::now();
        let mut result = compared(&self.call(end, thread, call, patience)).to_owned();
        if result == BLOCKED {
            self.busy.insert((end, thread), call.to_owned());
            self.left.remove(&(end, thread));
        } else if self.stopped && start.elapsed() > AT_ONCE {
            result = format!("waited {:?} for ipcd, {result}", start.elapsed());
        }
        let Some(expected) = expected else { return (result, None) };
        if !expected.own.contains("= -1") {
            self.made.insert(at);
        }
        match self.reconcile(at, (end, thread), call, &expected.own, result, true) {
            Ok(()) => (expected.own.clone(), None),
            Err(difference) => (String::new(), Some(difference)),
        }
    }

    /// The stream whose bytes a call moves, and whether it sends.
    fn moves(&self, call: &str) -> Option<(usize, bool)> {
        let words: Vec<&str> = call.split(' ').collect();
        let slot = match verb(call) {
            "send" | "sendall" | "recv" => words.get(2),
            "fill" | "drain" | "take" => words.get(1),
            _ => None,
        }?;
        Some((*self.streams.get(&slot.parse().ok()?)?, matches!(words[0], "send" | "sendall" | "fill")))
    }

    /// Whether another call in progress moves bytes of the same direction, or waits while this one would read, or the
    /// other way round: it is not determined which of the two threads comes first.
    fn meets(&self, end: End, call: &str) -> bool {
        let moved = self.moves(call);
        let waits = |call: &str| ["poll", "select", "epwait"].contains(&verb(call));
        let reads = |call: &str| self.moves(call).is_some_and(|(_, sends)| !sends);
        self.busy.iter().any(|((e, _), other)| {
            let together = moved.is_some() && self.moves(other) == moved;
            *e == end && (together || waits(call) && reads(other) || reads(call) && waits(other))
        })
    }

    /// Keeps account of the descriptors.
    fn follow(&mut self, end: End, call: &str) {
        let words: Vec<&str> = call.split(' ').collect();
        let slot = |at: usize| words.get(at).and_then(|word| word.parse::<usize>().ok());
        if let ("dup" | "dup2", Some(from), Some(to)) = (words[0], slot(1), slot(2))
            && let Some(stream) = self.streams.get(&from).copied()
        {
            self.streams.insert(to, stream);
        }
        if matches!(words[0], "close" | "dup2") {
            if self.busy.keys().any(|(e, _)| *e == end) {
                self.closed_beside_a_call.insert(end);
            }
            // A call for so many bytes polls in between where the descriptor does not block.
            let may_poll = self.program.steps.iter().any(|step| is_one_of(step, end, &["nonblock"]));
            let polls = |busy: &str| match verb(busy) {
                "poll" | "select" => true,
                "take" | "takeall" => may_poll,
                _ => false,
            };
            self.left.extend(self.busy.iter().filter(|((e, _), busy)| *e == end && polls(busy)).map(|(who, _)| *who));
        }
    }

    /// Waits until the sent bytes have arrived.
    fn arrive(&mut self) {
        for ports in self.ports.values() {
            self.arrivals.wait(self.program.v6, *ports);
        }
    }

    /// Whether a result is the expected one, or becomes it when the call is made again, or has a named difference.
    fn reconcile(
        &mut self,
        at: usize,
        (end, thread): (End, usize),
        call: &str,
        native: &str,
        mut shim: String,
        own: bool,
    ) -> Result<(), Difference> {
        let (mut so_far, mut parts) = (shim.clone(), 0);
        loop {
            let words = call.split(' ').collect();
            // The call that waited there, and the readiness that the peer sees of a number that the call may keep open.
            let left = self.left.contains(&(end, thread)) && !own || self.left.iter().any(|(e, _)| *e == end.peer());
            let between = native != so_far && self.is_any_between();
            let (program, made, shim_so_far) = (self.program, &self.made, so_far.as_str());
            let closed_beside_a_call = self.closed_beside_a_call.contains(&end.peer());
            let case = Case {
                program,
                at,
                end,
                words,
                native,
                shim: shim_so_far,
                own,
                left,
                closed_beside_a_call,
                between,
                made,
            };
            let name = match compare::judge(&case, &shim, parts > 0) {
                Judgement::Same => return Ok(()),
                Judgement::Named(name) => {
                    self.excused.push(name);
                    return Ok(());
                }
                Judgement::Again(again) if shim != BLOCKED && parts < PARTS => {
                    parts += 1;
                    if rules::looks(call) {
                        std::thread::sleep(LETTING_GO);
                    }
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
}
