//! What can be chosen, and the limits.

use std::time::Duration;

use matcher::policy::Policy;
use matcher::wire::Terms;

use crate::fault::Fault;

/// N unless it is chosen: how many bytes of each direction are hashed.
pub const DEFAULT_PREFIX: u32 = 32;
/// Changes of direction that a connection shows before it is offered, unless it is chosen (docs/patience.md).
pub const DEFAULT_PATIENCE: u32 = 32;
/// Buffer size of the sockets that are granted unless it is chosen, in bytes: with twice that, as the kernel counts, they
/// hold what a TCP connection may grow to (net.ipv4.tcp_wmem).
pub const DEFAULT_BUFFER: u32 = 2 << 20;
/// How long an endpoint waits for its peer unless it is chosen.
pub const DEFAULT_WAIT_PEER: f64 = 10.0;

/// How one ipcd behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// What every process is told.
    pub terms: Terms,
    /// Buffer size of the sockets that are granted, or 0 to leave it to the kernel.
    pub buffer: u32,
    /// How long an endpoint waits for a peer to be reported.
    pub wait_peer: Duration,
    /// Which pairs may leave TCP.
    pub policy: Policy,
    /// Endpoints that one session may have open.
    pub endpoints_per_session: usize,
    /// Sessions.
    pub sessions: usize,
    /// Records that wait for one client, beyond what its socket holds, before it counts as slow.
    pub outbox: usize,
    /// Descriptors of one client that may be about to be closed.
    pub closing: usize,
    /// Ended streams that `ipcd ls --all` shows.
    pub ended: usize,
    /// Where to die, for tests.
    pub fault: Option<Fault>,
}

impl Config {
    /// The limits, and what was chosen on the command line.
    pub fn new(terms: Terms, buffer: u32, wait_peer: Duration, policy: Policy) -> Config {
        Config {
            terms,
            buffer,
            wait_peer,
            policy,
            endpoints_per_session: 65_536,
            sessions: 16_384,
            outbox: 4096,
            closing: 1024,
            ended: 1024,
            fault: Fault::from_env(),
        }
    }
}
