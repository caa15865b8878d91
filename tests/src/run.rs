//! Runs one program, with or without the shim, for a limited time.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{Daemon, artifacts, diagnose};

/// A time limit for everything that takes a moment on an idle machine: even on a busy machine only something that never
/// happens takes this long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How a program runs.
#[derive(Clone, Copy)]
pub enum Mode<'a> {
    /// Without the shim.
    Native,
    /// Preloaded, with this daemon.
    Shim(&'a Daemon),
    /// Preloaded, with a socket path at which no process answers.
    ShimNoDaemon,
    /// Preloaded, with this socket path, whatever happens to the daemon there.
    ShimAt(&'a Path),
    /// Only the near end of a victim is preloaded.
    OnlyNear(&'a Daemon),
    /// Only the far end of a victim is preloaded.
    OnlyFar(&'a Daemon),
}

impl<'a> Mode<'a> {
    /// The daemon that is asked whether streams moved, if both ends are under the shim.
    pub fn daemon(self) -> Option<&'a Daemon> {
        match self {
            Mode::Shim(daemon) => Some(daemon),
            _ => None,
        }
    }

    /// Makes a command run in this mode.
    pub fn apply(self, command: &mut Command) {
        command.env_remove("LD_PRELOAD").env_remove("IPCD_SOCKET").envs(self.environment());
    }

    fn environment(self) -> Vec<(&'static str, OsString)> {
        let shim = || ("LD_PRELOAD", artifacts::libipc().into_os_string());
        match self {
            Mode::Native => vec![],
            Mode::Shim(d) | Mode::OnlyNear(d) => vec![shim(), ("IPCD_SOCKET", d.socket().into())],
            Mode::ShimAt(socket) => vec![shim(), ("IPCD_SOCKET", socket.into())],
            Mode::ShimNoDaemon => vec![shim(), ("IPCD_SOCKET", "/nonexistent/ipcd.sock".into())],
            Mode::OnlyFar(d) => {
                vec![("VICTIM_FAR_PRELOAD", artifacts::libipc().into()), ("IPCD_SOCKET", d.socket().into())]
            }
        }
    }
}

/// A program to run.
#[derive(Clone)]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    directory: Option<PathBuf>,
    limit: Duration,
}

impl Program {
    /// A program with arguments, and a limit of some minutes.
    pub fn new(path: impl AsRef<Path>, args: &[&str]) -> Program {
        let args = args.iter().map(OsString::from).collect();
        Program { path: path.as_ref().into(), args, env: Vec::new(), directory: None, limit: 4 * PATIENCE }
    }

    /// Sets another time limit.
    pub fn limit(mut self, limit: Duration) -> Program {
        self.limit = limit;
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: &str) -> Program {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets the directory that it runs in.
    pub fn directory(mut self, directory: &Path) -> Program {
        self.directory = Some(directory.into());
        self
    }

    pub(crate) fn command(&self, mode: Mode) -> Command {
        let mut command = Command::new(&self.path);
        mode.apply(command.args(&self.args));
        command.envs(self.env.iter().cloned());
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }

    /// The command line that repeats this by hand.
    pub fn by_hand(&self, mode: Mode) -> String {
        let mut line = String::new();
        for (name, value) in mode.environment() {
            line += &format!("{name}={} ", value.display());
        }
        line += &self.path.display().to_string();
        for arg in &self.args {
            line += &format!(" {}", arg.display());
        }
        line
    }
}

/// The output of a program and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// Standard output without the lines for the harness.
    pub lines: Vec<String>,
    /// The lines that began with '@', without it.
    pub marks: Vec<String>,
    /// Standard error.
    pub stderr: String,
    /// Its exit status; `None` if it was killed because it took too long.
    pub status: Option<ExitStatus>,
    /// What it was doing when its time was over.
    pub hang: String,
}

impl Outcome {
    /// Whether it ended by itself and successfully.
    pub fn passed(&self) -> bool {
        self.status.is_some_and(|s| s.success())
    }

    /// The numbers of the last mark `name a 1 b 2`.
    pub fn mark(&self, name: &str, field: &str) -> Option<f64> {
        let line = self.marks.iter().rev().find(|l| l.starts_with(name))?;
        let mut words: VecDeque<&str> = line.split_whitespace().collect();
        while let Some(word) = words.pop_front() {
            if word == field {
                return words.pop_front()?.parse().ok();
            }
        }
        None
    }
}

fn drain(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn lines_of(from: impl Read + Send + 'static) -> Receiver<String> {
    let (to, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            if to.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
    lines
}

/// Runs a program to its end. Each line that begins with '@' is shown to `answer`; after `@hold` and `@event` the
/// program waits until `answer` has returned. An error of `answer` ends the program.
pub fn run(program: &Program, mode: Mode, mut answer: impl FnMut(&str) -> Result<(), String>) -> Outcome {
    let mut command = program.command(mode);
    command.env("VICTIM_HOLD", "1").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", program.by_hand(mode)));
    let group = child.id() as i32;
    let mut stdin = child.stdin.take().expect("piped");
    let stderr = drain(child.stderr.take().expect("piped"));
    let stdout = lines_of(child.stdout.take().expect("piped"));
    let end = Instant::now() + program.limit;
    let mut outcome =
        Outcome { lines: vec![], marks: vec![], stderr: String::new(), status: None, hang: String::new() };
    let mut stopped = loop {
        match stdout.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                let Some(mark) = line.strip_prefix('@') else {
                    outcome.lines.push(line);
                    continue;
                };
                outcome.marks.push(mark.to_owned());
                if let Err(e) = answer(mark) {
                    break Some(e);
                }
                if mark.starts_with("hold") || mark.starts_with("event") {
                    let _ = stdin.write_all(b"go\n");
                }
            }
            Err(RecvTimeoutError::Timeout) => break Some(format!("not finished after {:?}", program.limit)),
            Err(RecvTimeoutError::Disconnected) => break None,
        }
    };
    while stopped.is_none() && child.try_wait().expect("our own child").is_none() {
        if Instant::now() > end {
            stopped = Some(format!("closed its output, but did not end within {:?}", program.limit));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    if let Some(why) = &stopped {
        outcome.hang = format!("{why}\n{}", diagnose::describe(group));
        // SAFETY: the group was made by our own child, which has not been waited for, so the number is still its own.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
    let status = child.wait().expect("our own child");
    outcome.status = stopped.is_none().then_some(status);
    outcome.stderr = stderr.join().expect("a reader that does not panic");
    outcome
}
