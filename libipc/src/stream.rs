//! Every call that moves bytes on an endpoint.
//!
//! ```text
//!   receive, send, splice     one attempt each, and what its result means to the program
//!          │
//!   call   prepare ─► attempt ─► judge ─► wait ─┐     the one loop, over either direction
//!            ▲                                  │
//!            └──────────────────────────────────┘ ─► settled: the real function does the rest
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
