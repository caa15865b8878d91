//! One case of the victim (the test program): its output under the shim must equal its native output.

use std::time::Duration;

use crate::run::Outcome;
use crate::{Daemon, Mode, PATIENCE, Program, artifacts, natively, run};

/// How a case is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// Two processes, streams final before the case begins.
    Warm,
    /// Two threads of one process, streams final before the case begins.
    OneProcess,
    /// Two processes, the near end accepts, fortified build, and streams move whenever they can.
    Cold,
}

/// All of them.
pub const ALL: [Layout; 3] = [Layout::Warm, Layout::OneProcess, Layout::Cold];

/// The states of a stream in a process that also has an io_uring: the stream moves only once the program was seen to
/// wait in a read, so a stream whose reads never had to wait does not move.
pub const BESIDE_A_RING: &[&str] = &["unseen-wait", "granted", "dual"];

/// A case of the victim.
#[derive(Clone)]
pub struct Case {
    name: &'static str,
    args: Vec<&'static str>,
    pub(crate) layouts: Vec<Layout>,
    pub(crate) allowed: Vec<&'static str>,
    differences: Vec<(&'static str, &'static str)>,
    limit: Duration,
}

impl Case {
    /// The case of this name, in all layouts, where every stream must become final.
    pub fn new(name: &'static str) -> Case {
        let limit = 4 * PATIENCE;
        Case { name, args: Vec::new(), layouts: ALL.to_vec(), allowed: Vec::new(), differences: Vec::new(), limit }
    }

    /// Runs only in these layouts.
    pub fn only(mut self, layouts: &[Layout]) -> Case {
        self.layouts = layouts.to_vec();
        self
    }

    /// Streams may stay on TCP for these reasons, or in these states ("granted") where nothing makes them final in
    /// time.
    pub fn may_stay(mut self, reasons: &[&'static str]) -> Case {
        self.allowed = reasons.to_vec();
        self
    }

    /// A line that is known to differ once the stream is final, as docs/limits.md says: the native line, and the line
    /// under the shim. A known difference that does not show is as wrong as an unknown one.
    pub fn differs(mut self, native: &'static str, here: &'static str) -> Case {
        self.differences.push((native, here));
        self
    }

    /// Arguments of the case itself.
    pub fn args(mut self, args: &[&'static str]) -> Case {
        self.args = args.to_vec();
        self
    }

    /// The program of one layout and mode.
    pub fn program(&self, layout: Layout, mode: Mode) -> Program {
        let mut args = vec![self.name];
        match layout {
            Layout::Warm => {}
            Layout::OneProcess => args.push("--far=thread"),
            Layout::Cold => args.extend(["--cold", "--near-accepts"]),
        }
        match mode {
            Mode::OnlyNear(_) => args.push("--far-plain"),
            Mode::OnlyFar(_) => args.push("--near-plain"),
            _ => {}
        }
        args.extend(&self.args);
        let path = if layout == Layout::Cold { artifacts::VICTIM_FORTIFIED } else { artifacts::VICTIM };
        Program::new(path, &args).limit(self.limit)
    }

    /// Runs the case in one mode; at a mark `hold` it waits until the streams are final. Panics unless it passed.
    pub fn run(&self, layout: Layout, mode: Mode) -> Outcome {
        self.run_with(layout, mode, |mark| match (held_ports(mark), mode.daemon()) {
            (Some(ports), Some(daemon)) => {
                let limit = PATIENCE + Duration::from_millis(20) * ports.len() as u32;
                daemon.wait_final(&ports, &self.allowed, limit)
            }
            _ => Ok(()),
        })
    }

    /// Runs the case in one mode, with an answer to its marks. Panics unless it passed.
    pub fn run_with(&self, layout: Layout, mode: Mode, answer: impl FnMut(&str) -> Result<(), String>) -> Outcome {
        let program = self.program(layout, mode);
        let outcome = run(&program, mode, answer);
        assert_passed(&outcome, &program, mode);
        outcome
    }

    /// Runs natively, then under the shim, in every layout of the case, and compares.
    pub fn check(&self) {
        for layout in &self.layouts {
            let mut native = self.run(*layout, Mode::Native);
            self.expect_differences(&mut native.lines);
            let daemon = Daemon::eager();
            let mode = Mode::Shim(&daemon);
            let shim = self.run(*layout, mode);
            let again = |lines: &mut Vec<String>| self.expect_differences(lines);
            assert_same_but(&native, &shim, &self.program(*layout, mode), mode, again);
        }
    }

    fn expect_differences(&self, native: &mut [String]) {
        for line in native {
            if let Some((_, here)) = self.differences.iter().find(|(known, _)| known == line) {
                *line = (*here).into();
            }
        }
    }

    /// Runs natively, then in another mode, in the case's first layout, and compares.
    pub fn check_in(&self, mode: Mode) {
        let layout = self.layouts.first().copied().unwrap_or(Layout::Warm);
        let native = self.run(layout, Mode::Native);
        let other = self.run(layout, mode);
        assert_same(&native, &other, &self.program(layout, mode), mode);
    }
}

/// The ports that a mark `hold` names.
pub fn held_ports(mark: &str) -> Option<Vec<u16>> {
    let ports = mark.strip_prefix("hold")?;
    Some(ports.split_whitespace().filter_map(|port| port.parse().ok()).collect())
}

/// Panics with a full report unless the program ended well.
pub fn assert_passed(outcome: &Outcome, program: &Program, mode: Mode) {
    if !outcome.passed() {
        let daemon = mode.daemon().map(|d| {
            // A case may have stopped the daemon.
            d.signal(libc::SIGCONT);
            d.ls().to_string().chars().take(4000).collect::<String>()
        });
        panic!(
            "failed ({:?}): {}\nstderr: {}\nlast lines: {:#?}\n{}\nls: {}",
            outcome.status,
            program.by_hand(mode),
            outcome.stderr,
            outcome.lines.iter().rev().take(12).rev().collect::<Vec<_>>(),
            outcome.hang,
            daemon.unwrap_or_default(),
        );
    }
}

/// Panics with the first lines that differ.
pub fn assert_same(native: &Outcome, other: &Outcome, program: &Program, mode: Mode) {
    assert_same_but(native, other, program, mode, |_| {});
}

/// The same, after `change` has replaced native lines by the ones that are expected here.
pub fn assert_same_but(
    native: &Outcome,
    other: &Outcome,
    program: &Program,
    mode: Mode,
    mut change: impl FnMut(&mut Vec<String>),
) {
    let again = || {
        let mut native = run(program, Mode::Native, |_| Ok(()));
        assert_passed(&native, program, Mode::Native);
        change(&mut native.lines);
        native.lines
    };
    if let Err(text) = natively::compare(&native.lines, &other.lines, again) {
        panic!("differs from {} native runs: {}\n{text}", natively::RUNS, program.by_hand(mode));
    }
}
