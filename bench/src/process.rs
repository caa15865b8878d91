//! Programs that do not outlive the measurement.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

use crate::artifacts;
use crate::daemon::Daemon;

/// Under what a program runs.
#[derive(Clone, Copy)]
pub enum Mode<'a> {
    /// As it is.
    Native,
    /// Preloaded, with this daemon.
    Shim(&'a Daemon),
    /// Preloaded, with a path where nobody answers.
    NoDaemon,
}

/// A command that ends with us, whatever ends us.
pub fn command(program: impl AsRef<OsStr>, mode: Mode) -> Result<Command> {
    let mut command = Command::new(program);
    command.env_remove("LD_PRELOAD").env_remove("IPCD_SOCKET");
    let mut preload = |socket: &Path| -> Result<()> {
        command.env("LD_PRELOAD", artifacts::libipc()?).env("IPCD_SOCKET", socket);
        Ok(())
    };
    match mode {
        Mode::Native => {}
        Mode::Shim(daemon) => preload(&daemon.socket())?,
        Mode::NoDaemon => preload(Path::new("/nonexistent/ipcd.sock"))?,
    }
    die_with_us(&mut command);
    Ok(command)
}

/// Has the kernel kill the program when we end.
pub fn die_with_us(command: &mut Command) {
    // SAFETY: prctl with constant arguments is async-signal-safe, as code between fork and exec must be.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

/// A program that talks with us over its standard input and output. Killed on drop.
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

    /// Tells it to go on.
    pub fn go(&mut self) -> Result<()> {
        Ok(self.stdin.write_all(b"go\n")?)
    }

    /// Waits for its end, which must be a good one.
    pub fn finish(mut self) -> Result<()> {
        succeeded(self.child.wait()?)
    }
}

/// An error unless it is a success.
pub fn succeeded(status: ExitStatus) -> Result<()> {
    if status.success() { Ok(()) } else { bail!("the program ended with {status}") }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server in the background that says nothing. Killed on drop.
pub struct Server(Child);

impl Server {
    /// Starts it.
    pub fn start(command: &mut Command) -> Result<Server> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Server(command.spawn().with_context(|| format!("cannot run {command:?}"))?))
    }

    /// An error if it has ended.
    pub fn must_run(&mut self) -> Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the server ended: {status}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
