//! The ways by which two programs can talk.

/// One alternative.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Way {
    /// Plain TCP over loopback.
    Tcp,
    /// The shim on both ends.
    Shim,
    /// The shim on the end that connects.
    ShimClient,
    /// The shim on the end that accepts.
    ShimServer,
    /// The shim on both ends, and no ipcd that answers.
    NoDaemon,
    /// A Unix-domain socket from the start.
    Unix,
    /// The same with the buffer sizes of a stream that has moved.
    UnixSized,
    /// Two pipes.
    Pipe,
    /// TCP, short-circuited in the kernel by eBPF.
    Sockmap,
    /// Debian's libsocket_wrapper on both ends.
    Wrapper,
    /// Shared memory between two processes that spin.
    Shm,
}

impl Way {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Way::Tcp => "TCP",
            Way::Shim => "shim",
            Way::ShimClient => "shim, client only",
            Way::ShimServer => "shim, server only",
            Way::NoDaemon => "shim, no ipcd",
            Way::Unix => "Unix socket",
            Way::UnixSized => "Unix socket, shim's buffers",
            Way::Pipe => "pipe",
            Way::Sockmap => "sockmap",
            Way::Wrapper => "socket_wrapper",
            Way::Shm => "shared memory",
        }
    }

    /// Whether its streams move to another transport after a while.
    pub fn moves(self) -> bool {
        self == Way::Shim
    }
}

/// One of the two programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The one that connects.
    Client,
    /// The one that accepts.
    Server,
}
