//! The command line.

mod ls;
mod run;
mod serve;
mod stats;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use matcher::wire::Query;

use crate::client;

/// How long the command line waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Moves local TCP streams of unchanged programs to Unix-domain sockets.
#[derive(Parser)]
#[command(name = "ipcd", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon in the foreground.
    Serve(serve::Args),
    /// Run a program with libipc preloaded, and start a daemon for this user if none answers.
    Run(run::Args),
    /// Show streams and endpoints.
    Ls(ls::Args),
    /// Show counters.
    Stats(stats::Args),
}

/// Where ipcd is.
#[derive(clap::Args, Clone, Debug)]
struct SocketArg {
    /// The daemon's socket [default: $IPCD_SOCKET, or /run/ipcd/ipcd.sock for root, or the user's runtime directory]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl SocketArg {
    fn path(&self) -> PathBuf {
        crate::serve::place::socket_path(self.socket.as_deref())
    }
}

/// Runs the command that was asked for.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => serve::main(&args),
        Command::Run(args) => run::main(&args),
        Command::Ls(args) => ls::main(&args),
        Command::Stats(args) => stats::main(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("ipcd: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Asks the daemon; an error says what to do.
fn ask(path: &Path, query: Query) -> Result<Vec<u8>, String> {
    client::ask(path, query, PATIENCE).map_err(|error| {
        format!(
            "no ipcd answers at {}: {error}\nstart one with `ipcd serve`, or name another place with --socket or IPCD_SOCKET",
            path.display()
        )
    })
}

/// Writes to standard output; whoever stopped reading wants no more.
fn print(text: &str) -> Result<(), String> {
    match std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(format!("cannot write: {error}")),
        _ => Ok(()),
    }
}
