//! A process that forbids itself system calls (seccomp(2)). From then on the shim makes none: every call of the program
//! is the real one and no other.
//!
//! Endpoints that have not moved go on over TCP. What goes through them is counted and hashed still, in memory, so that
//! a process that shares the endpoint and is not confined can take it up when this one has let go (sshd does its key
//! exchange in a confined child).

use core::sync::atomic::{AtomicBool, Ordering::*};

use libc::{c_int, iovec};
use matcher::reason::Reason;
use matcher::wire::Direction;

use crate::endpoint;
use crate::fds::{self, Kind};
use crate::guard::Errno;
use crate::prefix::Prefix;
use crate::switch::Phase;
use crate::{daemon, dual};

static CONFINED: AtomicBool = AtomicBool::new(false);

/// Whether the shim may make no system call of its own any more.
#[inline(always)]
pub fn is_confined() -> bool {
    CONFINED.load(Relaxed)
}

/// The hooks that look after themselves in a confined process: they count, or keep the table of numbers right.
pub const fn looks_after_itself(hook: &str) -> bool {
    const NAMES: &[&str] = &[
        "read",
        "__read",
        "__read_chk",
        "readv",
        "recv",
        "__recv_chk",
        "recvfrom",
        "__recvfrom_chk",
        "recvmsg",
        "write",
        "__write",
        "writev",
        "send",
        "__send",
        "sendto",
        "sendmsg",
        "close",
        "dup",
        "dup2",
        "__dup2",
        "dup3",
        "syscall",
    ];
    let (hook, mut at) = (hook.as_bytes(), 0);
    while at < NAMES.len() {
        let name = NAMES[at].as_bytes();
        let mut same = if name.len() == hook.len() { 0 } else { usize::MAX };
        while same < name.len() && name[same] == hook[same] {
            same += 1;
        }
        if same == name.len() {
            return true;
        }
        at += 1;
    }
    false
}

/// The program is about to install a filter.
pub fn begin() {
    if is_confined() {
        return;
    }
    let _errno = Errno::keep();
    if crate::process::is_announced() {
        dual::land_all(|_| true, Reason::Confined);
        for id in endpoint::held() {
            match id.endpoint().phase() {
                Phase::Tracking | Phase::Waiting => fds::settle(id, Kind::Counted),
                Phase::Connecting => drop(endpoint::stay(id, Reason::Confined)),
                _ => {}
            }
        }
    }
    CONFINED.store(true, SeqCst);
}

/// It was not installed.
pub fn failed() {
    CONFINED.store(false, SeqCst);
    for id in endpoint::held() {
        fds::unsettle(id, Kind::Counted);
    }
}

/// A reading call of the program on such a number gave `n` bytes.
pub fn took(fd: c_int, pieces: &[iovec], n: isize, flags: c_int) {
    let Some(id) = fds::counted(fd).filter(|_| n > 0 && flags & libc::MSG_PEEK == 0) else { return };
    match id.endpoint().lock_rx() {
        Some(mut rx) => {
            rx.state.took(n as u64);
            id.endpoint().moved(Direction::Received, n as u64);
            feed(&mut rx.prefix, pieces, n as usize);
            id.endpoint().prefix_moved(Direction::Received, &rx.prefix);
        }
        None => id.endpoint().spoil(),
    }
}

/// A writing call of the program on such a number took `n` bytes.
pub fn gave(fd: c_int, pieces: &[iovec], n: isize) {
    let Some(id) = fds::counted(fd).filter(|_| n > 0) else { return };
    match id.endpoint().lock_tx() {
        Some(mut tx) => {
            tx.state.wrote(n as u64);
            id.endpoint().moved(Direction::Sent, n as u64);
            feed(&mut tx.prefix, pieces, n as usize);
            id.endpoint().prefix_moved(Direction::Sent, &tx.prefix);
        }
        None => id.endpoint().spoil(),
    }
}

fn feed(prefix: &mut Prefix, pieces: &[iovec], n: usize) {
    let mut left = n;
    for piece in pieces {
        if !prefix.wants() {
            return;
        }
        let len = piece.iov_len.min(left);
        left -= len;
        if len > 0 {
            // SAFETY: the kernel has just read or written exactly these bytes of the program's buffer.
            prefix.feed(unsafe { core::slice::from_raw_parts(piece.iov_base.cast(), len) }, daemon::prefix_bytes());
        }
    }
}
