//! The process that the shim is in: what the shim asks the system and the C library about it, whatever the endpoints are.

pub(crate) mod confine;
pub(crate) mod fdinfo;
pub(crate) mod guard;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod rings;
pub(crate) mod threads;
