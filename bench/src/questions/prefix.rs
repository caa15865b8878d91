//! What each N costs (N is the number of bytes of each direction that are hashed before ipcd is asked).

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::distinct;
use crate::artifacts;
use crate::lab::Lab;
use crate::process::Process;
use crate::runner::Scope;
use crate::statistics::median;
use crate::way::{Side, Way};

/// The options of the measurement.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The prefix lengths.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 16, 32, 64, 128, 256, 1024])]
    pub lengths: Vec<u32>,
    /// Connections of each of the eight client threads.
    #[arg(long, default_value_t = 25)]
    pub connections: u32,
    /// How often each is repeated, in turns.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A workload: requests and replies of one size, some per connection.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Workload {
    /// The programs that send such bytes.
    pub name: &'static str,
    /// Bytes of a request.
    pub request: usize,
    /// Bytes of a reply.
    pub reply: usize,
    /// Requests of a connection.
    pub requests: u32,
}

const fn workload(name: &'static str, request: usize, reply: usize, requests: u32) -> Workload {
    Workload { name, request, reply, requests }
}

/// GET of a missing key as redis-benchmark sends it (36 bytes, answered by 5), and curl's request for a page of 1 KB
/// (83 bytes, answered by 1,200).
pub const WORKLOADS: [Workload; 7] = [
    workload("redis", 36, 5, 3),
    workload("redis", 36, 5, 10),
    workload("redis", 36, 5, 30),
    workload("redis", 36, 5, 1000),
    workload("http", 83, 1200, 3),
    workload("http", 83, 1200, 10),
    workload("http", 83, 1200, 100),
];

const THREADS: u32 = 8;

/// The result of one workload with one N.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// The workload.
    #[serde(flatten)]
    pub workload: Workload,
    /// N.
    pub length: u32,
    /// Share of the streams of which both ends became final.
    pub share: f64,
    /// Median time from connect to final, in microseconds, if any became final.
    pub final_us: Option<f64>,
    /// Median bytes that went from client to server over TCP before that direction moved, if any did.
    pub moved_at: Option<f64>,
}

/// The cost of hashing.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// N.
    pub length: u32,
    /// Nanoseconds for both directions of one endpoint.
    pub nanoseconds: f64,
}

/// All results.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Workloads.
    pub cells: Vec<Cell>,
    /// Hashing.
    pub costs: Vec<Cost>,
    /// How well N bytes tell connections apart.
    pub distinct: Vec<distinct::Row>,
}

/// Measures all of it.
pub fn measure(args: &Args) -> Result<Report> {
    let mut samples: Vec<Vec<Cell>> = Vec::new();
    for _ in 0..args.rounds.max(1) {
        let mut round = Vec::new();
        for workload in WORKLOADS {
            for length in &args.lengths {
                round.push(one(workload, *length, args.connections)?);
            }
        }
        samples.push(round);
    }
    let count = samples.first().map_or(0, Vec::len);
    let cells = (0..count).map(|i| middle(&samples.iter().map(|round| &round[i]).collect::<Vec<_>>())).collect();
    let costs = args.lengths.iter().map(|n| cost(*n)).collect();
    Ok(Report { cells, costs, distinct: distinct::measure(&args.lengths)? })
}

/// The median of each figure.
fn middle(cells: &[&Cell]) -> Cell {
    let of = |get: fn(&Cell) -> Option<f64>| {
        let values: Vec<f64> = cells.iter().filter_map(|c| get(c)).collect();
        (!values.is_empty()).then(|| median(&values))
    };
    let share = of(|c| Some(c.share)).unwrap_or(0.0);
    Cell { share, final_us: of(|c| c.final_us), moved_at: of(|c| c.moved_at), ..cells[0].clone() }
}

fn one(w: Workload, length: u32, connections: u32) -> Result<Cell> {
    let lab = Lab::new(Scope::Full, &["--prefix", &length.to_string(), "--patience", "0"])?;
    let start = |side, args: &[String]| Process::start(lab.command(artifacts::TRAFFIC, Way::Shim, side)?.args(args));
    let sizes = [w.request.to_string(), w.reply.to_string()];
    let mut server = start(Side::Server, &[&["server".to_owned()], sizes.as_slice()].concat())?;
    let port = server.line()?;
    let counts = [port, THREADS.to_string(), connections.to_string(), w.requests.to_string()];
    let mut client = start(Side::Client, &[&["client".to_owned()], counts.as_slice(), sizes.as_slice()].concat())?;
    client.line()?;
    // The last reports may still be on their way.
    std::thread::sleep(Duration::from_millis(30));
    let stats = lab.daemon().stats()?;
    let moved: Vec<f64> =
        lab.daemon().streams()?.iter().filter_map(|s| s.client_to_server_switched_at).map(|b| b as f64).collect();
    Ok(Cell {
        workload: w,
        length,
        share: stats.finals as f64 / f64::from(THREADS * connections),
        final_us: (stats.finals > 0).then_some(stats.connect_to_final.p50_us),
        moved_at: (!moved.is_empty()).then(|| median(&moved)),
    })
}

/// Hashes N bytes twice, often; takes the fastest of several batches, since disturbances only add time.
fn cost(length: u32) -> Cost {
    let bytes = vec![7u8; length as usize];
    let batch = || {
        let (start, count) = (Instant::now(), 2000);
        for _ in 0..count {
            for _direction in 0..2 {
                black_box(Sha256::digest(black_box(&bytes)));
            }
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(count)
    };
    Cost { length, nanoseconds: (0..50).map(|_| batch()).fold(f64::INFINITY, f64::min) }
}

/// Formats one figure of a cell.
type Show = fn(&Cell) -> String;

/// Prints Markdown, for people and for docs/prefix-length.md.
pub fn table(report: &Report, lengths: &[u32]) -> String {
    let heads: String = lengths.iter().map(|n| format!(" {n} |")).collect();
    let rule = "---|".repeat(lengths.len() + 1);
    let mut text = String::new();
    let figures: [(&str, Show); 3] = [
        ("streams final, %", |c| format!("{:.0}", c.share * 100.0)),
        ("connect to final, µs (median)", |c| c.final_us.map_or("–".into(), |t| format!("{t:.0}"))),
        ("bytes sent over TCP before (median)", |c| c.moved_at.map_or("–".into(), |b| format!("{b:.0}"))),
    ];
    for (title, show) in figures {
        text += &format!("{title}\n\n| workload, requests per connection \\ N |{heads}\n|{rule}\n");
        for row in report.cells.chunks(lengths.len().max(1)) {
            let values: String = row.iter().map(|c| format!(" {} |", show(c))).collect();
            let name = row.first().map_or(String::new(), |c| format!("{}, {}", c.workload.name, c.workload.requests));
            text += &format!("| {name} |{values}\n");
        }
        text.push('\n');
    }
    let costs: String = report.costs.iter().map(|c| format!(" {:.0} |", c.nanoseconds)).collect();
    text += &format!("hashing both directions of one endpoint\n\n| N |{heads}\n|{rule}\n| ns |{costs}\n\n");
    text += &format!("different first N bytes among the connections of a client\n\n| client \\ N |{heads}\n|{rule}\n");
    for r in &report.distinct {
        let values: String = r.distinct.iter().map(|d| format!(" {d} |")).collect();
        text += &format!("| {}, {} connections |{values}\n", r.clients, r.connections);
    }
    text
}
