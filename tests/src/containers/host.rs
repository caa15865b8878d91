//! An ipcd on the engine's host, and programs of the host that use it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use super::{TALK, wait_final, wait_until};
use crate::artifacts;
use crate::daemon::PrivateDir;
use crate::streams::{self, Stream};

/// An ipcd on the host in a directory that can be mounted, with the library in it; killed on drop.
pub struct HostIpcd {
    dir: PrivateDir,
    child: Child,
}

impl HostIpcd {
    /// Starts one and waits until it answers.
    pub fn start(options: &[&str]) -> HostIpcd {
        let dir = PrivateDir::new();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("our own directory");
        let mut command = Command::new(artifacts::ipcd());
        command.args(["serve", "--patience", "0", "--socket"]).arg(dir.path().join("ipcd.sock"));
        command.arg("--everybody").arg("--copy-library").arg(dir.path()).args(options);
        let ipcd = HostIpcd { child: command.spawn().expect("ipcd serve"), dir };
        wait_until("ipcd answers", || ipcd.ask(&["stats"]).is_ok());
        ipcd
    }

    fn ask(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(artifacts::ipcd());
        command.args(args).arg("--socket").arg(self.dir.path().join("ipcd.sock"));
        let output = command.output().map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(text) } else { Err(text) }
    }

    /// The options that give a container the directory and the two variables.
    pub fn shim(&self) -> Vec<String> {
        super::shim(&self.dir.path().display().to_string())
    }

    /// talk.pl on the host, with the shim.
    pub fn talk(&self, args: &[&str]) -> Command {
        let mut command = Command::new("perl");
        command.args(["-e", TALK]).args(args).stdin(Stdio::null()).stdout(Stdio::piped());
        command.env("LD_PRELOAD", self.dir.path().join("libipc.so"));
        command.env("IPCD_SOCKET", self.dir.path().join("ipcd.sock"));
        command
    }

    /// Every stream that ipcd knows.
    pub fn streams(&self) -> Vec<Stream> {
        let json = self.ask(&["ls", "--all", "--json"]).unwrap_or_else(|e| panic!("{e}"));
        streams::read(&serde_json::from_str(&json).expect("JSON"))
    }

    /// Waits until this many streams to this port are final.
    pub fn wait_final(&self, server: u16, count: usize) {
        wait_final(server, count, || self.ask(&["ls", "--all", "--json"]).unwrap_or_else(|e| panic!("{e}")));
    }
}

impl Drop for HostIpcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
