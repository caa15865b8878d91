//! What does the daemon cost?

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Question;
use crate::artifacts;
use crate::lab::Lab;
use crate::process::Process;
use crate::record::Metric;
use crate::runner::{Alternative, Head, Load, Recorder, Sample, median_of};
use crate::way::{Side, Way};

/// The question.
pub const QUESTION: Question = Question {
    name: "daemon",
    title: "What ipcd costs: time to move, pairs per second, memory, CPU",
    seconds: 60,
    quick: 7,
    daemon: &["--patience", "0"],
    run,
};

/// The names of the measured figures, for the targets.
pub const TO_MOVE: &str = "from the N-th byte until the stream has moved";
/// Pairs for each second of CPU time.
pub const PAIRS: &str = "pairs per second of ipcd's CPU time";
/// How many live streams there were.
pub const HELD: &str = "live streams that have moved";
/// Resident memory of ipcd for each endpoint.
pub const MEMORY: &str = "memory of ipcd for each endpoint";

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    out.only_once();
    out.note(
        "Live streams are opened one after the other, each as soon as the one before has moved; 5,000 for each pair of \
         a client and a server. Memory is resident memory of the process; what the kernel needs for the sockets is not \
         in it.",
    );
    let counts = lab.scope.of(&[1000, 10_000, 50_000][..], &[1000], &[100]);
    for streams in counts {
        let count = streams.to_string();
        let head = |what: &str, unit, higher| {
            let metric = if higher { Metric::higher(what, unit) } else { Metric::lower(what, unit) };
            Head::new(&[("live streams", &*count), ("measured", what)], metric)
        };
        let heads = vec![
            head(HELD, "", true),
            head(TO_MOVE, "µs", false),
            head(MEMORY, "bytes", false),
            head("memory of the client for each stream, more than without the shim", "bytes", false),
            head("CPU time of ipcd while nothing happens", "ms/s", false),
        ];
        let turn = move || turn(lab, *streams);
        out.group(Load::Idle, heads, vec![Alternative::several(Way::Shim.name(), turn)]);
    }
    let each = lab.scope.of(1000, 500, 50);
    let clients = AT_ONCE.to_string();
    let head = |what| Head::new(&[("clients at once", &*clients), ("measured", what)], Metric::higher(what, "/s"));
    let heads = vec![head(PAIRS), head("pairs per second")];
    out.group(Load::Idle, heads, vec![Alternative::several(Way::Shim.name(), move || burst(lab, each))]);
    Ok(())
}

/// Clients that open streams at the same time.
const AT_ONCE: u32 = 8;

/// All clients at once: how many pairs ipcd makes per second of its CPU time, and per second of real time.
fn burst(lab: &Lab, each: u32) -> Result<Vec<Sample>> {
    let daemon = lab.daemon();
    let (start, cpu, pairs) = (Instant::now(), cpu_time(daemon.pid())?, daemon.stats()?.pairs);
    let mut all: Vec<Held> = (0..AT_ONCE).map(|_| begin(lab, Way::Shim, each)).collect::<Result<_>>()?;
    all.iter_mut().try_for_each(Held::wait)?;
    let (time, busy) = (start.elapsed(), cpu_time(daemon.pid())? - cpu);
    let pairs = (daemon.stats()?.pairs - pairs) as f64;
    Ok(vec![(pairs / busy.as_secs_f64()).into(), (pairs / time.as_secs_f64()).into()])
}

/// The streams of each client, since a program may have only a limited number of open files.
const EACH: u32 = 5000;

/// A client that holds its streams, the server, and the client's measurements.
struct Held {
    client: Process,
    _server: Process,
    moved: u32,
    times: Vec<u32>,
}

fn begin(lab: &Lab, way: Way, streams: u32) -> Result<Held> {
    let mut server = Process::start(lab.command(artifacts::LIVE, way, Side::Server)?.arg("serve"))?;
    let port = server.line()?;
    let mut talk = lab.command(artifacts::LIVE, way, Side::Client)?;
    let verb = if way == Way::Shim { "talk" } else { "stay" };
    let client = Process::start(talk.args([verb, &port, &streams.to_string()]))?;
    Ok(Held { client, _server: server, moved: 0, times: Vec::new() })
}

impl Held {
    /// Waits until all its streams are open.
    fn wait(&mut self) -> Result<()> {
        self.moved = self.client.number()?;
        self.times = self.client.words()?;
        Ok(())
    }
}

/// As many clients as are needed for this many streams.
fn hold_all(lab: &Lab, way: Way, streams: u32) -> Result<Vec<Held>> {
    let clients = streams.div_ceil(EACH);
    let one = |_| {
        let mut held = begin(lab, way, streams / clients)?;
        held.wait().map(|()| held)
    };
    (0..clients).map(one).collect()
}

fn resident_clients(all: &[Held]) -> Result<i64> {
    all.iter().map(|held| resident(held.client.pid())).sum()
}

fn turn(lab: &Lab, streams: u32) -> Result<Vec<Sample>> {
    let native = resident_clients(&hold_all(lab, Way::Tcp, streams)?)?;
    let daemon = lab.daemon().pid();
    let (memory, pairs) = (resident(daemon)?, lab.daemon().stats()?.pairs);
    let all = hold_all(lab, Way::Shim, streams)?;
    let pairs = lab.daemon().stats()?.pairs - pairs;
    let moved: u32 = all.iter().map(|held| held.moved).sum();
    ensure!(pairs >= u64::from(moved), "{pairs} pairs for {moved} streams");
    let for_each = |bytes: i64, of: u32| Sample::from((bytes as f64 / f64::from(of)).max(0.0));
    let endpoints = for_each(resident(daemon)? - memory, 2 * streams);
    let clients = for_each(resident_clients(&all)? - native, streams);
    let times: Vec<u32> = all.iter().flat_map(|held| &held.times).copied().collect();
    let (start, before) = (Instant::now(), cpu_time(daemon)?);
    std::thread::sleep(Duration::from_millis(lab.scope.of(2000, 1000, 100)));
    let idle = (cpu_time(daemon)? - before).as_secs_f64() * 1000.0 / start.elapsed().as_secs_f64();
    Ok(vec![
        f64::from(moved).into(),
        Sample { value: median_of(&times) / 1000.0, times, p99_us: None },
        endpoints,
        clients,
        idle.into(),
    ])
}

/// The resident memory of a process, in bytes.
fn resident(pid: u32) -> Result<i64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<i64>()? * 1024)
}

/// The CPU time of all threads of a process, in user space and in the kernel.
fn cpu_time(pid: u32) -> Result<Duration> {
    let mut total = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // Nanoseconds on a CPU; finer than the ticks of /proc/PID/stat.
        let line = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        total += line.split(' ').next().unwrap_or("").parse::<u64>().context("schedstat")?;
    }
    Ok(Duration::from_nanos(total))
}
