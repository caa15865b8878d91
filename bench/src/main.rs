//! The command line of the measurements.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use bench::artifacts::source;
use bench::demo;
use bench::progress::Progress;
use bench::questions::{self, Question, prefix};
use bench::record::Results;
use bench::report::{self, targets};
use bench::runner::Scope;
use clap::{Parser, Subcommand};

/// Measures the shim beside plain TCP and the other alternatives.
#[derive(Parser)]
#[command(name = "bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the questions, and how long each takes.
    List,
    /// Answer questions: writes raw results, tables and plots, and prints which targets are met.
    Run(Run),
    /// Make tables and plots again from the raw results, and print which targets are met.
    Report {
        /// Where the raw results are.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Measure what the prefix length costs and gives.
    Prefix(prefix::Args),
    /// Run the demonstration of `make demo`.
    Demo(demo::Args),
}

#[derive(clap::Args)]
struct Run {
    /// The questions; without any, all of them.
    questions: Vec<String>,
    /// How often the alternatives take turns [default: 5, quick 3]
    #[arg(long)]
    rounds: Option<usize>,
    /// The short form, with the most important cases.
    #[arg(long)]
    quick: bool,
    /// Where to write to [default: docs/results, quick: target/bench-quick]
    #[arg(long)]
    out: Option<PathBuf>,
    /// An additional argument for `ipcd serve`, such as --ipcd=--buffer=65536.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    ipcd: Vec<String>,
}

fn main() -> ExitCode {
    match command(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(command: Command) -> Result<()> {
    match command {
        Command::List => {
            for q in questions::ALL {
                println!("{:<14}{:>4} s, quick {:>3} s   {}", q.name, q.seconds, q.quick, q.title);
            }
        }
        Command::Run(args) => run(&args)?,
        Command::Report { out } => {
            let out = out.unwrap_or_else(|| source("../docs/results"));
            let all = Results::read_all(&out, &questions::names())?;
            report::write(&out, &all)?;
            print!("{}", targets::text(&all));
        }
        Command::Prefix(args) => {
            let report = prefix::measure(&args)?;
            if args.json {
                println!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                println!("{}\n\n{}", bench::machine::Machine::describe().line(), prefix::table(&report, &args.lengths));
            }
        }
        Command::Demo(args) => demo::run(&args)?,
    }
    Ok(())
}

fn asked(args: &Run) -> Result<Vec<&'static Question>> {
    if let Some(unknown) = args.questions.iter().find(|n| !questions::names().contains(&n.as_str())) {
        bail!("there is no question {unknown}; `bench list` shows them");
    }
    let wanted = |q: &&Question| match args.questions.is_empty() {
        true => !args.quick || q.quick > 0,
        false => args.questions.iter().any(|n| n == q.name),
    };
    Ok(questions::ALL.iter().filter(wanted).collect())
}

fn run(args: &Run) -> Result<()> {
    let scope = if args.quick { Scope::Quick } else { Scope::Full };
    let out = args.out.clone().unwrap_or_else(|| match scope {
        Scope::Quick => source("../target/bench-quick"),
        _ => source("../docs/results"),
    });
    let asked = asked(args)?;
    let progress = Progress::shown(asked.iter().map(|q| q.seconds(scope)).sum());
    let mut failed = 0;
    for question in &asked {
        let results = question.answer(scope, args.rounds.unwrap_or(scope.rounds()), &args.ipcd, &progress);
        failed += results.failed.len();
        results.write(&out)?;
    }
    progress.finish();
    let all = Results::read_all(&out, &questions::names())?;
    report::write(&out, &all)?;
    let now: Vec<Results> = all.into_iter().filter(|r| asked.iter().any(|q| q.name == r.question)).collect();
    print!("{}", targets::text(&now));
    println!("\ntables and plots: {}", out.canonicalize()?.display());
    if failed > 0 {
        bail!("{failed} measurements failed; see above");
    }
    Ok(())
}
