//! Measurements. Each compares the shim with plain TCP, and where there is one with the best that could be reached (a
//! Unix-domain socket that was one from the start), in turns within one run: machines and their moods differ, ratios of
//! neighbouring runs much less.

pub mod artifacts;
pub mod daemon;
pub mod demo;
pub mod distinct;
pub mod instructions;
pub mod machine;
pub mod peers;
pub mod prefix;
pub mod process;
pub mod redis;
pub mod statistics;
