//! How many instructions a call costs, natively and under the shim. Counted with callgrind, so the same every time: a
//! program makes K calls, then 2K, and the difference divided by K leaves out everything else.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::artifacts;
use crate::daemon::Daemon;
use crate::process::{Mode, Process, command};

/// What a read or write call may cost more where the shim has nothing to do.
pub const LIMIT: f64 = 15.0;
/// Calls that are counted; twice as many in the second run.
const CALLS: u32 = 1000;

/// On what the calls act.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// /dev/zero or /dev/null.
    File,
    /// A pipe.
    Pipe,
    /// A TCP stream whose peer has no shim, after ipcd has refused it.
    StayTcp,
    /// A TCP stream of a program that finds no ipcd.
    NoDaemonTcp,
    /// A TCP stream that has become a Unix-domain socket.
    FinalTcp,
}

/// Instructions of one call.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The function.
    pub call: String,
    /// On what.
    pub target: Target,
    /// Without the shim.
    pub native: f64,
    /// With it.
    pub shim: f64,
    /// The difference.
    pub more: f64,
    /// Whether [`LIMIT`] is asked of it.
    pub limited: bool,
}

impl Row {
    /// Whether it costs no more than it may.
    pub fn is_met(&self) -> bool {
        !self.limited || self.more <= LIMIT
    }
}

/// Everything that is counted here.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Per call.
    pub calls: Vec<Row>,
    /// From the loader's first instruction to the last of /bin/true, without the shim.
    pub start_native: u64,
    /// The same with it.
    pub start_shim: u64,
}

const READING_AND_WRITING: [&str; 8] = ["read", "write", "recv", "send", "readv", "writev", "recvmsg", "sendmsg"];
const WAITING: [&str; 2] = ["poll", "epoll_wait"];

/// Counts read and write only, on what the limit is about.
pub fn limited() -> Result<Vec<Row>> {
    let targets = [Target::File, Target::Pipe, Target::StayTcp];
    let pairs = targets.iter().flat_map(|t| ["read", "write"].map(|call| (call, *t)));
    pairs.map(|(call, target)| row(call, target)).collect()
}

/// Counts everything.
pub fn all() -> Result<Report> {
    let mut rows = limited()?;
    for target in [Target::StayTcp, Target::NoDaemonTcp, Target::FinalTcp] {
        for call in READING_AND_WRITING.iter().chain(&WAITING) {
            rows.push(row(call, target)?);
        }
    }
    let mut seen = HashSet::new();
    rows.retain(|r| seen.insert((r.call.clone(), r.target)));
    let start = |mode| count(command("valgrind", mode)?.env("IPCD_SOCKET", "/nonexistent/s"), &[], &["/bin/true"]);
    Ok(Report { calls: rows, start_native: start(Mode::Native)?, start_shim: start(Mode::NoDaemon)? })
}

fn row(call: &str, target: Target) -> Result<Row> {
    let count = |shim| per_call(call, target, shim).with_context(|| format!("{call} on {target:?}, shim: {shim}"));
    let (native, shim) = (count(false)?, count(true)?);
    let limited = matches!(call, "read" | "write") && matches!(target, Target::File | Target::Pipe | Target::StayTcp);
    Ok(Row { call: call.into(), target, native, shim, more: shim - native, limited })
}

fn per_call(call: &str, target: Target, shim: bool) -> Result<f64> {
    let once = count_calls(call, target, shim, CALLS)?;
    let twice = count_calls(call, target, shim, 2 * CALLS)?;
    Ok((twice as f64 - once as f64) / f64::from(CALLS))
}

fn count_calls(call: &str, target: Target, shim: bool, calls: u32) -> Result<u64> {
    let calls = calls.to_string();
    let daemon = match target {
        // Refused soon: the peer never reports.
        Target::StayTcp => Daemon::start(&["--wait-peer", "0.05"])?,
        _ => Daemon::start(&[])?,
    };
    let mode = match (shim, target) {
        (false, _) => Mode::Native,
        (true, Target::NoDaemonTcp) => Mode::NoDaemon,
        (true, _) => Mode::Shim(&daemon),
    };
    let measured = ["--collect-atstart=no", "--toggle-collect=measured"];
    let mut valgrind = command("valgrind", mode)?;
    match target {
        Target::File => return count(&mut valgrind, &measured, &[artifacts::CALLS, call, "null", &calls]),
        Target::Pipe => return count(&mut valgrind, &measured, &[artifacts::CALLS, call, "pipe", &calls]),
        Target::StayTcp | Target::NoDaemonTcp | Target::FinalTcp => {}
    }
    let peer_mode = if target == Target::FinalTcp { mode } else { Mode::Native };
    let mut peer = Process::start(command(artifacts::CALLS, peer_mode)?.arg("echo"))?;
    let port = peer.line()?;
    let out = daemon.dir().join("callgrind");
    let program = [artifacts::CALLS, call, &port, &calls];
    let mut counted = Process::start(with_callgrind(&mut valgrind, &out, &measured, &program))?;
    let own_port: u16 = counted.number()?;
    match (shim, target) {
        (true, Target::StayTcp) => daemon.wait_for(own_port, "stay")?,
        (true, Target::FinalTcp) => daemon.wait_for(own_port, "final")?,
        _ => {}
    }
    counted.go()?;
    counted.finish()?;
    total(&out)
}

fn with_callgrind<'a>(valgrind: &'a mut Command, out: &Path, more: &[&str], program: &[&str]) -> &'a mut Command {
    let out = format!("--callgrind-out-file={}", out.display());
    valgrind.args(["--tool=callgrind", "-q", &out]).args(more).args(program)
}

fn count(valgrind: &mut Command, more: &[&str], program: &[&str]) -> Result<u64> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("callgrind");
    crate::process::succeeded(with_callgrind(valgrind, &out, more, program).status().context("valgrind")?)?;
    total(&out)
}

/// The sum that callgrind writes at the end of its file.
fn total(out: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(out).with_context(|| format!("valgrind wrote no {}", out.display()))?;
    match text.lines().find_map(|l| l.strip_prefix("totals: ").or_else(|| l.strip_prefix("summary: "))) {
        Some(sum) => Ok(sum.trim().parse()?),
        None => bail!("{} has no total", out.display()),
    }
}

/// For people.
pub fn table(report: &Report) -> String {
    let mut text = format!("{:<12}{:<16}{:>8}{:>8}{:>8}\n", "call", "on", "native", "shim", "more");
    for r in &report.calls {
        let verdict = match (r.limited, r.is_met()) {
            (true, true) => "  met",
            (true, false) => "  NOT MET",
            (false, _) => "",
        };
        let target = format!("{:?}", r.target);
        text += &format!("{:<12}{target:<16}{:>8.1}{:>8.1}{:>+8.1}{verdict}\n", r.call, r.native, r.shim, r.more);
    }
    let (native, shim) = (report.start_native, report.start_shim);
    text + &format!("\nstart of /bin/true: {native} instructions, {shim} under the shim ({:+})\n", shim - native)
}
