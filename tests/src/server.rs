//! A server in the background: started, waited for, described when a wait takes too long, and stopped.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::{Mode, PATIENCE, Program, diagnose};

/// What a server writes when one of its processes has crashed.
const CRASHES: [&str; 6] =
    ["signal 11", "signal 6", "signal 31", "Segmentation fault", "(core dumped)", "Fatal signal"];

/// A port on which no process listens. It lies below the ports that the kernel gives to clients, so that no connection
/// of another test takes it before the server does.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let port = FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// Whether a process listens on the port. A connection would tell as well, but it would be an additional stream, and a
/// server that serves only one client would serve this one.
fn is_listening(port: u16) -> bool {
    let wanted = format!(":{port:04X}");
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        let table = fs::read_to_string(table).unwrap_or_default();
        table.lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            words.next().is_some_and(|local| local.ends_with(&wanted)) && words.nth(1) == Some("0A")
        })
    })
}

/// A running server, which leads a process group of its own; stopped on drop.
pub struct Server {
    child: Child,
    ended: Option<ExitStatus>,
    by_hand: String,
    log: PathBuf,
}

impl Server {
    /// Starts it. Its output is appended to the file `log`.
    pub fn start(program: &Program, mode: Mode, log: &Path) -> Server {
        let open = || File::options().create(true).append(true).open(log).expect("a log file");
        let mut command = program.command(mode);
        command.stdin(Stdio::null()).stdout(open()).stderr(open()).process_group(0);
        let by_hand = program.by_hand(mode);
        let child = command.spawn().unwrap_or_else(|e| panic!("{by_hand}: {e}"));
        Server { child, ended: None, by_hand, log: log.into() }
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits until a process listens on the port.
    pub fn wait_for_port(&mut self, port: u16) {
        self.wait_until(&format!("port {port}"), || is_listening(port));
    }

    /// Waits for a condition that a server brings about.
    pub fn wait_until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !condition() {
            if let Some(status) = self.try_wait() {
                panic!("ended ({status}) before {what} was there:\n{}", self.describe());
            }
            assert!(Instant::now() < end, "{what} is not there after {PATIENCE:?}:\n{}", self.describe());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("our own child");
        }
        self.ended
    }

    /// Sends it a signal, if it is still running.
    pub fn signal(&mut self, signal: i32) {
        if self.try_wait().is_none() {
            // SAFETY: the process is our child and not yet waited for, so the number is still its own.
            unsafe { libc::kill(self.pid(), signal) };
        }
    }

    /// How to start it by hand, the end of its output, and what its processes are doing.
    pub fn describe(&self) -> String {
        let log = self.log_text();
        let skipped = log.char_indices().rev().nth(3000).map_or(0, |(at, _)| at);
        let log = log.get(skipped..).unwrap_or_default();
        format!("server: {}\n{log}\n{}", self.by_hand, diagnose::describe_family(self.pid()))
    }

    fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends SIGTERM, and waits. The error says that the server had crashed, or that it does not end.
    pub fn stop(&mut self) -> Result<(), String> {
        self.signal(libc::SIGTERM);
        let end = Instant::now() + PATIENCE;
        while self.try_wait().is_none() {
            if Instant::now() > end {
                let text = self.describe();
                self.kill();
                return Err(format!("does not end within {PATIENCE:?} of SIGTERM: {text}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let signal = self.ended.and_then(|s| s.signal()).unwrap_or(0);
        let log = self.log_text();
        if ![0, libc::SIGTERM].contains(&signal) || CRASHES.iter().any(|crash| log.contains(crash)) {
            return Err(format!("crashed: {:?}\n{}", self.ended, self.describe()));
        }
        Ok(())
    }

    fn kill(&mut self) {
        for pid in diagnose::family(self.pid()) {
            // SAFETY: our own child, which is not waited for, or a process that descends from it.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        self.ended = Some(self.child.wait().expect("our own child"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.try_wait().is_none() {
            self.kill();
        }
    }
}
