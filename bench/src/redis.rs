//! redis-benchmark against redis-server: plain TCP, TCP under the shim, redis's own Unix-domain socket.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::artifacts;
use crate::daemon::Daemon;
use crate::process::{Mode, Server, command, die_with_us};
use crate::statistics::{Ratio, median, ratio};

/// How to measure.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// How often TCP, shim and Unix-domain socket take turns.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Requests of each turn.
    #[arg(long, default_value_t = 200_000)]
    pub requests: u32,
    /// Clients.
    #[arg(long, default_value_t = 50)]
    pub clients: u32,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The requests per second of each round.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Plain TCP.
    pub tcp: Vec<f64>,
    /// TCP under the shim.
    pub shim: Vec<f64>,
    /// redis's own Unix-domain socket.
    pub unix: Vec<f64>,
    /// Shim to TCP.
    pub shim_over_tcp: Ratio,
    /// Shim to Unix-domain socket.
    pub shim_over_unix: Ratio,
    /// Client streams that became final, and how many there were.
    pub finals: u64,
    /// All client streams of the shimmed rounds.
    pub streams: u64,
}

impl Report {
    /// What it measured, from the rounds and ipcd's count.
    fn new([tcp, shim, unix]: [Vec<f64>; 3], finals: u64, clients: u32) -> Report {
        let (shim_over_tcp, shim_over_unix) = (ratio(&shim, &tcp), ratio(&shim, &unix));
        let streams = shim.len() as u64 * u64::from(clients);
        Report { tcp, shim, unix, shim_over_tcp, shim_over_unix, finals, streams }
    }

    /// Whether it is as good as the project promises.
    pub fn is_met(&self) -> bool {
        self.shim_over_unix.median >= 0.95 && self.shim_over_tcp.median > 1.0 && self.finals == self.streams
    }
}

/// A redis-server without the shim that listens on TCP and a Unix-domain socket, one with it, and their daemon.
pub struct Servers {
    _native: Server,
    _shimmed: Server,
    native_port: u16,
    shimmed_port: u16,
    /// The daemon of the shimmed one.
    pub daemon: Daemon,
}

/// Over what redis-benchmark talks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Plain TCP.
    Tcp,
    /// TCP under the shim.
    Shim,
    /// redis's own Unix-domain socket.
    Unix,
}

/// All of them, in the order of a round.
pub const WAYS: [Way; 3] = [Way::Tcp, Way::Shim, Way::Unix];

impl Servers {
    /// Starts all three, and waits until they listen.
    pub fn start() -> Result<Servers> {
        let daemon = Daemon::start(&[])?;
        let (native_port, shimmed_port) = (free_port()?, free_port()?);
        let redis = artifacts::installed("redis-server")?;
        let mut native = command(&redis, Mode::Native)?;
        native.arg("--unixsocket").arg(daemon.dir().join("redis.sock"));
        let native = listening(&mut native, native_port, &daemon)?;
        let mut shimmed = under_ipcd_run(&daemon)?;
        let shimmed = listening(shimmed.arg(redis), shimmed_port, &daemon)?;
        Ok(Servers { _native: native, _shimmed: shimmed, native_port, shimmed_port, daemon })
    }

    /// redis-benchmark as it would be typed.
    pub fn benchmark(&self, way: Way, requests: u32, clients: u32) -> Result<Command> {
        let redis_benchmark = artifacts::installed("redis-benchmark")?;
        let mut command = match way {
            Way::Shim => under_ipcd_run(&self.daemon)?,
            _ => command(&redis_benchmark, Mode::Native)?,
        };
        match way {
            Way::Tcp => command.args(["-h", "127.0.0.1", "-p", &self.native_port.to_string()]),
            Way::Shim => command.arg(redis_benchmark).args(["-h", "127.0.0.1", "-p", &self.shimmed_port.to_string()]),
            Way::Unix => command.arg("-s").arg(self.daemon.dir().join("redis.sock")),
        };
        command.args(["-t", "get", "--csv", "-n", &requests.to_string(), "-c", &clients.to_string()]);
        Ok(command)
    }

