//! Where ipcd's socket is, and which server is trusted there. A stranger's server at the path would get the program's
//! sockets. So the directory must be one that only its owner can write to, and the server must be that owner's: root's or
//! this user's, or any user's at the path in IPCD_SOCKET, because a user who sets that could set LD_PRELOAD as well.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

use libc::sockaddr_un;

use crate::sys;

const PATH_MAX: usize = 108;

/// A path, NUL-terminated, that fits a Unix-domain address.
#[derive(Clone, Copy)]
pub(crate) struct Path {
    bytes: [u8; PATH_MAX],
    len: usize,
}

impl Path {
    const EMPTY: Path = Path { bytes: [0; PATH_MAX], len: 0 };

    fn push(mut self, part: &[u8]) -> Path {
        for byte in part {
            if let Some(to) = self.bytes.get_mut(self.len).filter(|_| self.len + 1 < PATH_MAX) {
                *to = *byte;
                self.len += 1;
            }
        }
        self
    }

    fn push_number(self, n: u32) -> Path {
        let before = if n >= 10 { self.push_number(n / 10) } else { self };
        before.push(&[b'0' + (n % 10) as u8])
    }

    fn fits(&self) -> bool {
        self.len > 0 && self.len + 1 < PATH_MAX
    }

    fn directory(&self) -> Path {
        let used = self.bytes.get(..self.len).unwrap_or(&[]);
        match used.iter().rposition(|b| *b == b'/') {
            Some(0) => Path::EMPTY.push(b"/"),
            Some(at) => Path::EMPTY.push(used.get(..at).unwrap_or(&[])),
            None => Path::EMPTY.push(b"."),
        }
    }

    /// The address to connect to.
    pub(crate) fn sockaddr(&self) -> sockaddr_un {
        // SAFETY: sockaddr_un is plain data, valid when zeroed.
        let mut addr: sockaddr_un = unsafe { core::mem::zeroed() };
        addr.sun_family = libc::AF_UNIX as u16;
        for (to, from) in addr.sun_path.iter_mut().zip(self.bytes) {
            *to = from as libc::c_char;
        }
        addr
    }
}

/// The variables of the environment as they were when the program started.
struct Config {
    named: Path,
    runtime_dir: Path,
}

struct Once(UnsafeCell<Config>);

// SAFETY: written once by the constructor, before READY is set, and only read after.
unsafe impl Sync for Once {}

static CONFIG: Once = Once(UnsafeCell::new(Config { named: Path::EMPTY, runtime_dir: Path::EMPTY }));
static READY: AtomicBool = AtomicBool::new(false);

/// Reads the environment, in the constructor: later the program may change it while the shim reads it.
pub(crate) fn remember_environment() {
    let config = Config { named: variable(c"IPCD_SOCKET"), runtime_dir: variable(c"XDG_RUNTIME_DIR") };
    // SAFETY: the constructor runs once, before any reader (they look at READY first).
    unsafe { *CONFIG.0.get() = config };
    READY.store(true, Release);
}

fn variable(name: &core::ffi::CStr) -> Path {
    // SAFETY: getenv with a terminated name; the result is a terminated string, which does not change in the constructor.
    let value = unsafe {
        let at = libc::getenv(name.as_ptr());
        if at.is_null() {
            return Path::EMPTY;
        }
        core::ffi::CStr::from_ptr(at)
    };
    Path::EMPTY.push(value.to_bytes())
}

/// Calls `visit` with each place where an ipcd for this process may be, and with the user who may serve there beside
/// those that [`is_trusted`] names, until it returns true.
pub(crate) fn each_candidate(mut visit: impl FnMut(&Path, u32) -> bool) {
    if !READY.load(Acquire) {
        return;
    }
    // SAFETY: READY was seen set: no thread writes any more.
    let config = unsafe { &*CONFIG.0.get() };
    let uid = sys::geteuid();
    let named = config.named.fits();
    let own = match named {
        true => config.named,
        false if uid == 0 => Path::EMPTY,
        false if config.runtime_dir.fits() => config.runtime_dir.push(b"/ipcd/ipcd.sock"),
        false => Path::EMPTY.push(b"/tmp/ipcd-").push_number(uid).push(b"/ipcd.sock"),
    };
    let system = if named { Path::EMPTY } else { Path::EMPTY.push(b"/run/ipcd/ipcd.sock") };
    for (path, failed) in [own, system].iter().zip(&FAILED) {
        if !path.fits() {
            continue;
        }
        let Some((stamp, owner)) = safe_directory(path) else { continue };
        if stamp == failed.load(Relaxed) || !(named || is_trusted(owner)) {
            continue;
        }
        if visit(path, owner) {
            return;
        }
        if sys::realtime().saturating_sub(stamp) > SETTLED_NS {
            failed.store(stamp, Relaxed);
        }
    }
}

/// File times are coarse, and an ipcd that starts changes its directory before it listens: a change counts as past
/// only after this time.
const SETTLED_NS: u64 = 1_000_000_000;
/// When the directory of each candidate was last changed, as of the time when no server answered there: without another
/// change, none will answer. Asking costs one system call.
static FAILED: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// Root, or the user that this process acts as.
pub(crate) fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == sys::geteuid()
}

/// The time of the last change of the directory, in nanoseconds, and its owner, if no other user can write to it.
fn safe_directory(path: &Path) -> Option<(u64, u32)> {
    let st = sys::lstat(path.directory().bytes.as_ptr())?;
    let safe = st.st_mode & libc::S_IFMT == libc::S_IFDIR && st.st_mode & 0o022 == 0;
    safe.then_some((st.st_mtime as u64 * 1_000_000_000 + st.st_mtime_nsec as u64, st.st_uid))
}
