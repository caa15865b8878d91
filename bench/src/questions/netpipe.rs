//! NetPIPE: Debian's NPtcp, and the same in Java.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result};

use super::Question;
use super::echo::java_classes;
use crate::artifacts;
use crate::lab::Lab;
use crate::process::{Process, output};
use crate::record::Metric;
use crate::runner::{Alternative, Head, Load, Recorder, Sample, Scope};
use crate::servers::{free_port, serve};
use crate::way::{Side, Way};

/// The question.
pub const QUESTION: Question = Question {
    name: "netpipe",
    title: "NetPIPE: one message there and back, Debian's NPtcp and one in Java",
    seconds: 33,
    quick: 0,
    daemon: &[],
    run,
};

const SIZES: [usize; 5] = [1, 64, 1024, 8192, 65_536];

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    let heads = |program: &str| -> Vec<Head> {
        let head = |size: usize| {
            Head::new(&[("program", program), ("bytes", &size.to_string())], Metric::lower("round trip", "µs"))
        };
        SIZES.map(head).into()
    };
    match artifacts::installed("NPtcp") {
        Ok(_) => {
            let ways = [Way::Tcp, Way::Shim, Way::Sockmap];
            let alternatives = ways.map(|way| Alternative::several(way.name(), move || nptcp(lab, way, false)));
            out.group(Load::Idle, heads("NPtcp"), alternatives.into());
            if lab.scope == Scope::Full {
                let ways = [Way::Tcp, Way::Shim];
                let alternatives = ways.map(|way| Alternative::several(way.name(), move || nptcp(lab, way, true)));
                out.group(Load::Idle, heads("NPtcp across namespaces"), alternatives.into());
            }
        }
        Err(e) => out.missing("NPtcp".into(), &e),
    }
    match java_classes(lab) {
        Ok(classes) => {
            let classes = &classes;
            let ways = [Way::Tcp, Way::Shim, Way::Unix];
            let alternatives = ways.map(|way| Alternative::several(way.name(), move || java(lab, way, classes)));
            out.group(Load::Idle, heads("Java"), alternatives.into());
        }
        Err(e) => out.missing("Java".into(), &e),
    }
    Ok(())
}

fn nptcp(lab: &Lab, way: Way, across: bool) -> Result<Vec<Sample>> {
    let (port, file) = (free_port()?.to_string(), lab.path());
    // Both programs must get the same arguments.
    let both = ["-P", &port, "-p", "0", "-n", lab.scope.of("300", "300", "50"), "-l", "1", "-u", "65536"];
    let start = |side| -> Result<_> {
        let mut command = lab.command("NPtcp", way, side)?;
        lab.place(&mut command, across, side)?;
        command.args(both).arg("-o").arg(&file).current_dir(lab.dir()).stderr(Stdio::null());
        Ok(command)
    };
    let _receiver = serve(&mut start(Side::Server)?, port.parse()?)?;
    output(start(Side::Client)?.args(["-h", lab.host(across)]))?;
    let text = std::fs::read_to_string(&file)?;
    let found = |size: &usize| -> Result<Sample> {
        let mut rows = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|fields| fields.first() == Some(&size.to_string().as_str()));
        // Bytes, megabits per second, seconds one way.
        let seconds: f64 = row.as_ref().and_then(|r| r.get(2)?.parse().ok()).with_context(|| format!("{text:?}"))?;
        Ok((2e6 * seconds).into())
    };
    SIZES.iter().map(found).collect()
}

fn java(lab: &Lab, way: Way, classes: &PathBuf) -> Result<Vec<Sample>> {
    let address = if way == Way::Unix { lab.path().to_string_lossy().into_owned() } else { "0".into() };
    let start = |side, arguments: &[&str]| {
        let mut command = lab.command("java", way, side)?;
        Process::start(
            command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]).arg(classes).args(arguments),
        )
    };
    let mut server = start(Side::Server, &["NetPipe", "serve", &address])?;
    let port = server.line()?;
    let address = if way == Way::Unix { address } else { port };
    let millis = lab.scope.of("100", "100", "10");
    let sizes: Vec<String> = SIZES.iter().map(usize::to_string).collect();
    let mut client = start(Side::Client, &["NetPipe", "talk", &address, millis, &sizes.join(",")])?;
    let samples = SIZES.iter().map(|_| Ok((client.number::<f64>()? / 1000.0).into())).collect();
    client.finish()?;
    samples
}
