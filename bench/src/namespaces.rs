//! Two network namespaces on one bridge, like two containers.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::artifacts;
use crate::process::output;
use crate::process::{is_root, unique};
use crate::skip::skip;
use crate::way::Side;

/// The server's address.
pub const SERVER_ADDRESS: &str = "198.18.0.1";
const CLIENT_ADDRESS: &str = "198.18.0.2";

/// The two namespaces and the third one, which holds the bridge; all are removed on drop.
pub struct Namespaces {
    prefix: String,
}

impl Namespaces {
    /// Makes all three, so that nothing of the host's network changes.
    pub fn new() -> Result<Namespaces> {
        if !is_root() {
            return Err(skip("network namespaces need root"));
        }
        artifacts::installed("ip")?;
        let made = Namespaces { prefix: unique("ipcb") };
        let bridge = made.name("bridge");
        ip(&format!("netns add {bridge}"))?;
        ip(&format!("-n {bridge} link add br0 type bridge"))
            .map_err(|e| skip(format!("the kernel has no bridges: {e:#}")))?;
        ip(&format!("-n {bridge} link set br0 up"))?;
        for (side, address) in [(Side::Server, SERVER_ADDRESS), (Side::Client, CLIENT_ADDRESS)] {
            let name = made.name(of(side));
            ip(&format!("netns add {name}"))?;
            let (end, port) = ("eth0", of(side));
            ip(&format!("-n {name} link add {end} type veth peer name {port} netns {bridge}"))?;
            ip(&format!("-n {bridge} link set {port} master br0 up"))?;
            ip(&format!("-n {name} addr add {address}/24 dev {end}"))?;
            ip(&format!("-n {name} link set {end} up"))?;
            ip(&format!("-n {name} link set lo up"))?;
        }
        Ok(made)
    }

    fn name(&self, of: &str) -> String {
        format!("{}{of}", self.prefix)
    }

    /// Has a program start in the namespace of this side.
    pub fn enter(&self, command: &mut Command, side: Side) -> Result<()> {
        let path = format!("/var/run/netns/{}", self.name(of(side)));
        let file = File::open(&path).context(path)?;
        let join = move || {
            // SAFETY: the descriptor is open; setns is a plain system call.
            match unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: one system call, and no allocation.
        unsafe { command.pre_exec(join) };
        Ok(())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in ["server", "client", "bridge"] {
            let _ = ip(&format!("netns del {}", self.name(name)));
        }
    }
}

fn of(side: Side) -> &'static str {
    match side {
        Side::Server => "server",
        Side::Client => "client",
    }
}

fn ip(args: &str) -> Result<String> {
    output(Command::new("ip").args(args.split(' '))).with_context(|| format!("ip {args}"))
}
