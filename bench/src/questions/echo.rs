//! Echo servers in other languages, with a client in the same.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::Question;
use crate::artifacts;
use crate::lab::Lab;
use crate::process::{Process, output};
use crate::record::Metric;
use crate::runner::{Alternative, Load, Recorder, Sample};
use crate::way::{Side, Way};

/// The question.
pub const QUESTION: Question = Question {
    name: "echo",
    title: "Echo of 64 bytes in Node.js and Java (NIO), one message under way on each connection",
    seconds: 60,
    quick: 0,
    daemon: &[],
    run,
};

const WAYS: [Way; 3] = [Way::Tcp, Way::Shim, Way::Unix];

/// The compiled Java programs.
pub fn java_classes(lab: &Lab) -> Result<PathBuf> {
    artifacts::installed("java")?;
    let classes = lab.path();
    let mut javac = Command::new(artifacts::installed("javac")?);
    javac.arg("-d").arg(&classes).arg(artifacts::source("programs/NetPipe.java"));
    output(javac.arg(artifacts::source("programs/Echo.java")))?;
    Ok(classes)
}

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    let node = artifacts::installed("node").map(|_| vec![artifacts::source("programs/echo.js").into()]);
    let java = java_classes(lab).map(|classes| {
        ["-XX:+UseSerialGC", "-cp"].map(Into::into).into_iter().chain([classes.into(), "Echo".into()]).collect()
    });
    for (program, arguments) in [("node", node), ("java", java)] {
        let arguments: Vec<std::ffi::OsString> = match arguments {
            Ok(arguments) => arguments,
            Err(e) => {
                out.missing(program.into(), &e);
                continue;
            }
        };
        for connections in lab.scope.of(&["1", "50"][..], &["50"], &["10"]) {
            let arguments = &arguments;
            let turn = move |way| turn(lab, way, program, arguments, connections);
            let alternatives = WAYS.map(|way| Alternative::new(way.name(), move || turn(way)));
            let metric = Metric::higher("messages per second", "/s");
            out.case(Load::Idle, &[("program", program), ("connections", connections)], metric, alternatives.into());
        }
    }
    Ok(())
}

fn turn(lab: &Lab, way: Way, program: &str, arguments: &[std::ffi::OsString], connections: &str) -> Result<Sample> {
    let start = |side, more: &[&str]| {
        let mut command = lab.command(artifacts::installed(program)?, way, side)?;
        Process::start(command.args(arguments).args(more))
    };
    let address = if way == Way::Unix { lab.path().to_string_lossy().into_owned() } else { "0".into() };
    let mut server = start(Side::Server, &["serve", &address])?;
    let port = server.line()?;
    let address = if way == Way::Unix { address } else { port };
    let mut client = start(Side::Client, &["talk", &address, connections, lab.scope.of("200", "200", "50")])?;
    let value = client.number::<f64>()?;
    client.finish()?;
    Ok(value.into())
}
