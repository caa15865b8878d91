//! Programs that end with the measurement at the latest.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The time limit for a program's answer, or its end: only one that hangs takes so long, on whatever machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Has the kernel end the program when this process ends, for whatever reason.
pub fn die_with_us(command: &mut Command) {
    // SAFETY: prctl with constant arguments is async-signal-safe, as code between fork and exec must be.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        });
    }
}

/// Has the kernel end the program when its time is over, so that one that hangs does not stop the measurements for ever.
pub fn die_in_time(command: &mut Command) {
    // SAFETY: alarm cannot fail, and is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::alarm(PATIENCE.as_secs() as u32);
            Ok(())
        });
    }
}

fn signal(child: &Child, number: i32) {
    // SAFETY: the child has not been waited for, so the number is still its own.
    unsafe { libc::kill(child.id() as i32, number) };
}

/// Asks a child to end, waits, and kills it if it does not.
fn end(child: &mut Child, first: i32) {
    if matches!(child.try_wait(), Ok(None)) {
        signal(child, first);
    }
    let start = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if start.elapsed() > Duration::from_secs(5) {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A program that talks with this process over its standard input and output. Killed on drop.
pub struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Starts it.
    pub fn start(command: &mut Command) -> Result<Process> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else { bail!("no pipes") };
        Ok(Process { child, stdin, stdout: BufReader::new(stdout) })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        if line.is_empty() {
            bail!("it ended ({}) instead of printing a line", self.child.wait()?);
        }
        Ok(line.trim().to_owned())
    }

    /// The next line, as a number.
    pub fn number<N: std::str::FromStr>(&mut self) -> Result<N> {
        let line = self.line()?;
        line.parse().ok().with_context(|| format!("{line:?} is not a number"))
    }

    /// A line with the number of binary words, and the words.
    pub fn words(&mut self) -> Result<Vec<u32>> {
        let mut bytes = vec![0; 4 * self.number::<usize>()?];
        self.stdout.read_exact(&mut bytes)?;
        Ok(bytes.chunks_exact(4).map(|w| u32::from_ne_bytes([w[0], w[1], w[2], w[3]])).collect())
    }

    /// Tells it to go on.
    pub fn go(&mut self) -> Result<()> {
        Ok(self.stdin.write_all(b"go\n")?)
    }

    /// Waits for its end, which must be a success.
    pub fn finish(mut self) -> Result<()> {
        succeeded(self.child.wait()?)
    }
}

/// An error unless the status is a success.
pub fn succeeded(status: ExitStatus) -> Result<()> {
    if status.success() { Ok(()) } else { bail!("the program ended with {status}") }
}

/// Runs a program to its end, which must be a success; returns its output.
pub fn output(command: &mut Command) -> Result<String> {
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        let said = if said.trim().is_empty() { String::from_utf8_lossy(&out.stdout) } else { said };
        bail!("{:?} ended with {}: {}", command.get_program(), out.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server in the background whose output is not read. Ended on drop.
pub struct Server {
    child: Child,
    ends_with: i32,
}

impl Server {
    /// Starts it.
    pub fn start(command: &mut Command) -> Result<Server> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        Ok(Server { child, ends_with: libc::SIGTERM })
    }

    /// Sets the signal that ends it quickly, if that is not SIGTERM.
    pub fn ends_with(mut self, signal: i32) -> Server {
        self.ends_with = signal;
        self
    }

    /// Waits until a condition holds for it.
    pub fn wait_until(mut self, what: &str, is_true: impl Fn() -> bool) -> Result<Server> {
        let start = Instant::now();
        while !is_true() {
            self.must_run().with_context(|| format!("waiting for {what}"))?;
            if start.elapsed() > PATIENCE {
                bail!("{what}: not after {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(self)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error if it has ended.
    pub fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the server ended: {status}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child, self.ends_with);
    }
}

/// A name that no other question uses, in this process or another.
pub fn unique(prefix: &str) -> String {
    static USED: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}{}_{}", std::process::id(), USED.fetch_add(1, Relaxed))
}

/// Whether this process is root.
pub fn is_root() -> bool {
    // SAFETY: no arguments, and it cannot fail.
    unsafe { libc::geteuid() == 0 }
}
