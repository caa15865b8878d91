//! The symbols that are interposed: one table, the real functions, and the exported ones in front of them.

pub(crate) mod export;
pub(crate) mod real;
pub(crate) mod table;
#[cfg(target_arch = "x86_64")]
mod variadic;
