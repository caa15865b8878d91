//! What does a connection cost that is over before anything could be gained?

use std::cell::Cell;

use anyhow::Result;

use super::Question;
use crate::artifacts;
use crate::lab::{Lab, Side, Way};
use crate::process::Process;
use crate::record::Metric;
use crate::runner::{Alternative, Load, Recorder, Sample};

/// The question.
pub const QUESTION: Question = Question {
    name: "connect",
    title: "Connect, one byte there, one byte back, close",
    seconds: 18,
    quick: 2,
    daemon: &[],
    run,
};

const WAYS: [Way; 6] = [Way::Tcp, Way::Shim, Way::ShimClient, Way::ShimServer, Way::NoDaemon, Way::Unix];

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    let count = lab.scope.of(2000, 2000, 100);
    // Each turn has a server address of its own, so that none meets ports that another has used up.
    let turns = &Cell::new(0);
    for load in lab.scope.of(&[Load::Idle, Load::Busy][..], &[Load::Idle], &[Load::Idle]) {
        let alternatives = WAYS.map(|way| Alternative::new(way.name(), move || turn(lab, way, count, turns)));
        let metric = Metric::higher("connections per second", "/s");
        out.case(*load, &[("beside", load.name())], metric, alternatives.into());
    }
    Ok(())
}

fn turn(lab: &Lab, way: Way, count: u32, turns: &Cell<u32>) -> Result<Sample> {
    turns.set(turns.get() + 1);
    let host = format!("127.1.{}.{}", turns.get() / 250, turns.get() % 250 + 1);
    let unix = way == Way::Unix;
    let place = if unix { lab.path().to_string_lossy().into_owned() } else { host };
    let transport = if unix { "unix" } else { "tcp" };
    let mut serve = lab.command(artifacts::CONNECT, way, Side::Server)?;
    let mut server = Process::start(serve.args(["serve", transport, &place]))?;
    let port = server.line()?;
    let address = if unix { place } else { format!("{place}:{port}") };
    let mut talk = lab.command(artifacts::CONNECT, way, Side::Client)?;
    let mut client = Process::start(talk.args(["talk", transport, &address, &count.to_string()]))?;
    let value = client.number()?;
    let times = client.words()?;
    client.finish()?;
    Ok(Sample { value, times, p99_us: None })
}
