//! ipcd pairs the two ends of local TCP streams and hands each a Unix-domain socket.
//!
//! ```text
//!   cli::serve ── server ── session          one task per client, nobody is waited for
//!                   │          │
//!                   └─ broker ─┴─ claims      what is known, and what is done with a message
//!                        │
//!                        ├── verify           asks the kernel through the passed socket
//!                        ├── matcher          decides (a crate of its own: no clock, no descriptor)
//!                        └── grant            makes the new transport
//! ```

mod broker;
mod claims;
mod cli;
mod client;
mod config;
mod diag;
mod endpoint;
mod fault;
mod grant;
mod handover;
mod kernel;
mod metrics;
mod page;
mod path;
mod policy;
mod proof;
mod record;
mod report;
mod server;
mod session;
mod verify;
mod watch;

fn main() -> std::process::ExitCode {
    cli::main()
}
