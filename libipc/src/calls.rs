//! What the hooks do when the descriptor is an endpoint's, a module per group of calls. Those that move bytes only bring
//! their arguments into one form here; [`stream`](crate::stream) has the rest.

pub(crate) mod arguments;
pub(crate) mod connect;
pub(crate) mod control;
pub(crate) mod descriptors;
pub(crate) mod epoll;
pub(crate) mod exec;
pub(crate) mod options;
pub(crate) mod process;
pub(crate) mod read;
pub(crate) mod rights;
pub(crate) mod seccomp;
pub(crate) mod select;
pub(crate) mod spawn;
pub(crate) mod stdio;
pub(crate) mod syscall;
pub(crate) mod wait;
mod when;
pub(crate) mod write;
