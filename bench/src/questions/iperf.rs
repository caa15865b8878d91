//! iperf3.

use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Question;
use crate::artifacts;
use crate::lab::Lab;
use crate::process::output;
use crate::record::Metric;
use crate::runner::{Alternative, Load, Recorder, Sample};
use crate::servers::{free_port, serve};
use crate::way::{Side, Way};

/// The question.
pub const QUESTION: Question =
    Question { name: "iperf", title: "iperf3, one second", seconds: 65, quick: 0, daemon: &[], run };

const WAYS: [Way; 3] = [Way::Tcp, Way::Shim, Way::Sockmap];

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    artifacts::installed("iperf3")?;
    let cases = [("1", "131072", false), ("4", "131072", false), ("1", "1024", false), ("1", "131072", true)];
    for (streams, bytes, across) in cases.into_iter().take(lab.scope.of(4, 1, 1)) {
        // sockmap, as it is set up here, short-circuits the loopback only.
        let ways = &WAYS[..if across { 2 } else { lab.scope.of(3, 3, 2) }];
        let turn = move |way| turn(lab, way, across, streams, bytes);
        let alternatives = ways.iter().map(|way| Alternative::new(way.name(), move || turn(*way)));
        let place = if across { "two namespaces" } else { "one host" };
        let labels = [("on", place), ("streams", streams), ("bytes", bytes)];
        out.case(Load::Idle, &labels, Metric::higher("throughput", "MB/s"), alternatives.collect());
    }
    Ok(())
}

fn turn(lab: &Lab, way: Way, across: bool, streams: &str, bytes: &str) -> Result<Sample> {
    let port = free_port()?;
    let host = lab.host(across);
    let mut server = lab.command("iperf3", way, Side::Server)?;
    lab.place(&mut server, across, Side::Server)?;
    let _server = serve(server.args(["-s", "-B", host, "-p", &port.to_string()]).stderr(Stdio::null()), port)?;
    let mut client = lab.command("iperf3", way, Side::Client)?;
    lab.place(&mut client, across, Side::Client)?;
    client.args(["-c", host, "-p", &port.to_string(), "-t", "1", "-i", "0", "-J", "-P", streams, "-l", bytes]);
    let said: Value = serde_json::from_str(&output(&mut client)?).context("iperf3's JSON")?;
    let bits = said["end"]["sum_received"]["bits_per_second"].as_f64();
    let bits = bits.with_context(|| format!("iperf3 said {}", said["error"]))?;
    Ok((bits / 8e6).into())
}
