//! A running interpreter, and which of its threads are in a call.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Mode, artifacts};

/// How long a thread is watched before it counts as sleeping.
const LOOK: Duration = Duration::from_micros(300);
/// How many looks at a thread must agree.
const LOOKS: u32 = 3;

/// One process of the victim that makes calls.
pub struct Interpreter {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
    /// The beginning of a line that has not arrived completely.
    partial: Vec<u8>,
    tids: Vec<i64>,
    results: Vec<Option<String>>,
    begun: Vec<bool>,
}

/// The state of a call in progress.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// It has ended, with this result.
    Done(String),
    /// Its thread sleeps.
    Blocked,
    /// The process is gone.
    Died,
}

impl Interpreter {
    /// Starts a process with this many threads that make calls; 0: the main thread makes them.
    pub fn start(threads: usize, mode: Mode, fortified: bool) -> Interpreter {
        let victim = if fortified { artifacts::VICTIM_FORTIFIED } else { artifacts::VICTIM };
        let mut command = Command::new(victim);
        command.args(["differential", &threads.to_string()]).process_group(0);
        mode.apply(&mut command);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("{victim}: {e}"));
        let (to, from) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let mut it = Interpreter {
            child,
            to,
            from,
            partial: Vec::new(),
            tids: vec![0; threads + 1],
            results: vec![None; threads + 1],
            begun: vec![false; threads + 1],
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while it.tids.contains(&0) {
            assert!(it.listen(deadline.saturating_duration_since(Instant::now())), "the interpreter does not start");
        }
        it
    }

    /// Reads what the process has printed; false if it printed nothing in time. What a thread printed before it went to
    /// sleep is included.
    fn listen(&mut self, limit: Duration) -> bool {
        let mut ready = libc::pollfd { fd: self.from.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let limit = libc::timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
        // SAFETY: one entry, and a timeout that outlives the call.
        if unsafe { libc::ppoll(&raw mut ready, 1, &raw const limit, std::ptr::null()) } <= 0 {
            return false;
        }
        let mut bytes = [0; 4096];
        let n = self.from.read(&mut bytes).unwrap_or(0);
        if n == 0 {
            std::thread::sleep(LOOK);
            return false;
        }
        self.partial.extend_from_slice(&bytes[..n]);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            self.hear(String::from_utf8_lossy(&line[..end]).as_ref());
        }
        true
    }

    fn hear(&mut self, line: &str) {
        let mut words = line.splitn(3, ' ');
        let (what, thread) = (words.next().unwrap_or_default(), words.next().and_then(|t| t.parse::<usize>().ok()));
        let thread = thread.filter(|t| *t < self.tids.len()).unwrap_or_else(|| panic!("the interpreter said: {line}"));
        let rest = words.next().unwrap_or_default();
        match what {
            "thread" => self.tids[thread] = rest.parse().expect("a thread"),
            "begin" => self.begun[thread] = true,
            "end" => self.results[thread] = Some(rest.to_owned()),
            _ => panic!("the interpreter said: {line}"),
        }
    }

    /// Begins a call.
    pub fn begin(&mut self, thread: usize, call: &str) {
        self.begun[thread] = false;
        self.results[thread] = None;
        // A process that has died is noticed when its answer is waited for.
        let _ = writeln!(self.to, "{thread} {call}");
    }

    /// Waits until the call of a thread is over, or, unless it `must_end` in time, until its thread sleeps in it.
    pub fn progress(&mut self, thread: usize, must_end: Option<Duration>) -> Progress {
        let start = Instant::now();
        let mut asleep = (0, 0);
        loop {
            // The counter is read first: a thread that sleeps after its call has printed the result before.
            let seen = self.begun[thread].then(|| sleeps(self.child.id(), self.tids[thread])).flatten();
            while self.listen(Duration::ZERO) {}
            if let Some(result) = self.results[thread].take() {
                return Progress::Done(result);
            }
            asleep = match seen {
                Some(switches) if switches == asleep.1 => (asleep.0 + 1, switches),
                Some(switches) => (1, switches),
                None => (0, 0),
            };
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                while self.listen(Duration::from_millis(10)) {}
                return self.results[thread].take().map_or(Progress::Died, Progress::Done);
            }
            let over = must_end.is_none_or(|limit| start.elapsed() > limit);
            // A thread that loops without sleeping has not ended its call either.
            let never = start.elapsed() > must_end.unwrap_or_default() + Duration::from_secs(10);
            if over && asleep.0 >= LOOKS || never {
                return Progress::Blocked;
            }
            self.listen(LOOK);
        }
    }

    /// What the process's threads are doing, for a report.
    pub fn describe(&self) -> String {
        crate::diagnose::describe(self.child.id() as i32)
    }
}

/// The number of times that a thread has gone to sleep, if it sleeps.
fn sleeps(pid: u32, tid: i64) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let sleeping = field("State:")?.starts_with('S');
    let switches = field("voluntary_ctxt_switches:")?.parse().ok()?;
    sleeping.then_some(switches)
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
