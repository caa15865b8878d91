//! The harness: starts a private daemon, runs a program natively and under the shim, and compares.
//!
//! The expectation of every case comes from the kernel: the program runs natively first, must pass there, and must then
//! print the same under the shim. The tests ask the daemon whether streams moved at all ([`streams`]), because a suite
//! that passes on plain TCP proves nothing.

pub mod artifacts;
pub mod case;
pub mod containers;
pub mod daemon;
pub mod diagnose;
pub mod differential;
pub mod natively;
pub mod needs;
pub mod run;
pub mod scene;
pub mod server;
pub mod skip;
pub mod streams;
pub mod sweep;

pub use case::Case;
pub use daemon::Daemon;
pub use run::{Mode, PATIENCE, Program, run};
pub use skip::skipped;
