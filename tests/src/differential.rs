//! The differential tester: programs of socket calls for the two ends of a connection, made from a seed, carried out in
//! lock-step natively and under the shim. Every result, error, byte and readiness must be the same, except for the
//! differences that `rules` names.
//!
//! The victim (`tests/victims/differential*.c`) makes the calls, in one or two processes. A call that would block is
//! left in progress: its result is then that it blocks, and after each further call the tester checks whether it has
//! ended. Before each call everything that was sent has arrived, which the tester asks the kernel (`arrival`): bytes
//! that are missing then are not late. Events of epoll carry the slot and the step that registered them, data that no
//! other registration ever has.
//!
//! A program that differs is run natively some more times, made smaller (`shrink`), and printed as a line that
//! `IPC_PROGRAM` takes. Programs that differed before a defect was mended are kept in `mended.txt`.

pub mod arrival;
pub mod compare;
pub mod events;
pub mod execute;
pub mod generate;
pub mod interpreter;
pub mod program;
pub mod result;
pub mod rules;
pub mod shrink;

use crate::{Daemon, Mode};
use execute::{Trace, execute};
use program::Program;

/// The result of comparing one program.
#[derive(Debug)]
pub enum Verdict {
    /// The same natively and under the shim, with these named differences.
    Same(Vec<&'static str>),
    /// Two native runs differ: the program proves nothing.
    Unclear(String),
    /// A difference that has no name.
    Differs(Difference),
}

/// The first difference of a run under the shim from the native one.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The step, counted from 0.
    pub step: usize,
    /// What happened natively.
    pub native: String,
    /// What happened under the shim.
    pub shim: String,
}

/// The number of native runs that must agree where the run under the shim differs from the first two.
const DOUBTS: u32 = 3;

/// Runs a program natively, twice, and then under the shim. If that run differs, the program runs natively some more
/// times: if those runs do not agree, the difference proves nothing.
pub fn try_program(program: &Program, daemon: &Daemon) -> Verdict {
    let native: Trace = match execute(program, Mode::Native, None) {
        Ok(run) => run.trace,
        Err(e) => return Verdict::Unclear(e.shim),
    };
    if let Err(e) = execute(program, Mode::Native, Some(&native)) {
        return Verdict::Unclear(format!("step {}: {} and then {}", e.step, e.native, e.shim));
    }
    match execute(program, Mode::Shim(daemon), Some(&native)) {
        Ok(run) => Verdict::Same(run.excused),
        Err(difference) => match (0..DOUBTS).find_map(|_| execute(program, Mode::Native, Some(&native)).err()) {
            Some(e) => Verdict::Unclear(format!("step {}: {} and then {}", e.step, e.native, e.shim)),
            None => Verdict::Differs(difference),
        },
    }
}
