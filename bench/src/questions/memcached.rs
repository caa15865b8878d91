//! memcached and our own client.

use std::path::PathBuf;

use anyhow::Result;

use super::Question;
use crate::artifacts;
use crate::lab::Lab;
use crate::load::{Address, Ask};
use crate::pool::Pool;
use crate::process::Server;
use crate::record::Metric;
use crate::runner::{Alternative, Load, Recorder, Sample};
use crate::servers::{free_port, serve, serve_at};
use crate::way::{Side, Way};

/// The question.
pub const QUESTION: Question = Question {
    name: "memcached",
    title: "memcached, GET, 10,000 items",
    seconds: 50,
    quick: 0,
    daemon: &["--everybody"],
    run,
};

const WAYS: [Way; 4] = [Way::Tcp, Way::Shim, Way::ShimClient, Way::Unix];
const CASES: &[(usize, u32)] = &[(1024, 8), (1, 1), (1, 64), (1024, 1), (1024, 64), (4096, 64)];

/// How the two sides are set up: the way by which they talk, and whether across namespaces.
type Place = (Way, bool);

struct Memcached {
    _server: Server,
    port: u16,
    socket: PathBuf,
}

fn start(lab: &Lab, (way, across): Place) -> Result<Memcached> {
    let mut command = lab.command(artifacts::installed("memcached")?, way, Side::Server)?;
    command.args(["-u", "nobody", "-m", "256", "-t", "1"]);
    let (port, socket) = (free_port()?, lab.socket_path()?);
    let server = if way == Way::Unix {
        serve_at(command.args(["-a", "0777", "-s"]).arg(&socket), &socket)?
    } else {
        lab.place(&mut command, across, Side::Server)?;
        serve(command.args(["-l", lab.host(across), "-p", &port.to_string()]), port)?
    };
    Ok(Memcached { _server: server, port, socket })
}

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    artifacts::installed("memcached")?;
    let servers = Pool::new(|place| start(lab, place));
    for (size, connections) in CASES.iter().take(lab.scope.of(CASES.len(), 1, 1)) {
        one(lab, out, &servers, (false, Load::Idle), &WAYS, (*size, *connections));
    }
    if lab.scope.of(true, false, false) {
        one(lab, out, &servers, (false, Load::Busy), &WAYS, CASES[0]);
    }
    if lab.scope.of(true, false, true) {
        one(lab, out, &servers, (true, Load::Idle), &[Way::Tcp, Way::Shim], CASES[0]);
    }
    Ok(())
}

/// The same between two network namespaces, for the question that has several programs there.
pub fn across(lab: &Lab, out: &mut Recorder, ways: &[Way], connections: u32) -> Result<()> {
    artifacts::installed("memcached")?;
    let servers = Pool::new(|place| start(lab, place));
    one(lab, out, &servers, (true, Load::Idle), ways, (1024, connections));
    Ok(())
}

fn one(
    lab: &Lab,
    out: &mut Recorder,
    servers: &Pool<Place, Memcached>,
    (across, load): (bool, Load),
    ways: &[Way],
    (size, connections): (usize, u32),
) {
    let ask = Ask { kind: "memcached", connections, size, millis: lab.scope.of(150, 100, 20) };
    let turn = move |way| -> Result<Sample> {
        let server = servers.get((way, across))?;
        let address = match way {
            Way::Unix => Address::Unix(&server.socket),
            _ => Address::Tcp(format!("{}:{}", lab.host(across), server.port)),
        };
        ask.turn(lab, way, &address, |command| lab.place(command, across, Side::Client))
    };
    let place = if across { "two namespaces" } else { "one host" };
    let (bytes, count) = (size.to_string(), connections.to_string());
    let labels = [("on", place), ("beside", load.name()), ("item bytes", &*bytes), ("connections", &count)];
    let alternatives = ways.iter().map(|way| Alternative::new(way.name(), move || turn(*way)));
    out.case(load, &labels, Metric::higher("requests per second", "/s"), alternatives.collect());
}
