//! What do calls cost that have nothing to gain?

use anyhow::{Context, Result};

use super::Question;
use crate::artifacts;
use crate::lab::{Lab, Side, Way};
use crate::process::Process;
use crate::record::Metric;
use crate::runner::{Alternative, Head, Load, Recorder, Sample};

/// The question.
pub const QUESTION: Question = Question {
    name: "costs",
    title: "lmbench's questions: calls that have nothing to gain, beside 1,000 connections to a program without the shim",
    seconds: 60,
    quick: 12,
    daemon: &["--wait-peer", "0.1"],
    run,
};

/// In the order in which `programs/costs.c` prints them.
pub const CALLS: [&str; 9] =
    ["read", "write", "open+close", "select-100", "poll-100", "epoll-1000", "fork", "fork+exec", "start"];

/// What has gone over the connections: nothing, so that they are still watched; or enough for ipcd to say that they stay.
const SAID: [(&str, usize); 2] = [("nothing", 0), ("64 bytes", 64)];

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    let millis = lab.scope.of(60, 50, 10);
    for (said, bytes) in SAID.iter().take(lab.scope.of(2, 1, 2)) {
        let heads = CALLS.map(|call| Head::new(&[("said", said), ("call", call)], Metric::lower("time", "ns")));
        let ways = [Way::Tcp, Way::ShimClient, Way::NoDaemon];
        let names = ["no shim", "shim", "shim, no ipcd"];
        let alternatives = ways.iter().zip(names);
        let alternatives =
            alternatives.map(|(way, name)| Alternative::several(name, || turn(lab, *way, *bytes, millis)));
        out.group(Load::Idle, heads.into(), alternatives.collect());
    }
    Ok(())
}

fn turn(lab: &Lab, way: Way, bytes: usize, millis: u32) -> Result<Vec<Sample>> {
    let mut serve = lab.command(artifacts::COSTS, Way::Tcp, Side::Server)?;
    let mut server = Process::start(serve.args(["serve", "127.0.0.1"]))?;
    let address = format!("127.0.0.1:{}", server.line()?);
    let mut talk = lab.command(artifacts::COSTS, way, Side::Client)?;
    let mut client = Process::start(talk.args(["talk", &address, &bytes.to_string(), &millis.to_string()]))?;
    client.line()?;
    if way == Way::ShimClient && bytes > 0 {
        wait_until_all_stay(lab, client.pid())?;
    }
    client.go()?;
    let mut samples = Vec::new();
    for call in CALLS {
        let line = client.line()?;
        let value = line.strip_prefix(call).and_then(|rest| rest.trim().parse::<f64>().ok());
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
