//! ipcd pairs the two ends of local TCP streams and hands each a Unix-domain socket.
//!
//! ```text
//!   cli ── serve ──> broker ──> view             one task per client, nobody is waited for
//!                     │
//!                     ├── kernel             asks the kernel about sockets
//!                     ├── matcher            decides (a crate of its own: no clock, no descriptor)
//!                     └── broker::grant      makes the new transport
//! ```

mod broker;
mod cli;
mod client;
mod config;
mod fault;
mod kernel;
mod policy;
mod serve;
mod view;

fn main() -> std::process::ExitCode {
    cli::main()
}
