//! A daemon for one test, on a socket in a private directory.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::streams::{self, Stream};
use crate::{PATIENCE, artifacts};

/// How long a stream is given to become final before an allowed state is accepted instead.
const STUCK: Duration = Duration::from_secs(5);

/// How to start a daemon.
#[derive(Clone, Default)]
pub struct Options {
    /// N, the number of bytes of each direction that are hashed; small, so that streams move early.
    pub prefix: Option<u32>,
    /// Changes of direction before a stream is offered; 0, so that short streams move, too.
    pub patience: u32,
    /// Writes in one direction that are smaller than this, in bytes, keep a stream on TCP.
    pub small_writes: u32,
    /// Environment of the daemon, such as IPCD_TEST_CRASH.
    pub env: Vec<(String, String)>,
}

impl Options {
    /// Streams move as soon as they can.
    pub fn earliest() -> Options {
        Options { prefix: Some(1), ..Options::default() }
    }

    /// The terms of an `ipcd serve` without options.
    pub fn usual() -> Options {
        Options { patience: 32, ..Options::default() }
    }
}

/// A directory that only this user may enter, removed on drop.
pub struct PrivateDir(PathBuf);

impl PrivateDir {
    /// A new one.
    pub fn new() -> PrivateDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ipc-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new().mode(0o700).create(&path).expect("a private directory");
        PrivateDir(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for PrivateDir {
    fn default() -> Self {
        PrivateDir::new()
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running `ipcd serve`; killed on drop.
pub struct Daemon {
    dir: PrivateDir,
    options: Options,
    child: Option<Child>,
}

impl Daemon {
    /// Starts one and waits until it answers.
    pub fn start(options: Options) -> Daemon {
        let mut daemon = Daemon { dir: PrivateDir::new(), options, child: None };
        daemon.restart();
        daemon
    }

    /// With a prefix of 8 bytes.
    pub fn eager() -> Daemon {
        Daemon::start(Options { prefix: Some(8), ..Options::default() })
    }

    /// The path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("ipcd.sock")
    }

    /// The daemon's process.
    pub fn pid(&self) -> i32 {
        self.child.as_ref().expect("the daemon runs").id() as i32
    }

    /// Starts the daemon on the same path, if it is not running.
    pub fn restart(&mut self) {
        if self.child.is_some() {
            return;
        }
        let mut command = Command::new(artifacts::ipcd());
        command.arg("serve").arg("--socket").arg(self.socket());
        command.arg("--patience").arg(self.options.patience.to_string());
        command.arg("--small-writes").arg(self.options.small_writes.to_string());
        if let Some(n) = self.options.prefix {
            command.arg("--prefix").arg(n.to_string());
        }
        command.envs(self.options.env.iter().cloned()).stdin(Stdio::null()).stdout(Stdio::null());
        self.child = Some(command.spawn().expect("ipcd serve"));
        let start = Instant::now();
        while self.ask("stats", &[]).is_err() {
            let child = self.child.as_mut().expect("just started");
            if let Some(status) = child.try_wait().expect("our own child") {
                panic!("ipcd serve ended at once: {status}");
            }
            assert!(start.elapsed() < PATIENCE, "ipcd does not answer on {}", self.socket().display());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: the process is our child and not yet waited for, so the number is still its own.
        let sent = unsafe { libc::kill(self.pid(), signal) };
        assert_eq!(sent, 0, "signal {signal} to ipcd");
    }

    /// Sends SIGSTOP, and waits until the daemon has stopped.
    pub fn stop(&self) {
        self.signal(libc::SIGSTOP);
        let path = format!("/proc/{}/stat", self.pid());
        let start = Instant::now();
        while !fs::read_to_string(&path).unwrap_or_default().contains(") T ") {
            assert!(start.elapsed() < Duration::from_secs(10), "ipcd does not stop");
        }
    }

    /// SIGKILL; [`Daemon::restart`] starts its successor.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn ask(&self, what: &str, more: &[&str]) -> Result<Value, String> {
        let out = Command::new(artifacts::ipcd())
            .args([what, "--json"])
            .args(more)
            .arg("--socket")
            .arg(self.socket())
            .output()
            .map_err(|e| e.to_string())?;
        if !out.status.success() {
            return Err(format!("ipcd {what}: {}: {}", out.status, String::from_utf8_lossy(&out.stderr)));
        }
        serde_json::from_slice(&out.stdout)
            .map_err(|e| format!("ipcd {what}: {e} in {}", String::from_utf8_lossy(&out.stdout)))
    }

    /// `ipcd ls --all --json`.
    pub fn ls(&self) -> Value {
        self.ask("ls", &["--all"]).unwrap_or_else(|e| panic!("{e}"))
    }

    /// `ipcd stats --json`.
    pub fn stats(&self) -> Value {
        self.ask("stats", &[]).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The answer of [`Daemon::ls`] as streams.
    pub fn streams(&self) -> Vec<Stream> {
        streams::read(&self.ls())
    }

    /// How many streams have become final since the daemon started.
    pub fn finals(&self) -> usize {
        let stats = self.stats();
        let finals = stats.get("finals").and_then(Value::as_u64);
        finals.unwrap_or_else(|| panic!("`ipcd stats` printed {stats}")) as usize
    }

    /// As [`Daemon::finals`], but waits until the count is reached: the last reports may still be under way.
    pub fn finals_reach(&self, count: usize) -> usize {
        let start = Instant::now();
        loop {
            let finals = self.finals();
            if finals >= count || start.elapsed() > PATIENCE {
                return finals;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The streams that did not become final, as `ipcd ls` prints them, for the message of a failed test.
    pub fn not_final(&self) -> String {
        let all = self.ls();
        let rows = all.as_array().into_iter().flatten();
        let state = |row: &Value| row.get("state").and_then(Value::as_str) == Some("final");
        let left: Vec<&Value> = rows.filter(|row| !state(row)).collect();
        serde_json::to_string_pretty(&left).unwrap_or_default()
    }

    /// Waits until the newest stream at each of these ports (of the ends that connected) is final, or stays for one of
    /// the `allowed` reasons. After some seconds a stream in an allowed state is accepted, too. The error shows the
    /// states instead.
    pub fn wait_final(&self, ports: &[u16], allowed: &[&str], limit: Duration) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let asked = Instant::now();
            let all = self.streams();
            let settled = |port: &&u16| streams::at(&all, **port).is_some_and(|s| s.is_final() || s.stays_for(allowed));
            let missing: Vec<_> = ports.iter().filter(|p| !settled(p)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            let stuck = |port: &&u16| streams::at(&all, **port).is_some_and(|s| allowed.contains(&s.state.as_str()));
            if start.elapsed() > limit.min(STUCK) && missing.iter().all(stuck) {
                return Ok(());
            }
            if start.elapsed() > limit {
                let text = serde_json::to_string_pretty(&self.ls()).unwrap_or_default();
                let text: String = text.chars().take(6000).collect();
                return Err(format!("{} of {} streams are not final: {missing:?}\n{text}", missing.len(), ports.len()));
            }
            // Asking costs the daemon time that the streams need: ask less when the answer is long.
            std::thread::sleep(Duration::from_millis(15).max(5 * asked.elapsed()));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill9();
    }
}
