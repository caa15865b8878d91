//! Round trips and bulk transfer between two processes: TCP, TCP under the shim, and a socketpair, in turns.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::artifacts;
use crate::daemon::Daemon;
use crate::process::{Mode, Process, command};
use crate::statistics::{Ratio, median, ratio};

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Median round trip.
    PingPong,
    /// Bytes per second.
    Bulk,
}

/// Where the two processes run.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Both on CPU 0.
    One,
    /// On CPU 0 and CPU 1.
    Two,
    /// Where the scheduler puts them.
    Free,
}

impl Place {
    fn cpus(self) -> &'static [&'static str] {
        match self {
            Place::One => &["0", "0"],
            Place::Two if std::thread::available_parallelism().is_ok_and(|n| n.get() > 1) => &["0", "1"],
            Place::Two | Place::Free => &[],
        }
    }
}

/// How to measure.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Bytes per write.
    #[arg(long, value_delimiter = ',', default_values_t = [8, 64, 512, 4096, 32_768, 262_144, 1_048_576])]
    pub sizes: Vec<usize>,
    /// How often TCP, shim and socketpair take turns.
    #[arg(long, default_value_t = 11)]
    pub rounds: usize,
    /// Length of each turn in milliseconds.
    #[arg(long, default_value_t = 200)]
    pub millis: u64,
    /// On which CPUs the two processes run. Left to itself the scheduler moves them together and apart, which changes a
    /// round trip more than the transport does.
    #[arg(long, value_enum, default_value_t = Place::Two)]
    pub place: Place,
    /// `ipcd serve --buffer` of the measured daemon.
    #[arg(long)]
    pub buffer: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// One size.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Bytes per write.
    pub size: usize,
    /// Median over the rounds: nanoseconds, or bytes per second.
    pub tcp: f64,
    /// The same under the shim, streams final.
    pub shim: f64,
    /// The same on a socketpair.
    pub unix: f64,
    /// How many times better than TCP the shim is.
    pub shim_over_tcp: Ratio,
    /// How many times better than the socketpair the shim is.
    pub shim_over_unix: Ratio,
}

/// Measures every size.
pub fn measure(kind: Kind, args: &Args) -> Result<Vec<Row>> {
    let buffer = args.buffer.map(|b| b.to_string());
    let options: Vec<&str> = buffer.iter().flat_map(|b| ["--buffer", b]).collect();
    let daemon = Daemon::start(&options)?;
    args.sizes.iter().map(|size| one_size(kind, *size, args, &daemon)).collect()
}

fn one_size(kind: Kind, size: usize, args: &Args, daemon: &Daemon) -> Result<Row> {
    let (mut tcp, mut shim, mut unix) = (vec![], vec![], vec![]);
    for _ in 0..args.rounds.max(1) {
        tcp.push(turn("tcp", kind, size, args, Mode::Native)?);
        shim.push(turn("tcp", kind, size, args, Mode::Shim(daemon))?);
        unix.push(turn("unix", kind, size, args, Mode::Native)?);
    }
    // Better is a shorter time, or a higher rate.
    let better = |than: &[f64]| match kind {
        Kind::PingPong => ratio(than, &shim),
        Kind::Bulk => ratio(&shim, than),
    };
    let (shim_over_tcp, shim_over_unix) = (better(&tcp), better(&unix));
    Ok(Row { size, tcp: median(&tcp), shim: median(&shim), unix: median(&unix), shim_over_tcp, shim_over_unix })
}

fn turn(transport: &str, kind: Kind, size: usize, args: &Args, mode: Mode) -> Result<f64> {
    let what = if kind == Kind::Bulk { "bulk" } else { "pingpong" };
    let mut command = command(artifacts::PEERS, mode)?;
    command.args([transport, what, &size.to_string(), &args.millis.to_string()]);
    command.args(args.place.cpus());
    let mut peers = Process::start(&mut command)?;
    if transport == "tcp" {
        let port = peers.number()?;
        if let Mode::Shim(daemon) = mode {
            daemon.wait_for(port, "final")?;
        }
        peers.go()?;
    }
    let line = peers.line()?;
    let result = line.split(' ').next().and_then(|n| n.parse().ok());
    let result = result.with_context(|| format!("{line:?} is not a result"))?;
    peers.finish()?;
    Ok(result)
}

/// For people.
pub fn table(kind: Kind, rows: &[Row]) -> String {
    let (unit, scale) = if kind == Kind::Bulk { ("MB/s", 1e-6) } else { ("µs", 1e-3) };
    let head = |name: &str| format!("{name} {unit}");
    let mut text = format!("{:>9}{:>12}{:>12}{:>12}", "bytes", head("TCP"), head("shim"), head("pair"));
    text += &format!("   {:<20}   {}\n", "shim better than TCP", "than a socketpair");
    for r in rows {
        let (tcp, shim, unix) = (r.tcp * scale, r.shim * scale, r.unix * scale);
        text += &format!("{:>9}{tcp:>12.1}{shim:>12.1}{unix:>12.1}", r.size);
        text += &format!("   {:<20}   {}\n", r.shim_over_tcp.to_string(), r.shim_over_unix);
    }
    text
}
