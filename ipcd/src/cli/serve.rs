//! `ipcd serve`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use matcher::wire::{MAX_PREFIX, Terms};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::info;

use super::SocketArg;
use crate::config::{Config, DEFAULT_BUFFER, DEFAULT_PATIENCE, DEFAULT_PREFIX, DEFAULT_WAIT_PEER};
use crate::kernel::proof::Proof;
use crate::policy;
use crate::serve::place::Place;
use crate::serve::server;

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    pub socket: SocketArg,
    /// How many bytes of each direction are hashed to recognize a stream.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_PREFIX,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PREFIX)))]
    pub prefix: u32,
    /// How often a connection changes between sending and receiving before it is offered to move; 16 KiB count as one.
    /// Moving costs as much as it gains in about so many. 0: as soon as N bytes have gone by.
    #[arg(long, value_name = "COUNT", default_value_t = DEFAULT_PATIENCE)]
    pub patience: u32,
    /// Keep connections on TCP that were worth moving for their bytes alone, if the program wrote fewer than BYTES at a
    /// time. 0: move them, too (docs/patience.md says why).
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub small_writes: u32,
    /// Buffer size of the sockets that streams move to, in bytes (the kernel takes twice that for its own overhead, and
    /// gives no more than net.core.wmem_max to an ipcd that is not root's); 0 leaves it to the kernel.
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_BUFFER)]
    pub buffer: u32,
    /// How long an endpoint waits for its peer to be reported.
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_WAIT_PEER)]
    pub wait_peer: f64,
    /// Ask the kernel for sequence numbers, and pair across network namespaces only what they prove; then translated
    /// addresses pair, too. Takes CAP_BPF and CAP_PERFMON.
    #[arg(long)]
    pub proof: bool,
    /// Serve the programs of every user, and believe what they say of streams between network namespaces.
    #[arg(long)]
    pub everybody: bool,
    /// Pairs that may leave TCP; without any, all may. CONDITIONS such as server.port=6379,client.address=10.1.0.0/16
    /// (docs/security.md lists them).
    #[arg(long, value_name = "CONDITIONS")]
    pub allow: Vec<String>,
    /// Pairs that stay on TCP, allowed or not.
    #[arg(long, value_name = "CONDITIONS")]
    pub deny: Vec<String>,
    /// A file in TOML with more of both, as [[allow]] and [[deny]].
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// First copy libipc.so to this directory, from where containers that share it can preload it.
    #[arg(long, value_name = "DIR")]
    pub copy_library: Option<PathBuf>,
    /// Start in the background, in a session of its own, and return.
    #[arg(long)]
    pub background: bool,
    /// What --background starts.
    #[arg(long, hide = true, conflicts_with = "background")]
    pub detached: bool,
}

pub fn main(args: &Args) -> Result<(), String> {
    if args.background {
        return background(args);
    }
    if args.detached {
        // The process was made by one that has ended, so it leads no group and this cannot fail.
        let _ = nix::unistd::setsid();
    }
    tracing_subscriber::fmt().with_env_filter(filter()).with_writer(std::io::stderr).init();
    let wait_peer = Duration::try_from_secs_f64(args.wait_peer).map_err(|e| format!("--wait-peer: {e}"))?;
    let policy = policy::read(&args.allow, &args.deny, args.policy.as_deref(), args.everybody)?;
    let proof = if args.proof { Some(Proof::new().map_err(|e| format!("--proof: {e}"))?) } else { None };
    raise_descriptor_limit();
    let path = args.socket.path();
    if let Some(dir) = &args.copy_library {
        copy_library(dir).map_err(|e| format!("cannot copy libipc.so to {}: {e}", dir.display()))?;
    }
    let place = Place::take(&path, args.everybody).map_err(|e| e.to_string())?;
    info!(socket = %path.display(), prefix = args.prefix, "listening");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| format!("cannot start: {e}"))?;
    let terms = Terms { prefix_bytes: args.prefix, patience: args.patience, small_writes: args.small_writes };
    let config = Config::new(terms, args.buffer, wait_peer, policy);
    let served = tokio::task::LocalSet::new().block_on(&runtime, server::serve(place, config, proof));
    // A descriptor that takes its time to close holds nobody up.
    runtime.shutdown_background();
    served.map_err(|e| format!("cannot go on: {e}"))
}

fn filter() -> tracing_subscriber::EnvFilter {
    tracing_subscriber::EnvFilter::try_from_env("IPCD_LOG").unwrap_or_else(|_| "warn,ipcd=warn".into())
}

/// Endpoints that are verified, and transports that are handed out, pass through here.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Puts libipc.so into a directory. The old file is replaced and not written to: programs are running in it.
fn copy_library(dir: &Path) -> Result<(), String> {
    let library = super::run::library(None)?;
    let new = dir.join(".libipc.so.new");
    let copy = || {
        std::fs::copy(library, &new)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755))?;
        std::fs::rename(&new, dir.join("libipc.so"))
    };
    copy().map_err(|e| e.to_string())
}

/// Starts the same again as a process that has no parent here: whoever started this one, and then becomes another
/// program, must not find itself with a child.
fn background(args: &Args) -> Result<(), String> {
    let exe = std::env::current_exe().map_err(|e| format!("cannot find ipcd itself: {e}"))?;
    let mut command = Command::new(exe);
    command.arg("serve").arg("--detached").arg("--socket").arg(args.socket.path());
    command.args(["--prefix", &args.prefix.to_string(), "--buffer", &args.buffer.to_string()]);
    command.args(["--patience", &args.patience.to_string(), "--small-writes", &args.small_writes.to_string()]);
    command.args(["--wait-peer", &args.wait_peer.to_string()]);
    if let Some(dir) = &args.copy_library {
        command.arg("--copy-library").arg(std::path::absolute(dir).unwrap_or_else(|_| dir.clone()));
    }
    for (flag, set) in [("--proof", args.proof), ("--everybody", args.everybody)] {
        command.args(set.then_some(flag));
    }
    for (flag, texts) in [("--allow", &args.allow), ("--deny", &args.deny)] {
        command.args(texts.iter().flat_map(|text| [flag, text]));
    }
    if let Some(file) = &args.policy {
        command.arg("--policy").arg(std::path::absolute(file).unwrap_or_else(|_| file.clone()));
    }
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    command.env_remove("LD_PRELOAD").spawn().map(drop).map_err(|e| format!("cannot start ipcd: {e}"))
}
