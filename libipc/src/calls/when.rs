//! What a call that moves bytes has to do, by what its number is: looked up once.

use libc::c_int;

use crate::endpoint::{Pinned, numbers};
use crate::fds::{self, Kind};
use crate::host::confine::is_confined;

pub(super) enum When {
    /// The number is no endpoint, or stays on TCP: the real call.
    Other,
    /// The process has forbidden itself system calls: the real call, and what it moved is counted.
    Confined,
    /// The number is the new socket: the real call, and what that reports of the end of the stream is looked at.
    Final,
    /// The call goes through the shim.
    Active(Pinned),
}

#[inline(always)]
pub(super) fn when(fd: c_int) -> When {
    match fds::kind(fd) {
        _ if is_confined() => When::Confined,
        Kind::Final => When::Final,
        Kind::Active | Kind::Busy => unsettled(fd),
        _ => When::Other,
    }
}

#[cold]
#[inline(never)]
fn unsettled(fd: c_int) -> When {
    // If the number was closed past the hooks, the call goes to whatever file it is by now.
    let known = if numbers::is_callable(fd) { numbers::lookup(fd) } else { None };
    match known {
        Some((id, Kind::Active)) => When::Active(id),
        Some((_, Kind::Final)) => When::Final,
        _ => When::Other,
    }
}
