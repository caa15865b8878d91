//! Many connections with one request under way each: `programs/load.c`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::artifacts;
use crate::lab::Lab;
use crate::process::Process;
use crate::runner::Sample;
use crate::way::{Side, Way};

/// The server that answers.
pub enum Address<'a> {
    /// At host:port.
    Tcp(String),
    /// At a path.
    Unix(&'a Path),
}

/// The requests, and for how long they are sent.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// echo or memcached.
    pub kind: &'static str,
    /// Connections.
    pub connections: u32,
    /// Bytes of a message or item.
    pub size: usize,
    /// Length of the measurement.
    pub millis: u64,
}

impl Ask {
    /// Sends the requests; returns the requests per second. `set_up` is applied to the command last.
    pub fn turn(
        &self,
        lab: &Lab,
        way: Way,
        address: &Address,
        set_up: impl Fn(&mut Command) -> Result<()>,
    ) -> Result<Sample> {
        let mut talk = lab.command(artifacts::LOAD, way, Side::Client)?;
        match address {
            Address::Tcp(address) => talk.args(["talk", "tcp", address]),
            Address::Unix(path) => talk.args(["talk", "unix"]).arg(path),
        };
        talk.args([self.kind, &self.connections.to_string(), &self.size.to_string(), &self.millis.to_string()]);
        set_up(&mut talk)?;
        let mut client = Process::start(&mut talk)?;
        let value = client.number().context("the client")?;
        let times = client.words()?;
        client.finish()?;
        Ok(Sample { value, times, p99_us: None })
    }
}

/// An echo server for this way, and its address.
pub fn echo(lab: &Lab, way: Way) -> Result<(Process, String)> {
    let mut serve = lab.command(artifacts::LOAD, way, Side::Server)?;
    if way == Way::Unix {
        let path = lab.path();
        let mut server = Process::start(serve.args(["serve", "unix"]).arg(&path))?;
        server.line()?;
        return Ok((server, path.to_string_lossy().into_owned()));
    }
    let mut server = Process::start(serve.args(["serve", "tcp", "127.0.0.1"]))?;
    let port = server.line()?;
    Ok((server, format!("127.0.0.1:{port}")))
}
