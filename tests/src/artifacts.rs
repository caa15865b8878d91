//! The paths of the programs and libraries under test.

use std::env;
use std::path::{Path, PathBuf};

/// The test programs, built by this crate.
pub const VICTIM: &str = env!("VICTIM");
/// The same, optimised and fortified (_FORTIFY_SOURCE).
pub const VICTIM_FORTIFIED: &str = env!("VICTIM_FORTIFIED");
/// A cat that is linked statically.
pub const STATIC_CAT: &str = env!("VICTIM_STATIC_CAT");
/// A statically linked program that has a connection and does with it as it is told.
pub const STATIC_HOLD: &str = env!("VICTIM_STATIC_HOLD");
/// A library that uses TCP by itself.
pub const LIBRARY: &str = env!("VICTIM_LIBRARY");

fn artifact(name: &str) -> PathBuf {
    let dir = env::var_os("IPC_BIN_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release"));
    let path = dir.join(name);
    match path.canonicalize() {
        Ok(path) => path,
        Err(_) => panic!("{} is missing: run `make build` first (IPC_BIN_DIR names another place)", path.display()),
    }
}

/// The daemon and command line.
pub fn ipcd() -> PathBuf {
    artifact("ipcd")
}

/// The shim.
pub fn libipc() -> PathBuf {
    artifact("libipc.so")
}

/// A program that the system should have. Servers lie in directories that are not on every user's path.
pub fn installed(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: `make test` as root installs it"))
}
