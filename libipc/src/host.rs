//! The process that the shim is in: what the shim asks the system and the C library about it, whatever the endpoints are.

pub mod confine;
pub mod fdinfo;
pub mod guard;
pub mod process;
pub mod program;
pub mod rings;
pub mod threads;
