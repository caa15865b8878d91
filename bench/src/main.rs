//! The command line of the measurements.

use anyhow::{Result, bail};
use bench::peers::Kind;
use bench::{demo, instructions, machine, peers, prefix, redis};
use clap::{Parser, Subcommand};
use serde::Serialize;

/// Measures the shim beside plain TCP.
#[derive(Parser)]
#[command(name = "bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Instructions per call, and at the start of a program (callgrind; the same every time).
    Instructions {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Round trips between two processes.
    Pingpong(peers::Args),
    /// One-way transfer between two processes.
    Bulk(peers::Args),
    /// redis-benchmark.
    Redis(redis::Args),
    /// What the prefix length costs and gives.
    Prefix(prefix::Args),
    /// What `make demo` shows.
    Demo(redis::Args),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Instructions { json } => {
            let report = instructions::all()?;
            print(json, &report, || instructions::table(&report))?;
            if !report.calls.iter().all(instructions::Row::is_met) {
                bail!("a call costs more than {} instructions more", instructions::LIMIT);
            }
        }
        Command::Pingpong(args) => streams(Kind::PingPong, &args)?,
        Command::Bulk(args) => streams(Kind::Bulk, &args)?,
        Command::Redis(args) => {
            let report = redis::measure(&args)?;
            print(args.json, &report, || redis::table(&report))?;
        }
        Command::Prefix(args) => {
            let report = prefix::measure(&args)?;
            print(args.json, &report, || prefix::table(&report, &args.lengths))?;
        }
        Command::Demo(args) => demo::run(&args)?,
    }
    Ok(())
}

fn streams(kind: Kind, args: &peers::Args) -> Result<()> {
    let rows = peers::measure(kind, args)?;
    print(args.json, &rows, || peers::table(kind, &rows))
}

/// JSON with the machine's description, or a table under it.
fn print<T: Serialize>(json: bool, report: &T, table: impl FnOnce() -> String) -> Result<()> {
    if json {
        let value = serde_json::json!({ "machine": machine::describe(), "results": report });
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        println!("{}\n\n{}", machine::describe(), table());
    }
    Ok(())
}
