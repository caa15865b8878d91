//! What the hooks do when the descriptor is an endpoint's, a module per group of calls. Those that move bytes only bring
//! their arguments into one form here; [`stream`](crate::stream) has the rest.

pub mod arguments;
pub mod connect;
pub mod control;
pub mod descriptors;
pub mod epoll;
pub mod exec;
pub mod options;
pub mod process;
pub mod read;
pub mod rights;
pub mod seccomp;
pub mod select;
pub mod spawn;
pub mod stdio;
pub mod syscall;
pub mod wait;
mod when;
pub mod write;
