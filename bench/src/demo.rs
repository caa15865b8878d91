//! `make demo`: a screenful that shows what the project does.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::artifacts;
use crate::lab::Lab;
use crate::machine::Machine;
use crate::process::die_with_us;
use crate::questions::redis::{Asked, Redis, result};
use crate::runner::Scope;
use crate::statistics::{median, ratio};
use crate::way::{Side, Way};

/// How many rows of `ipcd ls` are shown.
const SHOWN: usize = 4;
const WAYS: [Way; 3] = [Way::Tcp, Way::Shim, Way::Unix];

/// The options of the demonstration.
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
}

/// A redis-server without the shim, one with it, and its daemon.
struct Stage {
    native: Redis,
    shimmed: Redis,
    lab: Lab,
}

impl Stage {
    fn set() -> Result<Stage> {
        let lab = Lab::new(Scope::Full, &[])?;
        let mut server = under_ipcd_run(&lab)?;
        server.arg(artifacts::installed("redis-server")?);
        Ok(Stage {
            native: Redis::start(&lab, Way::Tcp, false)?,
            shimmed: Redis::start_as(&lab, server, "127.0.0.1")?,
            lab,
        })
    }

    fn benchmark(&self, way: Way, asked: &Asked) -> Result<Command> {
        let program = artifacts::installed("redis-benchmark")?;
        if way != Way::Shim {
            let mut command = self.lab.command(program, way, Side::Client)?;
            self.native.ask(&mut command, way, asked);
            return Ok(command);
        }
        let mut command = under_ipcd_run(&self.lab)?;
        self.shimmed.ask(command.arg(program), way, asked);
        Ok(command)
    }
}

/// `ipcd run --` with this daemon; the program comes next.
fn under_ipcd_run(lab: &Lab) -> Result<Command> {
    let mut command = Command::new(artifacts::ipcd()?);
    command.env("IPCD_SOCKET", lab.daemon().socket()).env("IPCD_LIB", artifacts::libipc()?).args(["run", "--"]);
    die_with_us(&mut command);
    Ok(command)
}

/// Runs the demonstration.
pub fn run(args: &Args) -> Result<()> {
    println!("An unmodified redis-server and redis-benchmark, {} clients, GET, on 127.0.0.1:\n", args.clients);
    let stage = Stage::set()?;
    println!("  requests/s      plain TCP    under ipcd run    redis's Unix socket");
    let row = |name: &str, [tcp, shim, unix]: [f64; 3]| {
        println!("  {name:<8}      {tcp:>10.0}        {shim:>10.0}             {unix:>10.0}");
    };
    let mut all = [vec![], vec![], vec![]];
    for round in 1..=args.rounds.max(1) {
        for (results, way) in all.iter_mut().zip(WAYS) {
            let asked = Asked { requests: args.requests, clients: args.clients, pipeline: 1 };
            results.push(result(&mut stage.benchmark(way, &asked)?)?.value);
        }
        row(&format!("round {round}"), all.each_ref().map(|r| r[round - 1]));
    }
    row("median", all.each_ref().map(|r| median(r)));
    println!("\n  under ipcd run / plain TCP            {:.2}", ratio(&all[1], &all[0]).median);
    println!("  under ipcd run / redis's Unix socket  {:.2}\n", ratio(&all[1], &all[2]).median);
    println!("$ ipcd ls      # while it runs: the client's streams have left TCP in mid-stream");
    show_streams(&stage, args)?;
    println!("\n$ ipcd stats");
    for line in stage.lab.daemon().print(&["stats"])?.lines().filter(|l| !is_boring(l)) {
        println!("{line}");
    }
    println!("\n{}", Machine::describe().line());
    Ok(())
}

/// The lines of `ipcd stats` that are left out, because they count events that did not happen.
fn is_boring(line: &str) -> bool {
    line.trim_end().ends_with(" 0")
}

/// Starts a long benchmark, shows `ipcd ls` when its streams have moved, and ends it.
fn show_streams(stage: &Stage, args: &Args) -> Result<()> {
    let asked = Asked { requests: u32::MAX / 4, clients: args.clients, pipeline: 1 };
    let mut running = stage.benchmark(Way::Shim, &asked)?.stdout(Stdio::null()).spawn()?;
    let shown = wait_and_print(stage, args);
    running.kill()?;
    running.wait()?;
    shown
}

fn wait_and_print(stage: &Stage, args: &Args) -> Result<()> {
    let (start, daemon) = (Instant::now(), stage.lab.daemon());
    let finals = loop {
        let finals = daemon.live()?.iter().filter(|s| s.is_final()).count();
        if finals >= args.clients as usize {
            break finals;
        }
        if start.elapsed() > Duration::from_secs(10) {
            bail!("only {finals} of {} streams are final:\n{}", args.clients, daemon.print(&["ls"])?);
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let text = daemon.print(&["ls"])?;
    text.lines().take(1 + SHOWN).for_each(|line| println!("{line}"));
    println!(" … {} more; {finals} final", text.lines().count().saturating_sub(1 + SHOWN));
    Ok(())
}
