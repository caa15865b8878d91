//! Whether the process has forbidden itself system calls (seccomp(2)). From then on the shim makes none: every call of the
//! program is the real one and no other.

use core::sync::atomic::{AtomicBool, Ordering::*};

static CONFINED: AtomicBool = AtomicBool::new(false);

/// Whether the shim may make no system call of its own any more.
#[inline(always)]
pub(crate) fn is_confined() -> bool {
    CONFINED.load(Relaxed)
}

/// The hooks that look after themselves in a confined process: they count, or keep the table of numbers right.
pub(crate) const fn looks_after_itself(hook: &str) -> bool {
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
    let mut names: &[&str] = NAMES;
    while let [name, rest @ ..] = names {
        if is_same(hook.as_bytes(), name.as_bytes()) {
            return true;
        }
        names = rest;
    }
    false
}

const fn is_same(mut a: &[u8], mut b: &[u8]) -> bool {
    while let ([x, after @ ..], [y, behind @ ..]) = (a, b) {
        if *x != *y {
            return false;
        }
        (a, b) = (after, behind);
    }
    a.is_empty() && b.is_empty()
}

/// Notes that the process confines itself, or does not after all.
pub(crate) fn set_confined(is: bool) {
    CONFINED.store(is, SeqCst);
}