    /// One turn.
    pub fn turn(&self, way: Way, requests: u32, clients: u32) -> Result<Turn> {
        let mut command = self.benchmark(way, requests, clients)?;
        let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let pid = running.id();
        let out = running.wait_with_output()?;
        let text = String::from_utf8_lossy(&out.stdout);
        if !out.status.success() {
            bail!("redis-benchmark ended with {}: {}", out.status, String::from_utf8_lossy(&out.stderr));
        }
        let per_second = requests_per_second(&text).with_context(|| format!("redis-benchmark printed {text:?}"))?;
        let finals = if way == Way::Shim { self.finals_of(pid, clients as usize)? } else { 0 };
        Ok(Turn { per_second, finals })
    }

    /// How many clients of this redis-benchmark had their streams final. The connection that ends
    /// first is none of them: over that it asks for the server's settings.
    fn finals_of(&self, pid: u32, clients: usize) -> Result<u64> {
        let start = Instant::now();
        loop {
            let mut streams = self.daemon.streams()?;
            streams.retain(|s| s.is_from(pid) && s.ended);
            // Of a stream that has ended, how old it became.
            streams.sort_by(|a, b| a.age_s.total_cmp(&b.age_s));
            let finals = streams.iter().skip(1).filter(|s| s.is_final()).count();
            // The last reports may still be on their way.
            if finals >= clients || start.elapsed() > Duration::from_secs(1) {
                return Ok(finals as u64);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What one turn gave.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Requests per second.
    pub per_second: f64,
    /// Client streams that became final.
    pub finals: u64,
}

/// The second field of `"GET","85836.91",…`.
fn requests_per_second(csv: &str) -> Option<f64> {
    csv.lines().find(|l| l.starts_with("\"GET\""))?.split(',').nth(1)?.trim_matches('"').parse().ok()
}

/// `ipcd run --` with this daemon; the program comes next.
fn under_ipcd_run(daemon: &Daemon) -> Result<Command> {
    let mut command = command(artifacts::ipcd()?, Mode::Native)?;
    command.env("IPCD_SOCKET", daemon.socket()).env("IPCD_LIB", artifacts::libipc()?).args(["run", "--"]);
    die_with_us(&mut command);
    Ok(command)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn listening(command: &mut Command, port: u16, daemon: &Daemon) -> Result<Server> {
    let dir: PathBuf = daemon.dir().into();
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(dir);
    let mut server = Server::start(command)?;
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        server.must_run()?;
        if start.elapsed() > Duration::from_secs(10) {
            bail!("redis-server does not listen on port {port}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(server)
}

/// Measures.
pub fn measure(args: &Args) -> Result<Report> {
    let servers = Servers::start()?;
    rounds(&servers, args, |_| {})
}

/// Lets the three ways take turns; `told` hears of each round's results.
pub fn rounds(servers: &Servers, args: &Args, mut told: impl FnMut([f64; 3])) -> Result<Report> {
    let mut all = [vec![], vec![], vec![]];
    let mut finals = 0;
    for _ in 0..args.rounds.max(1) {
        let mut round = [0.0; 3];
        for ((way, result), results) in WAYS.into_iter().zip(&mut round).zip(&mut all) {
            let turn = servers.turn(way, args.requests, args.clients)?;
            *result = turn.per_second;
            results.push(turn.per_second);
            finals += turn.finals;
        }
        told(round);
    }
    Ok(Report::new(all, finals, args.clients))
}

/// For people.
pub fn table(r: &Report) -> String {
    let line = |name: &str, values: &[f64]| {
        let all: Vec<String> = values.iter().map(|v| format!("{v:>8.0}")).collect();
        format!("{name:<18}{:>10.0}   {}\n", median(values), all.join(" "))
    };
    let met = |good: bool| if good { "met" } else { "NOT MET" };
    let mut text = format!("{:<18}{:>10}   {:>8}\n", "GET per second", "median", "rounds");
    text += &(line("TCP", &r.tcp) + &line("TCP, shim", &r.shim) + &line("Unix socket", &r.unix));
    text += &format!("\nshim / TCP   {}  wanted > 1: {}\n", r.shim_over_tcp, met(r.shim_over_tcp.median > 1.0));
    text += &format!("shim / Unix  {}  wanted ≥ 0.95: {}\n", r.shim_over_unix, met(r.shim_over_unix.median >= 0.95));
    text + &format!("{} of {} client streams became final: {}\n", r.finals, r.streams, met(r.finals == r.streams))
}
