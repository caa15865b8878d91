//! redis-benchmark against redis-server.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Question;
use crate::artifacts;
use crate::lab::Lab;
use crate::pool::Pool;
use crate::process::{Server, output};
use crate::record::Metric;
use crate::runner::{Alternative, Load, Recorder, Sample};
use crate::servers::{free_port, serve};
use crate::way::{Side, Way};

/// The question.
pub const QUESTION: Question =
    Question { name: "redis", title: "redis-benchmark, GET", seconds: 100, quick: 4, daemon: &[], run };

const WAYS: [Way; 4] = [Way::Tcp, Way::Shim, Way::Unix, Way::Sockmap];

/// A redis-server.
pub struct Redis {
    _server: Server,
    host: &'static str,
    port: u16,
    socket: PathBuf,
}

impl Redis {
    /// Starts it with this way's set-up, on TCP and a Unix-domain socket.
    pub fn start(lab: &Lab, way: Way, across: bool) -> Result<Redis> {
        let mut command = lab.command(artifacts::installed("redis-server")?, way, Side::Server)?;
        lab.place(&mut command, across, Side::Server)?;
        Redis::start_as(lab, command, lab.host(across))
    }

    /// Starts it with this command, at this address.
    pub fn start_as(lab: &Lab, mut command: Command, host: &'static str) -> Result<Redis> {
        let (port, socket) = (free_port()?, lab.path());
        command.args(["--port", &port.to_string(), "--bind", host, "--protected-mode", "no", "--save", "", "--dir"]);
        command.arg(lab.dir());
        command.args(["--maxclients", "1000"]).arg("--unixsocket").arg(&socket);
        Ok(Redis { _server: serve(&mut command, port)?, host, port, socket })
    }

    /// Adds the arguments of redis-benchmark as a user would type them.
    pub fn ask(&self, benchmark: &mut Command, way: Way, asked: &Asked) {
        match way {
            Way::Unix => benchmark.arg("-s").arg(&self.socket),
            _ => benchmark.args(["-h", self.host, "-p", &self.port.to_string()]),
        };
        let (requests, clients, pipeline) = (asked.requests, asked.clients, asked.pipeline);
        benchmark.args(["-t", "get", "--csv", "-n", &requests.to_string(), "-c", &clients.to_string()]);
        benchmark.args(["-P", &pipeline.to_string()]);
    }
}

/// The options of redis-benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Requests of a turn.
    pub requests: u32,
    /// Connections.
    pub clients: u32,
    /// Requests under way on each.
    pub pipeline: u32,
}

/// Runs redis-benchmark to its end.
pub fn result(benchmark: &mut Command) -> Result<Sample> {
    let csv = output(benchmark)?;
    let Some(line) = csv.lines().find(|l| l.starts_with("\"GET\"")) else { bail!("redis-benchmark printed {csv:?}") };
    let field = |n: usize| line.split(',').nth(n)?.trim_matches('"').parse::<f64>().ok();
    let value = field(1).with_context(|| format!("redis-benchmark printed {line:?}"))?;
    Ok(Sample { value, times: Vec::new(), p99_us: field(6).map(|ms| ms * 1000.0) })
}

/// Between two network namespaces, for the question that has several programs there.
pub fn across(lab: &Lab, out: &mut Recorder, ways: &[Way], clients: u32) -> Result<()> {
    artifacts::installed("redis-benchmark")?;
    let servers = &Pool::new(|way| Redis::start(lab, way, true));
    let asked = Asked { requests: if clients == 1 { 5000 } else { 20_000 }, clients, pipeline: 1 };
    let turn = move |way| {
        let mut benchmark = lab.command("redis-benchmark", way, Side::Client)?;
        lab.place(&mut benchmark, true, Side::Client)?;
        servers.get(way)?.ask(&mut benchmark, way, &asked);
        result(&mut benchmark)
    };
    let labels = [("of", "redis-benchmark, GET"), ("clients", &*clients.to_string())];
    let alternatives = ways.iter().map(|way| Alternative::new(way.name(), move || turn(*way)));
    out.case(Load::Idle, &labels, Metric::higher("requests per second", "/s"), alternatives.collect());
    Ok(())
}

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    artifacts::installed("redis-benchmark")?;
    let servers = &Pool::new(|way| Redis::start(lab, way, false));
    let both = &[Load::Idle, Load::Busy][..];
    let cases = [(50, 1, both), (1, 1, &[Load::Idle][..]), (500, 1, &[Load::Idle]), (50, 16, both)];
    for (clients, pipeline, loads) in cases.into_iter().take(lab.scope.of(4, 1, 1)) {
        for load in loads.iter().take(lab.scope.of(2, 1, 1)) {
            // About half a second each.
            let full = if clients == 1 { 10_000 } else { 40_000 * if pipeline > 1 { 8 } else { 1 } };
            let requests = lab.scope.of(full, full, 2000);
            let asked = Asked { requests, clients, pipeline };
            let turn = move |way| {
                let mut benchmark = lab.command("redis-benchmark", way, Side::Client)?;
                servers.get(way)?.ask(&mut benchmark, way, &asked);
                result(&mut benchmark)
            };
            let labels =
                [("clients", &*clients.to_string()), ("pipeline", &pipeline.to_string()), ("beside", load.name())];
            let alternatives = WAYS.map(|way| Alternative::new(way.name(), move || turn(way)));
            out.case(*load, &labels, Metric::higher("requests per second", "/s"), alternatives.into());
        }
    }
    Ok(())
}
