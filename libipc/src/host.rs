//! The process that the shim is in: what it is asked of the system and of the C library, whatever the endpoints are.

pub mod confine;
pub mod fdinfo;
pub mod guard;
pub mod process;
pub mod program;
pub mod rings;
pub mod threads;
