//! A daemon for one measurement, on a socket in a private directory.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::artifacts;
use crate::process::{Server, die_with_us};

/// A running `ipcd serve`; killed on drop.
pub struct Daemon {
    server: Server,
    dir: TempDir,
}

/// The part of `ipcd stats --json` that is used here.
#[derive(Deserialize, Debug)]
pub struct Stats {
    /// Pairs that were granted.
    pub pairs: u64,
    /// Streams of which both ends became final.
    pub finals: u64,
    /// From the call of connect until both ends were final.
    pub connect_to_final: Times,
    /// From the N-th byte until the grant was sent.
    pub prefix_to_grant: Times,
}

/// A distribution, in microseconds.
#[derive(Deserialize, Debug)]
pub struct Times {
    /// How many were measured.
    pub count: u64,
    /// Median.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
}

/// The part of a row of `ipcd ls --json` that is used here.
#[derive(Deserialize, Debug)]
pub struct Stream {
    /// Address of the end that connected.
    pub client: String,
    /// Address of the end that accepted.
    pub server: String,
    /// The state of the end that is less far.
    pub state: String,
    /// Whether both ends are known.
    pub paired: bool,
    /// Whether no process has it any more.
    pub ended: bool,
    /// Seconds since connect or accept was called; for a stream that has ended, from that call to its end.
    pub age_s: f64,
    /// One or two ends, the connecting end first.
    pub ends: Vec<End>,
    /// Bytes that went from client to server before that direction switched.
    pub client_to_server_switched_at: Option<u64>,
    /// Bytes that went from server to client before that direction switched.
    pub server_to_client_switched_at: Option<u64>,
}

/// The part of an end of a stream that is used here.
#[derive(Deserialize, Debug)]
pub struct End {
    /// connected or accepted.
    pub role: String,
    /// Its process.
    pub pid: u32,
}

impl Stream {
    /// Whether this process connected it.
    pub fn is_from(&self, pid: u32) -> bool {
        self.ends.iter().any(|e| e.pid == pid && e.role == "connected")
    }

    /// Whether both ends left TCP in both directions.
    pub fn is_final(&self) -> bool {
        self.paired && self.state == "final"
    }
}

impl Daemon {
    /// Starts one with these arguments of `ipcd serve` and waits until it answers.
    pub fn start(args: &[&str]) -> Result<Daemon> {
        let dir = tempfile::Builder::new().prefix("ipc-bench-").tempdir()?;
        // Servers that do not run as root must reach the directory, too; only this user may write to it.
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        let mut command = Command::new(artifacts::ipcd()?);
        command.arg("serve").args(args).arg("--socket").arg(dir.path().join("ipcd.sock"));
        die_with_us(&mut command);
        let socket = dir.path().join("ipcd.sock");
        let server = Server::start(&mut command)?.wait_until("ipcd's answer", || ask(&socket, &["stats"]).is_ok())?;
        Ok(Daemon { server, dir })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("ipcd.sock")
    }

    /// A private directory that is removed with the daemon.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// The output of `ipcd ARGS`.
    pub fn print(&self, args: &[&str]) -> Result<String> {
        ask(&self.socket(), args)
    }

    fn parsed<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T> {
        let text = self.print(args)?;
        serde_json::from_str(&text).with_context(|| format!("ipcd {args:?} printed {text:?}"))
    }

    /// `ipcd stats --json`.
    pub fn stats(&self) -> Result<Stats> {
        self.parsed(&["stats", "--json"])
    }

    /// `ipcd ls --all --json`.
    pub fn streams(&self) -> Result<Vec<Stream>> {
        self.parsed(&["ls", "--all", "--json"])
    }

    /// `ipcd ls --json`: the streams that have not ended.
    pub fn live(&self) -> Result<Vec<Stream>> {
        self.parsed(&["ls", "--json"])
    }

    /// Waits until the live stream from this client port is in this state.
    pub fn wait_for(&self, client: u16, state: &str) -> Result<()> {
        let start = Instant::now();
        let port = format!(":{client}");
        loop {
            let streams = self.live()?;
            let found = streams.iter().find(|s| !s.ended && s.client.ends_with(&port));
            if found.is_some_and(|s| s.state == state) {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(20) {
                bail!("the stream from port {client} is not {state}, but: {found:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The output of `ipcd ARGS`, from the daemon at this socket.
fn ask(socket: &Path, args: &[&str]) -> Result<String> {
    let out = Command::new(artifacts::ipcd()?).args(args).arg("--socket").arg(socket).output()?;
    if !out.status.success() {
        bail!("ipcd {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(String::from_utf8(out.stdout)?)
}
