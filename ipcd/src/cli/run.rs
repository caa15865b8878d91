//! `ipcd run`: becomes the program, with libipc preloaded.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use matcher::wire::Query;

use super::SocketArg;
use crate::client;
use crate::serve::place;

const STARTING: Duration = Duration::from_secs(2);

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    socket: SocketArg,
    /// The library to preload [default: $IPCD_LIB, or libipc.so beside ipcd, or in ../lib]
    #[arg(long, value_name = "PATH")]
    lib: Option<PathBuf>,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

pub fn main(args: &Args) -> Result<(), String> {
    let library = library(args.lib.as_deref())?;
    let socket = args.socket.path();
    ensure_daemon(&socket)?;
    let [program, arguments @ ..] = args.command.as_slice() else { return Err("no program was named".into()) };
    let mut command = Command::new(program);
    command.args(arguments).env("LD_PRELOAD", preload(&library));
    if args.socket.socket.is_some() {
        command.env("IPCD_SOCKET", &socket);
    }
    let error = command.exec();
    Err(format!("cannot run {}: {error}", program.display()))
}

/// Finds libipc.so.
pub fn library(asked: Option<&Path>) -> Result<PathBuf, String> {
    let asked = asked.map(Path::to_owned).or_else(|| std::env::var_os("IPCD_LIB").map(PathBuf::from));
    let candidates = match asked {
        Some(path) => vec![path],
        None => {
            let exe = std::env::current_exe().map_err(|e| format!("cannot find ipcd itself: {e}"))?;
            let dir = exe.parent().unwrap_or(Path::new("/"));
            vec![dir.join("libipc.so"), dir.join("../lib/libipc.so"), dir.join("../lib/ipcd/libipc.so")]
        }
    };
    let found = candidates.iter().find_map(|c| c.canonicalize().ok().filter(|c| c.is_file()));
    let found = found.ok_or_else(|| {
        let tried: Vec<_> = candidates.iter().map(|c| c.display().to_string()).collect();
        format!("cannot find libipc.so (looked for {}); name it with --lib or IPCD_LIB", tried.join(", "))
    })?;
    if found.as_os_str().as_bytes().iter().any(|b| b": \t\n".contains(b)) {
        let found = found.display();
        return Err(format!("the loader cannot preload {found}: spaces and colons separate libraries; move libipc.so"));
    }
    Ok(found)
}

/// The library in front of what is preloaded already.
fn preload(library: &Path) -> OsString {
    let mut value = library.as_os_str().to_owned();
    if let Some(old) = std::env::var_os("LD_PRELOAD").filter(|v| !v.is_empty()) {
        let known = old.as_bytes().split(|b| b" :".contains(b)).any(|p| OsStr::from_bytes(p) == library.as_os_str());
        if known {
            return old;
        }
        value.push(":");
        value.push(old);
    }
    value
}

fn answers(socket: &Path, patience: Duration) -> bool {
    client::ask(socket, Query::Stats, patience).is_ok()
}

/// Starts a daemon if none answers, and waits until it does.
fn ensure_daemon(socket: &Path) -> Result<(), String> {
    if answers(socket, STARTING) {
        return Ok(());
    }
    let dir = place::prepare_directory(socket, false).map_err(|e| e.to_string())?;
    let log = dir.join("ipcd.log");
    let open = OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(&log);
    let open = open.map_err(|e| format!("cannot open {}: {e}", log.display()))?;
    let exe = std::env::current_exe().map_err(|e| format!("cannot find ipcd itself: {e}"))?;
    let mut command = Command::new(exe);
    command.args(["serve", "--background", "--socket"]).arg(socket).env_remove("LD_PRELOAD");
    let errors = open.try_clone().map_err(|e| format!("cannot use {}: {e}", log.display()))?;
    command.stdin(Stdio::null()).stdout(open).stderr(errors);
    command.status().map_err(|e| format!("cannot start ipcd: {e}"))?;
    let until = Instant::now() + STARTING;
    while Instant::now() < until {
        if answers(socket, Duration::from_millis(200)) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(format!("started ipcd, but it does not answer at {}; see {}", socket.display(), log.display()))
}
