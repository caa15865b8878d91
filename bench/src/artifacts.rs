//! The paths of the measured programs and libraries.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::skip::skip;

/// Makes calls that are counted (`programs/calls.c`).
pub const CALLS: &str = env!("PROGRAM_CALLS");
/// The shortest of connections (`programs/connect.c`).
pub const CONNECT: &str = env!("PROGRAM_CONNECT");
/// Calls for which the shim has nothing to gain (`programs/costs.c`).
pub const COSTS: &str = env!("PROGRAM_COSTS");
/// Many live streams (`programs/live.c`).
pub const LIVE: &str = env!("PROGRAM_LIVE");
/// Many connections with one request under way each (`programs/load.c`).
pub const LOAD: &str = env!("PROGRAM_LOAD");
/// Two processes and one stream (`programs/peers.c`).
pub const PEERS: &str = env!("PROGRAM_PEERS");
/// Other work on the machine (`programs/spin.c`).
pub const SPIN: &str = env!("PROGRAM_SPIN");
/// Requests and replies (`programs/traffic.c`).
pub const TRAFFIC: &str = env!("PROGRAM_TRAFFIC");

/// The directory of this crate: files that are not compiled are read from there.
pub fn source(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn artifact(name: &str) -> Result<PathBuf> {
    let here = env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
    // Beside a test there may be what `cargo build` has made, without optimization: that is not measured.
    let here = here.filter(|dir| !dir.ends_with("deps"));
    let dirs = match env::var_os("IPC_BIN_DIR") {
        Some(dir) => vec![PathBuf::from(dir)],
        None => here.into_iter().chain([source("../target/release")]).collect(),
    };
    match dirs.iter().find_map(|dir| dir.join(name).canonicalize().ok()) {
        Some(path) => Ok(path),
        None => bail!("{name} is missing: run `make build` first (IPC_BIN_DIR names another place)"),
    }
}

/// The daemon and command line.
pub fn ipcd() -> Result<PathBuf> {
    artifact("ipcd")
}

/// The shim.
pub fn libipc() -> Result<PathBuf> {
    artifact("libipc.so")
}

/// A program that the system should have: in PATH, or where daemons are.
pub fn installed(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from));
    match dirs.map(|dir| dir.join(name)).find(|candidate| candidate.is_file()) {
        Some(path) => Ok(path),
        None => Err(skip(format!("{name} is not installed (`.ci/packages bench` installs it for root)"))),
    }
}

/// The first of these files that exists.
pub fn file(candidates: &[&str], package: &str) -> Result<PathBuf> {
    match candidates.iter().find(|path| Path::new(path).exists()) {
        Some(path) => Ok(PathBuf::from(path)),
        None => Err(skip(format!("{package} is not installed (looked for {})", candidates.join(", ")))),
    }
}
