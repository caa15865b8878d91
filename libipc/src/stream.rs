//! The way of the bytes: every call that moves some of them on an endpoint.
//!
//! ```text
//!   receive, send, splice     one attempt each, and what its result means to the program
//!          │
//!   call   prepare ─► attempt ─► judge ─► wait ─┐     the one loop, over either direction
//!            ▲                                  │
//!            └──────────────────────────────────┘ ─► settled: the rest is the real function's
//!   tally    counts and hashes what moved
//!   ending   how the stream ended
//! ```

pub mod arrivals;
pub mod buffers;
pub mod call;
pub mod ending;
mod glimpse;
pub mod native;
pub mod read_final;
pub mod receive;
pub mod send;
mod side;
pub mod splice;
pub mod tally;
pub mod unread;
mod wait;
