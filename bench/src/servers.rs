//! Functions for programs that serve.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::Server;
use crate::process::is_root;
use crate::skip::skip;

/// A port that is free now.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Whether the process listens on this port. Read from /proc and not tried, because some programs serve one connection
/// and end.
fn listens(pid: u32, port: u16) -> bool {
    // The process's own table, because it may be in another network namespace. 0A is LISTEN.
    let table = |name: &str| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    let port = format!(":{port:04X}");
    let listening = |l: &str| {
        let mut fields = l.split_whitespace();
        fields.nth(1).is_some_and(|local| local.ends_with(&port)) && fields.nth(1) == Some("0A")
    };
    ["tcp", "tcp6"].iter().any(|name| table(name).lines().any(listening))
}

/// Starts a server and waits until it listens on this port.
pub fn serve(command: &mut Command, port: u16) -> Result<Server> {
    let server = Server::start(command)?;
    let pid = server.pid();
    server.wait_until(&format!("{:?} on port {port}", command.get_program()), || listens(pid, port))
}

/// Starts a server and waits until this socket exists.
pub fn serve_at(command: &mut Command, socket: &Path) -> Result<Server> {
    serve_until(command, &format!("{}", socket.display()), || socket.exists())
}

/// Starts a server and waits until this condition holds.
pub fn serve_until(command: &mut Command, what: &str, is_ready: impl Fn() -> bool) -> Result<Server> {
    Server::start(command)?.wait_until(what, is_ready)
}

/// A user other than root.
#[derive(Clone, Copy)]
pub struct User(u32, u32);

/// The user and group that some servers want to run as instead of root; `None` if this process is not root itself.
pub fn user(name: &str) -> Result<Option<User>> {
    if !is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").context("/etc/passwd")?;
    let found = users.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name);
    let ids = found.and_then(|f| Some(User(f.get(2)?.parse().ok()?, f.get(3)?.parse().ok()?)));
    ids.map(Some).ok_or_else(|| skip(format!("there is no user {name}")))
}

/// Has a program start as this user, after all other set-up, which may need root.
pub fn run_as(command: &mut Command, user: Option<User>) {
    let Some(User(user, group)) = user else { return };
    let change = move || {
        // SAFETY: plain system calls. A change of user clears the signal at our death, so it is set again.
        let done = unsafe {
            libc::setgroups(0, std::ptr::null()) == 0
                && libc::setgid(group) == 0
                && libc::setuid(user) == 0
                && libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) == 0
        };
        if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: system calls only.
    unsafe { command.pre_exec(change) };
}

/// Gives a file or directory to this user.
pub fn give(path: &Path, user: Option<User>) -> Result<()> {
    let Some(User(user, group)) = user else { return Ok(()) };
    Ok(std::os::unix::fs::chown(path, Some(user), Some(group))?)
}
