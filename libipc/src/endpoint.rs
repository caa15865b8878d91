//! Endpoints: what a family of forked processes knows of each TCP socket, in memory they share.
//!
//! ```text
//!   shared by fork                              private to each process (copied by fork)
//!   ┌────────────────────────────┐              ┌─────────────────────────────────────────┐
//!   │ Endpoint[0..MAX_ENDPOINTS] │ ◄── index ── │ fds: [kind | generation | index] by fd  │
//!   │  phase, locks, both halves,│              │ Local[index]: descriptors of this       │
//!   │  prefixes; Holders[index]  │              │  process for the endpoint               │
//!   └────────────────────────────┘              └─────────────────────────────────────────┘
//! ```

mod half;
pub(crate) mod numbers;
pub(crate) mod phase;
mod state;
mod table;

pub(crate) use half::{Guard, Half, Stored};
pub(crate) use state::{Birth, Endpoint, sides};
pub(crate) use table::{Id, Pinned, abandon, adopt_in_child, allocate, close_tcp, held, prepare, resume, tcp_fd};
