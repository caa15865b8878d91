//! What the interposed calls do when the descriptor is ours, a module per group of calls.

pub mod arguments;
pub mod arrivals;
pub mod block;
pub mod connect;
pub mod control;
pub mod descriptors;
pub mod epoll;
pub mod exec;
pub mod glimpse;
pub mod native;
pub mod options;
pub mod process;
pub mod read;
pub mod read_final;
pub mod receive;
pub mod reset;
pub mod rights;
pub mod seccomp;
pub mod select;
pub mod send;
pub mod spawn;
pub mod stdio;
pub mod syscall;
pub mod wait;
pub mod write;
pub mod zero_copy;
