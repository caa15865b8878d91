//! Many streams at once.

use std::path::Path;

use anyhow::Result;

use super::Question;
use crate::lab::Lab;
use crate::load::{Address, Ask, echo};
use crate::record::Metric;
use crate::runner::{Alternative, Load, Recorder, Sample};
use crate::way::Way;

/// The question.
pub const QUESTION: Question = Question {
    name: "streams",
    title: "One server, one client, 1 to 512 streams at once, one message under way on each",
    seconds: 48,
    quick: 0,
    daemon: &[],
    run,
};

const WAYS: [Way; 4] = [Way::Tcp, Way::Shim, Way::Unix, Way::Sockmap];

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    let counts = lab.scope.of(&[1, 8, 64, 512][..], &[64], &[64]);
    for load in lab.scope.of(&[Load::Idle, Load::Busy][..], &[Load::Idle], &[Load::Idle]) {
        for connections in counts {
            let ask = Ask { kind: "echo", connections: *connections, size: 64, millis: lab.scope.of(150, 150, 20) };
            let count = connections.to_string();
            let labels = [("beside", load.name()), ("streams", &count)];
            let alternatives = WAYS.map(|way| Alternative::new(way.name(), move || turn(lab, way, ask)));
            out.case(*load, &labels, Metric::higher("messages per second", "/s"), alternatives.into());
        }
    }
    Ok(())
}

fn turn(lab: &Lab, way: Way, ask: Ask) -> Result<Sample> {
    let (_server, address) = echo(lab, way)?;
    let address = match way {
        Way::Unix => Address::Unix(Path::new(&address)),
        _ => Address::Tcp(address.clone()),
    };
    ask.turn(lab, way, &address, |_| Ok(()))
}
