//! How many instructions a call costs, natively and under the shim. Counted with callgrind, so the same every time: a
//! program makes K calls, then 2K, and the difference divided by K leaves out everything else.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Question;
use crate::artifacts;
use crate::lab::Lab;
use crate::process::{Process, output};
use crate::record::Metric;
use crate::runner::{Alternative, Load, Recorder, Scope};
use crate::way::{Side, Way};

/// The question.
pub const QUESTION: Question = Question {
    name: "instructions",
    title: "Instructions in user space of one call (callgrind: the same every time)",
    seconds: 48,
    quick: 5,
    daemon: &[],
    run,
};

/// How many instructions more a read or write call may cost where the shim has nothing to do.
pub const LIMIT: f64 = 15.0;
/// How many calls are counted; twice as many in the second run.
const CALLS: u32 = 1000;

/// The kind of descriptor that the calls act on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// /dev/zero or /dev/null.
    File,
    /// A pipe.
    Pipe,
    /// A TCP stream whose peer has no shim, after ipcd has refused it.
    StayTcp,
    /// The same before ipcd has refused it.
    WaitingTcp,
    /// A TCP stream of a program that finds no ipcd.
    NoDaemonTcp,
    /// A TCP stream that has become a Unix-domain socket.
    FinalTcp,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Target::File => "file",
            Target::Pipe => "pipe",
            Target::StayTcp => "stream that stays on TCP",
            Target::WaitingTcp => "stream that waits for its peer",
            Target::NoDaemonTcp => "stream without ipcd",
            Target::FinalTcp => "stream that has moved",
        }
    }
}

/// Instructions of one call.
#[derive(Clone, Debug)]
pub struct Row {
    /// The function.
    pub call: String,
    /// The kind of descriptor.
    pub target: Target,
    /// Without the shim.
    pub native: f64,
    /// With it.
    pub shim: f64,
    /// The difference.
    pub more: f64,
}

impl Row {
    /// Whether it costs no more than the limit.
    pub fn is_met(&self) -> bool {
        self.more <= LIMIT
    }
}

/// Counts only read and write, on the descriptors that the limit is about.
pub fn limited() -> Result<Vec<Row>> {
    let targets = [Target::File, Target::Pipe, Target::StayTcp];
    let pairs = targets.iter().flat_map(|t| ["read", "write"].map(|call| (call, *t)));
    pairs.map(|(call, target)| row(call, target)).collect()
}

const ALL: [&str; 8] = ["read", "write", "recv", "send", "recvmsg", "sendmsg", "poll", "epoll_wait"];
const NATIVE: &str = "no shim";
/// The name of the alternative with the shim.
pub const SHIM: &str = "shim";

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    artifacts::installed("valgrind")?;
    out.only_once();
    for (target, calls) in counted(lab.scope) {
        for call in calls {
            let one = |shim| {
                Alternative::new(if shim { SHIM } else { NATIVE }, move || Ok(per_call(call, target, shim)?.into()))
            };
            let labels = [("on", target.name()), ("call", call)];
            out.case(Load::Idle, &labels, Metric::lower("instructions", ""), vec![one(false), one(true)]);
        }
    }
    let start = |way, name| Alternative::new(name, move || Ok((start_of_true(way)? as f64).into()));
    let both = vec![start(Way::Tcp, NATIVE), start(Way::NoDaemon, SHIM)];
    out.case(Load::Idle, &[("on", "–"), ("call", "start of /bin/true")], Metric::lower("instructions", ""), both);
    Ok(())
}

fn counted(scope: Scope) -> Vec<(Target, Vec<&'static str>)> {
    let both = vec!["read", "write"];
    match scope {
        Scope::Smoke => vec![(Target::File, vec!["read"])],
        Scope::Quick => vec![(Target::File, both.clone()), (Target::StayTcp, both)],
        Scope::Full => vec![
            (Target::File, both.clone()),
            (Target::Pipe, both.clone()),
            (Target::StayTcp, ALL.into()),
            (Target::WaitingTcp, both.clone()),
            (Target::NoDaemonTcp, both.clone()),
            (Target::FinalTcp, ALL.into()),
        ],
    }
}

fn start_of_true(way: Way) -> Result<u64> {
    let lab = Lab::new(Scope::Smoke, &[])?;
    count(lab.command("valgrind", way, Side::Client)?, &[], &["/bin/true"])
}

fn row(call: &str, target: Target) -> Result<Row> {
    let count = |shim| per_call(call, target, shim).with_context(|| format!("{call} on {target:?}, shim: {shim}"));
    let (native, shim) = (count(false)?, count(true)?);
    Ok(Row { call: call.into(), target, native, shim, more: shim - native })
}

fn per_call(call: &str, target: Target, shim: bool) -> Result<f64> {
    let once = count_calls(call, target, shim, CALLS)?;
    let twice = count_calls(call, target, shim, 2 * CALLS)?;
    Ok((twice as f64 - once as f64) / f64::from(CALLS))
}

fn count_calls(call: &str, target: Target, shim: bool, calls: u32) -> Result<u64> {
    let calls = calls.to_string();
    // A stream whose peer never reports is to be refused soon.
    let lab = Lab::new(
        Scope::Smoke,
        match target {
            Target::StayTcp => &["--wait-peer", "0.05"],
            Target::WaitingTcp => &["--wait-peer", "100"],
            _ => &[],
        },
    )?;
    let way = match (shim, target) {
        (false, _) => Way::Tcp,
        (true, Target::NoDaemonTcp) => Way::NoDaemon,
        (true, _) => Way::Shim,
    };
    let measured = ["--collect-atstart=no", "--toggle-collect=measured"];
    let valgrind = lab.command("valgrind", way, Side::Client)?;
    match target {
        Target::File => return count(valgrind, &measured, &[artifacts::CALLS, call, "null", &calls]),
        Target::Pipe => return count(valgrind, &measured, &[artifacts::CALLS, call, "pipe", &calls]),
        _ => {}
    }
    let peer_way = if target == Target::FinalTcp { way } else { Way::Tcp };
    let mut peer = Process::start(lab.command(artifacts::CALLS, peer_way, Side::Server)?.arg("echo"))?;
    let port = peer.line()?;
    let out = lab.path();
    let program = [artifacts::CALLS, call, &port, &calls];
    let mut counted = Process::start(&mut with_callgrind(valgrind, &out, &measured, &program))?;
    let own_port: u16 = counted.number()?;
    match (shim, target) {
        (true, Target::StayTcp) => lab.daemon().wait_for(own_port, "stay")?,
        (true, Target::WaitingTcp) => lab.daemon().wait_for(own_port, "waiting")?,
        (true, Target::FinalTcp) => lab.daemon().wait_for(own_port, "final")?,
        _ => {}
    }
    counted.go()?;
    counted.finish()?;
    total(&out)
}

fn with_callgrind(mut valgrind: Command, out: &Path, more: &[&str], program: &[&str]) -> Command {
    let out = format!("--callgrind-out-file={}", out.display());
    valgrind.args(["--tool=callgrind", "-q", &out]).args(more).args(program);
    valgrind
}

fn count(valgrind: Command, more: &[&str], program: &[&str]) -> Result<u64> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("callgrind");
    output(&mut with_callgrind(valgrind, &out, more, program)).context("valgrind")?;
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
