//! `make demo`: a screenful that shows what this is about.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::machine;
use crate::redis::{self, Args, Servers, Way};
use crate::statistics::median;

/// Rows of `ipcd ls` that are shown.
const SHOWN: usize = 4;

/// Runs it.
pub fn run(args: &Args) -> Result<()> {
    println!("An unmodified redis-server and redis-benchmark, {} clients, GET, on 127.0.0.1:\n", args.clients);
    let servers = Servers::start()?;
    println!("  requests/s      plain TCP    under ipcd run    redis's Unix socket");
    let mut round = 0;
    let report = redis::rounds(&servers, args, |[tcp, shim, unix]| {
        round += 1;
        println!("  round {round}       {tcp:>10.0}        {shim:>10.0}             {unix:>10.0}");
    })?;
    let [tcp, shim, unix] = [&report.tcp, &report.shim, &report.unix].map(|r| median(r));
    println!("  median        {tcp:>10.0}        {shim:>10.0}             {unix:>10.0}\n");
    println!("  under ipcd run / plain TCP            {:.2}", report.shim_over_tcp.median);
    println!("  under ipcd run / redis's Unix socket  {:.2}\n", report.shim_over_unix.median);
    println!("$ ipcd ls      # while it runs: the client's streams have left TCP in mid-stream");
    show_streams(&servers, args)?;
    println!("\n$ ipcd stats");
    for line in servers.daemon.print(&["stats"])?.lines().filter(|l| !is_boring(l)) {
        println!("{line}");
    }
    println!("\n{}", machine::describe());
    Ok(())
}

/// Counters of what did not happen.
fn is_boring(line: &str) -> bool {
    line.trim_end().ends_with(" 0")
}

/// Starts a long benchmark, shows `ipcd ls` when its streams have moved, and ends it.
fn show_streams(servers: &Servers, args: &Args) -> Result<()> {
    let mut command = servers.benchmark(Way::Shim, u32::MAX / 4, args.clients)?;
    let mut running = command.stdout(Stdio::null()).spawn()?;
    let shown = wait_and_print(servers, args);
    running.kill()?;
    running.wait()?;
    shown
}

fn wait_and_print(servers: &Servers, args: &Args) -> Result<()> {
    let start = Instant::now();
    let finals = loop {
        let finals = servers.daemon.streams()?.iter().filter(|s| s.is_final() && !s.ended).count();
        if finals >= args.clients as usize {
            break finals;
        }
        if start.elapsed() > Duration::from_secs(10) {
            bail!("only {finals} of {} streams are final:\n{}", args.clients, servers.daemon.print(&["ls"])?);
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let text = servers.daemon.print(&["ls"])?;
    text.lines().take(1 + SHOWN).for_each(|line| println!("{line}"));
    println!(" … {} more; {finals} final", text.lines().count().saturating_sub(1 + SHOWN));
    Ok(())
}
