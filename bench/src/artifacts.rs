//! Where the measured things are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Makes calls to be counted (`programs/calls.c`).
pub const CALLS: &str = env!("PROGRAM_CALLS");
/// Two processes and one stream (`programs/peers.c`).
pub const PEERS: &str = env!("PROGRAM_PEERS");
/// Requests and replies (`programs/traffic.c`).
pub const TRAFFIC: &str = env!("PROGRAM_TRAFFIC");

fn artifact(name: &str) -> Result<PathBuf> {
    let here = env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release");
    let dirs = match env::var_os("IPC_BIN_DIR") {
        Some(dir) => vec![PathBuf::from(dir)],
        None => here.into_iter().chain([built]).collect(),
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

/// A program that the system should have.
pub fn installed(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    match env::split_paths(&path).map(|dir| dir.join(name)).find(|candidate| candidate.is_file()) {
        Some(path) => Ok(path),
        None => bail!("{name} is not installed (`.ci/packages` lists what is needed, and installs it for root)"),
    }
}
