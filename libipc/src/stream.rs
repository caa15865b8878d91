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

pub(crate) mod arrivals;
pub(crate) mod buffers;
pub(crate) mod call;
pub(crate) mod ending;
mod glimpse;
pub(crate) mod native;
pub(crate) mod read_final;
pub(crate) mod receive;
pub(crate) mod send;
mod side;
pub(crate) mod splice;
pub(crate) mod tally;
pub(crate) mod unread;
mod wait;
