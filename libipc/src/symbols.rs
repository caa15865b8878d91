//! The symbols that are interposed: one table, the functions behind them, and those in front.

pub mod export;
pub mod real;
pub mod table;
#[cfg(target_arch = "x86_64")]
mod variadic;
