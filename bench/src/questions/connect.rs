//! What does a connection cost that ends before anything could be gained, or soon after?

use std::cell::Cell;

use anyhow::Result;

use super::Question;
use crate::artifacts;
use crate::lab::Lab;
use crate::process::Process;
use crate::record::Metric;
use crate::runner::{Alternative, Load, Recorder, Sample};
use crate::way::{Side, Way};

/// The question.
pub const QUESTION: Question = Question {
    name: "connect",
    title: "Short connections: connect, a message there and back so many times, close",
    seconds: 26,
    quick: 3,
    daemon: &[],
    run,
};

const WAYS: [Way; 6] = [Way::Tcp, Way::Shim, Way::ShimClient, Way::ShimServer, Way::NoDaemon, Way::Unix];

/// (messages there and back, bytes of each)
type Talk = (u32, u32);
/// The label for the number of messages, and the shortest conversation.
pub const EXCHANGES: &str = "exchanges";
/// The shortest conversation.
pub const ONE: &str = "1";
const TALKS: [Talk; 4] = [(1, 1), (8, 64), (32, 64), (128, 64)];

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    let count = lab.scope.of(2000, 2000, 100);
    // Each turn has a server address of its own, so that none runs out of ports that another has used up.
    let turns = &Cell::new(0);
    for talk in lab.scope.of(&TALKS[..], &TALKS[..2], &TALKS[..1]) {
        let (exchanges, bytes) = (talk.0.to_string(), talk.1.to_string());
        // Beside busy neighbours longer connections would measure the scheduler.
        let both = talk.0 == 1;
        for load in lab.scope.of(&[Load::Idle, Load::Busy][..if both { 2 } else { 1 }], &[Load::Idle], &[Load::Idle]) {
            let labels = [("beside", load.name()), (EXCHANGES, &*exchanges), ("bytes", &*bytes)];
            let each = (count / talk.0).max(50);
            let alternatives = WAYS.map(|way| Alternative::new(way.name(), move || turn(lab, way, each, *talk, turns)));
            out.case(*load, &labels, Metric::higher("connections per second", "/s"), alternatives.into());
        }
    }
    Ok(())
}

fn turn(lab: &Lab, way: Way, count: u32, (exchanges, bytes): Talk, turns: &Cell<u32>) -> Result<Sample> {
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
    let mut client = Process::start(talk.args([
        "talk",
        transport,
        &address,
        &count.to_string(),
        &exchanges.to_string(),
        &bytes.to_string(),
    ]))?;
    let value = client.number()?;
    let times = client.words()?;
    client.finish()?;
    Ok(Sample { value, times, p99_us: None })
}
