//! What do calls cost for which the shim has nothing to gain?

use anyhow::{Context, Result};

use super::Question;
use crate::artifacts;
use crate::lab::Lab;
use crate::process::Process;
use crate::record::Metric;
use crate::runner::{Alternative, Head, Load, Recorder, Sample};
use crate::way::{Side, Way};

/// The question.
pub const QUESTION: Question = Question {
    name: "costs",
    title: "lmbench's questions: calls that have nothing to gain",
    seconds: 27,
    quick: 3,
    daemon: &["--wait-peer", "0.1", "--patience", "0"],
    run,
};

/// The calls, in the order in which `programs/costs.c` prints them, and whether they wait for connections.
const CALLS: [(&str, bool); 9] = [
    ("read", false),
    ("write", false),
    ("open+close", false),
    ("select-100", true),
    ("poll-100", true),
    ("epoll", true),
    ("fork", false),
    ("fork+exec", false),
    ("start", false),
];

/// The connections that the program has open.
#[derive(Clone, Copy)]
struct Beside {
    name: &'static str,
    streams: u32,
    bytes: u32,
}

/// Silent connections have carried no byte, so nothing is decided about them and libipc tracks them; the others stay, as
/// ipcd has decided.
const BESIDE: [Beside; 3] = [
    Beside { name: "no connection", streams: 0, bytes: 0 },
    Beside { name: "1,000 that stay", streams: 1000, bytes: 64 },
    Beside { name: "1,000 silent", streams: 1000, bytes: 0 },
];

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    let millis = lab.scope.of(60, 50, 10);
    for beside in BESIDE.into_iter().take(lab.scope.of(3, 2, 3)) {
        let calls = CALLS.iter().filter(|(_, waits)| !waits || beside.streams > 0);
        let head = |(call, _): &(&str, bool)| {
            Head::new(&[("beside", beside.name), ("call", call)], Metric::lower("time", "ns"))
        };
        let heads: Vec<Head> = calls.map(head).collect();
        let alternative = |(way, name)| Alternative::several(name, move || turn(lab, way, beside, millis));
        let ways = [(Way::Tcp, "no shim"), (Way::ShimClient, "shim"), (Way::NoDaemon, "shim, no ipcd")];
        out.group(Load::Idle, heads, ways.map(alternative).into());
    }
    Ok(())
}

fn turn(lab: &Lab, way: Way, beside: Beside, millis: u32) -> Result<Vec<Sample>> {
    let mut serve = lab.command(artifacts::COSTS, Way::Tcp, Side::Server)?;
    let mut server = Process::start(serve.args(["serve", "127.0.0.1"]))?;
    let address = format!("127.0.0.1:{}", server.line()?);
    let mut talk = lab.command(artifacts::COSTS, way, Side::Client)?;
    talk.args(["talk", &address, &beside.streams.to_string(), &beside.bytes.to_string(), &millis.to_string()]);
    let mut client = Process::start(&mut talk)?;
    client.line()?;
    if way == Way::ShimClient && beside.bytes > 0 {
        wait_until_all_stay(lab, client.pid())?;
    }
    client.go()?;
    let mut samples = Vec::new();
    for (call, _) in CALLS.iter().filter(|(_, waits)| !waits || beside.streams > 0) {
        let line = client.line()?;
        let value = line.strip_prefix(*call).and_then(|rest| rest.trim().parse::<f64>().ok());
        samples.push(value.with_context(|| format!("{line:?} is not about {call}"))?.into());
    }
    client.finish()?;
    Ok(samples)
}

fn wait_until_all_stay(lab: &Lab, pid: u32) -> Result<()> {
    let start = std::time::Instant::now();
    loop {
        let mut streams = lab.daemon().live()?;
        streams.retain(|s| s.is_from(pid));
        let staying = streams.iter().filter(|s| s.state == "stay").count();
        if !streams.is_empty() && staying == streams.len() {
            return Ok(());
        }
        if start.elapsed().as_secs() > 20 {
            anyhow::bail!("{staying} of {} streams stay on TCP", streams.len());
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
