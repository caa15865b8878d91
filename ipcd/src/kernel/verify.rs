//! Asks the kernel about a socket that a process passed, so that nothing a process says of it has to be believed.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use matcher::addr::{Addr, Tuple};
use matcher::candidate::Offsets;
use matcher::endpoint::Facts;
use matcher::wire::{Opened, Role};
use nix::errno::Errno;
use nix::sys::socket::{SockaddrStorage, getpeername, getsockname};

use crate::kernel;
use crate::kernel::diag::Diag;
use crate::kernel::proof::Proof;

/// Offsets in `struct tcp_info` (linux/tcp.h): they never change, the structure only grows.
const TCPI_STATE: usize = 0;
const TCPI_BYTES_ACKED: usize = 120;
const TCPI_BYTES_RECEIVED: usize = 128;
const TCP_INFO_LEN: usize = 136;

/// How often the offsets are read until two readings agree.
const READINGS: usize = 16;

const ESTABLISHED: u8 = 1;

/// The index of the loopback device in every namespace.
const LOOPBACK: u32 = 1;

/// Why a socket is not what a message says it is.
#[derive(Debug)]
pub enum Doubt {
    /// The kernel would not answer.
    Kernel(#[expect(dead_code, reason = "for the log")] io::Error),
    /// It is no TCP socket.
    NotTcp,
    /// It is another socket than the one that was named.
    OtherCookie,
    /// It is not connected.
    NotConnected,
}

impl From<io::Error> for Doubt {
    fn from(error: io::Error) -> Doubt {
        Doubt::Kernel(error)
    }
}

impl From<Errno> for Doubt {
    fn from(error: Errno) -> Doubt {
        Doubt::Kernel(error.into())
    }
}

/// The means to ask.
pub struct Verifier {
    diag: Option<Diag>,
    /// The means to ask for sequence numbers, if that was asked for.
    pub proof: Option<Proof>,
}

impl Verifier {
    /// With whatever this kernel answers.
    pub fn new(proof: Option<Proof>) -> Verifier {
        Verifier { diag: Diag::new(), proof }
    }

    /// What the kernel says of the socket, if it is the one that was claimed. Without an answer for proof it stays
    /// unproven.
    pub fn verify(&self, fd: BorrowedFd<'_>, claim: &Opened) -> Result<Facts, Doubt> {
        let cookie = kernel::u64_option(fd, libc::SOL_SOCKET, libc::SO_COOKIE)?;
        let netns = kernel::u64_option(fd, libc::SOL_SOCKET, kernel::SO_NETNS_COOKIE).unwrap_or(0);
        let confirmed =
            cookie == claim.cookie && self.diag.as_ref().is_some_and(|diag| diag.confirms(netns, claim.tuple, cookie));
        let (tuple, device) = if confirmed { (claim.tuple, 0) } else { ask(fd, cookie == claim.cookie)? };
        let (sequence, flow) = self.proof.as_ref().and_then(|p| p.ask(fd, claim.role).ok()).unzip();
        Ok(Facts { netns, device, tuple, sequence, flow: flow.unwrap_or_default() })
    }
}

/// Asks the socket itself: its tuple, and which device it is bound to.
fn ask(fd: BorrowedFd<'_>, is_claimed: bool) -> Result<(Tuple, u32), Doubt> {
    let is = |name, value| kernel::int_option(fd, libc::SOL_SOCKET, name).map(|v| v == value);
    let inet = is(libc::SO_DOMAIN, libc::AF_INET)? || is(libc::SO_DOMAIN, libc::AF_INET6)?;
    if !inet || !is(libc::SO_TYPE, libc::SOCK_STREAM)? || !is(libc::SO_PROTOCOL, libc::IPPROTO_TCP)? {
        return Err(Doubt::NotTcp);
    }
    if !is_claimed {
        return Err(Doubt::OtherCookie);
    }
    let local = address(getsockname(fd.as_raw_fd())?)?;
    // Refused before there is a connection, and once it is over.
    let peer = getpeername(fd.as_raw_fd()).map_err(|_| Doubt::NotConnected)?;
    let peer = address(peer)?;
    let device = kernel::int_option(fd, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX)? as u32;
    let device = if device == LOOPBACK { 0 } else { device };
    Ok((Tuple { local: Addr::from(local), peer: Addr::from(peer) }, device))
}

/// An address of a kind that TCP has.
fn address(named: SockaddrStorage) -> Result<SocketAddr, Doubt> {
    let v4 = || named.as_sockaddr_in().map(|a| SocketAddr::from(*a));
    let v6 = || named.as_sockaddr_in6().map(|a| SocketAddr::from(*a));
    v4().or_else(v6).ok_or(Doubt::NotTcp)
}

/// One reading: the state, and `bytes_acked` and `bytes_received`.
fn tcp_info(fd: BorrowedFd<'_>) -> io::Result<(u8, u64, u64)> {
    let mut info = [0; 256];
    if kernel::option(fd, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)? < TCP_INFO_LEN {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let at = |offset: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&info[offset..offset + 8]);
        u64::from_ne_bytes(bytes)
    };
    Ok((info[TCPI_STATE], at(TCPI_BYTES_ACKED), at(TCPI_BYTES_RECEIVED)))
}

/// The offsets of a socket at one moment (docs/kernel-notes/tcp-offsets.md), if nobody has said FIN. Counters and queue
/// cannot be read at once, so they are read again until nothing moved between two readings.
pub fn offsets(fd: BorrowedFd<'_>, role: Role) -> Option<Offsets> {
    for _ in 0..READINGS {
        let before = tcp_info(fd).ok()?;
        let unacked = kernel::unacknowledged(fd).ok()?;
        if tcp_info(fd).ok()? == before {
            let (ESTABLISHED, acked, received) = before else { return None };
            // The SYN was acknowledged, too, and occupies a number.
            let acked = acked.checked_sub(u64::from(role == Role::Connected))?;
            return Some(Offsets { written: acked + unacked, acked, received });
        }
    }
    None
}

#[cfg(test)]
mod tests;
