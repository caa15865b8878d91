//! The place where ipcd listens, and who may be there.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::unistd::geteuid;

/// Why ipcd cannot listen there. Each says what to do.
#[derive(Debug)]
pub enum Problem {
    /// Another user could put a socket of his own into the directory.
    OthersCanWrite(PathBuf),
    /// Another ipcd has the place.
    Served(PathBuf, String),
    /// The operating system says no.
    Os(&'static str, PathBuf, io::Error),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::OthersCanWrite(dir) => write!(
                f,
                "others can write to {}, and could put a socket of their own there; choose a directory that belongs to \
                 you or to root and that only its owner can write to (chmod go-w)",
                dir.display()
            ),
            Problem::Served(path, pid) => write!(
                f,
                "another ipcd (pid {pid}) already listens on {}; stop it, or choose another place with --socket",
                path.display()
            ),
            Problem::Os(what, path, error) => write!(f, "cannot {what} {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for Problem {}

/// The socket's path: what was asked for, `IPCD_SOCKET`, or the user's own place.
pub fn socket_path(asked: Option<&Path>) -> PathBuf {
    let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let path = asked.map(Path::to_owned).or_else(|| var("IPCD_SOCKET")).unwrap_or_else(|| {
        let uid = geteuid();
        let dir = match var("XDG_RUNTIME_DIR") {
            _ if uid.is_root() => PathBuf::from("/run/ipcd"),
            Some(dir) => dir.join("ipcd"),
            None => PathBuf::from(format!("/tmp/ipcd-{}", uid.as_raw())),
        };
        dir.join("ipcd.sock")
    });
    std::path::absolute(&path).unwrap_or(path)
}

/// Whether programs of all users may come: every program trusts an ipcd of root.
fn is_for_all(everybody: bool) -> bool {
    everybody || geteuid().is_root()
}

/// Makes sure that the directory is there and that nobody else can write to it.
pub fn prepare_directory(socket: &Path, everybody: bool) -> Result<PathBuf, Problem> {
    let dir = socket.parent().unwrap_or(Path::new("/")).to_owned();
    if !dir.exists() {
        let mode = if is_for_all(everybody) { 0o755 } else { 0o700 };
        let made = DirBuilder::new().recursive(true).mode(mode).create(&dir);
        made.map_err(|e| Problem::Os("create", dir.clone(), e))?;
    }
    let meta = dir.metadata().map_err(|e| Problem::Os("look at", dir.clone(), e))?;
    let ours = meta.uid() == 0 || meta.uid() == geteuid().as_raw();
    if !ours || meta.mode() & 0o022 != 0 {
        return Err(Problem::OthersCanWrite(dir));
    }
    Ok(dir)
}

/// The socket that ipcd listens on. The socket file goes when this goes, the lock file stays.
pub struct Place {
    /// The listening socket.
    pub listener: OwnedFd,
    path: PathBuf,
    _lock: Flock<File>,
}

impl Place {
    /// Takes the place, over from a dead ipcd if need be.
    pub fn take(path: &Path, everybody: bool) -> Result<Place, Problem> {
        prepare_directory(path, everybody)?;
        let os = |what| move |e: io::Error| Problem::Os(what, path.to_owned(), e);
        let lock = lock(path)?;
        let address = UnixAddr::new(path).map_err(|e| os("use")(e.into()))?;
        let open = || socket(AddressFamily::Unix, SockType::SeqPacket, FLAGS, None);
        // A container may share the directory and not the lock, so ask the socket too.
        let probe = open().map_err(|e| os("make a socket for")(e.into()))?;
        match connect(probe.as_raw_fd(), &address) {
            Ok(()) | Err(Errno::EAGAIN) => return Err(Problem::Served(path.to_owned(), "unknown".into())),
            Err(Errno::ENOENT) => {}
            Err(Errno::ECONNREFUSED) => std::fs::remove_file(path).map_err(os("replace"))?,
            Err(e) => return Err(os("replace what is at")(e.into())),
        }
        let listener = open().map_err(|e| os("make a socket for")(e.into()))?;
        bind(listener.as_raw_fd(), &address).map_err(|e| os("bind")(e.into()))?;
        let mode = if is_for_all(everybody) { 0o666 } else { 0o600 };
        std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(os("set the mode of"))?;
        Backlog::new(4096).and_then(|backlog| listen(&listener, backlog)).map_err(|e| os("listen on")(e.into()))?;
        Ok(Place { listener, path: path.to_owned(), _lock: lock })
    }
}

const FLAGS: SockFlag = SockFlag::SOCK_CLOEXEC.union(SockFlag::SOCK_NONBLOCK);

/// Holds the lock file beside the socket: two that start at once must not both replace a stale socket.
fn lock(path: &Path) -> Result<Flock<File>, Problem> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let os = |what| {
        let name = name.clone();
        move |e: io::Error| Problem::Os(what, name, e)
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&name)
        .map_err(os("open"))?;
    let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(locked) => locked,
        Err((mut file, _)) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            return Err(Problem::Served(path.to_owned(), pid.trim().to_owned()));
        }
    };
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(os("write"))?;
    Ok(file)
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
