//! Sets up each way by which two programs talk.

use std::cell::{Cell, OnceCell};
use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, anyhow};
use tempfile::TempDir;

use crate::artifacts;
use crate::daemon::Daemon;
use crate::namespaces::{self, Namespaces};
use crate::process::{die_in_time, die_with_us};
use crate::runner::Scope;
use crate::skip::{is_skip, skip};
use crate::sockmap::Sockmap;
use crate::way::{Side, Way};

/// The set-up of the ways; each part is made when it is first asked for.
pub struct Lab {
    /// How much is measured.
    pub scope: Scope,
    dir: TempDir,
    daemon: Daemon,
    libipc: PathBuf,
    sockmap: OnceCell<Result<Sockmap>>,
    namespaces: OnceCell<Result<Namespaces>>,
    buffers: OnceCell<Result<[u32; 2]>>,
    paths: Cell<u32>,
}

impl Lab {
    /// A daemon with these arguments, and a directory.
    pub fn new(scope: Scope, daemon: &[&str]) -> Result<Lab> {
        let dir = tempfile::Builder::new().prefix("ipc-bench-").tempdir()?;
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        // A copy, because servers that do not run as root may not be able to read where it was built.
        let libipc = dir.path().join("libipc.so");
        std::fs::copy(artifacts::libipc()?, &libipc)?;
        Ok(Lab {
            scope,
            dir,
            daemon: Daemon::start(daemon)?,
            libipc,
            sockmap: OnceCell::new(),
            namespaces: OnceCell::new(),
            buffers: OnceCell::new(),
            paths: Cell::new(0),
        })
    }

    /// The daemon of the ways with a shim.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// A directory that is removed with this.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path that was not used before.
    pub fn path(&self) -> PathBuf {
        self.paths.set(self.paths.get() + 1);
        self.dir.path().join(format!("{}", self.paths.get()))
    }

    /// The same, in a directory where servers that are not root may make a socket.
    pub fn socket_path(&self) -> Result<PathBuf> {
        let dir = self.dir.path().join("sockets");
        if !dir.exists() {
            std::fs::create_dir(&dir)?;
            std::fs::set_permissions(&dir, Permissions::from_mode(0o1777))?;
        }
        let path = self.path();
        Ok(dir.join(path.file_name().unwrap_or_default()))
    }

    /// A command that ends with this process, set up for this way.
    pub fn command(&self, program: impl AsRef<OsStr>, way: Way, side: Side) -> Result<Command> {
        let mut command = Command::new(program);
        command.env_remove("LD_PRELOAD").env_remove("IPCD_SOCKET");
        match (way, side) {
            (Way::Shim, _) | (Way::ShimClient, Side::Client) | (Way::ShimServer, Side::Server) => {
                self.preload(&mut command, &self.daemon.socket());
            }
            (Way::NoDaemon, _) => self.preload(&mut command, Path::new("/nonexistent/ipcd.sock")),
            (Way::Sockmap, _) => self.sockmap()?.enter(&mut command),
            (Way::Wrapper, _) => self.wrap(&mut command)?,
            _ => {}
        }
        die_with_us(&mut command);
        if side == Side::Client {
            die_in_time(&mut command);
        }
        Ok(command)
    }

    fn preload(&self, command: &mut Command, socket: &Path) {
        command.env("LD_PRELOAD", &self.libipc).env("IPCD_SOCKET", socket);
    }

    fn wrap(&self, command: &mut Command) -> Result<()> {
        let places = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
        let candidates = places.map(|dir| format!("{dir}/libsocket_wrapper.so"));
        let library = artifacts::file(&candidates.each_ref().map(String::as_str), "libsocket-wrapper")?;
        let dir = self.dir.path().join("wrapper");
        std::fs::create_dir_all(&dir)?;
        command.env("LD_PRELOAD", library).env("SOCKET_WRAPPER_DIR", dir);
        Ok(())
    }

    /// The eBPF programs, attached.
    pub fn sockmap(&self) -> Result<&Sockmap> {
        shared(self.sockmap.get_or_init(|| Sockmap::attach(self.dir.path())), "sockmap")
    }

    /// Two network namespaces that reach each other over a bridge.
    pub fn namespaces(&self) -> Result<&Namespaces> {
        shared(self.namespaces.get_or_init(Namespaces::new), "network namespaces")
    }

    /// Has a program start in the namespace of its side, or in this process's own.
    pub fn place(&self, command: &mut Command, across: bool, side: Side) -> Result<()> {
        if across { self.namespaces()?.enter(command, side) } else { Ok(()) }
    }

    /// The address of a server that was started so.
    pub fn host(&self, across: bool) -> &'static str {
        if across { namespaces::SERVER_ADDRESS } else { "127.0.0.1" }
    }

    /// SO_SNDBUF and SO_RCVBUF of a stream that has moved, as setsockopt takes them; measured with `ask` the first
    /// time.
    pub fn buffers(&self, ask: impl FnOnce(&Lab) -> Result<[u32; 2]>) -> Result<[u32; 2]> {
        shared(self.buffers.get_or_init(|| ask(self)), "buffers").copied()
    }
}

/// A thing that was made once, or the reason why it could not be.
fn shared<'a, T>(made: &'a Result<T>, what: &str) -> Result<&'a T> {
    made.as_ref().map_err(|e| match is_skip(e) {
        true => skip(format!("{e}")),
        false => anyhow!("{what}: {e:#}"),
    })
}
