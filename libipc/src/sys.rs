//! The shim's own system calls, made without libc: they neither come back into the hooks nor touch errno.
//!
//! Every function returns what the kernel returns: a value of 0 or more, or a negated errno.

mod call;
mod files;
mod memory;
mod process;
mod signals;
mod time;

pub(crate) use self::call::{EAGAIN, ECONNRESET, EINTR, EPIPE, Ret, forward};
pub(crate) use self::files::*;
pub(crate) use self::memory::*;
pub(crate) use self::process::*;
pub(crate) use self::signals::*;
pub(crate) use self::time::*;
