//! Asks the kernel about a socket that a process passed, so that nothing a process says of it has to be believed.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use matcher::addr::{Addr, Tuple};
use matcher::candidate::Offsets;
use matcher::endpoint::{Counters, Facts};
use matcher::wire::{Opened, Role};

use crate::kernel;
use crate::proof::Proof;

/// Offsets in `struct tcp_info` (linux/tcp.h): they never change, the structure only grows.
const TCPI_STATE: usize = 0;
const TCPI_BYTES_ACKED: usize = 120;
const TCPI_BYTES_RECEIVED: usize = 128;
const TCP_INFO_LEN: usize = 136;

/// How often the counters are read until two readings agree.
const READINGS: usize = 16;

const ESTABLISHED: u8 = 1;
const FIN_WAIT1: u8 = 4;
const FIN_WAIT2: u8 = 5;
const TIME_WAIT: u8 = 6;
const CLOSE_WAIT: u8 = 8;
const LAST_ACK: u8 = 9;
const CLOSING: u8 = 11;

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

impl From<rustix::io::Errno> for Doubt {
    fn from(error: rustix::io::Errno) -> Doubt {
        Doubt::Kernel(error.into())
    }
}

/// What the kernel says of the socket, if it is the one that was claimed. Without an answer for proof it stays unproven.
pub fn verify(fd: BorrowedFd<'_>, claim: &Opened, proof: Option<&Proof>) -> Result<Facts, Doubt> {
    let is = |name, value| kernel::int_option(fd, libc::SOL_SOCKET, name).map(|v| v == value);
    let inet = is(libc::SO_DOMAIN, libc::AF_INET)? || is(libc::SO_DOMAIN, libc::AF_INET6)?;
    if !inet || !is(libc::SO_TYPE, libc::SOCK_STREAM)? || !is(libc::SO_PROTOCOL, libc::IPPROTO_TCP)? {
        return Err(Doubt::NotTcp);
    }
    if kernel::u64_option(fd, libc::SOL_SOCKET, libc::SO_COOKIE)? != claim.cookie {
        return Err(Doubt::OtherCookie);
    }
    let netns = kernel::u64_option(fd, libc::SOL_SOCKET, kernel::SO_NETNS_COOKIE).unwrap_or(0);
    let local = SocketAddr::try_from(rustix::net::getsockname(fd)?)?;
    let peer = rustix::net::getpeername(fd)?.ok_or(Doubt::NotConnected)?;
    let peer = SocketAddr::try_from(peer)?;
    let (state, counters) = counters(fd, claim.role)?;
    if !matches!(state, ESTABLISHED | FIN_WAIT1 | FIN_WAIT2 | CLOSE_WAIT) {
        return Err(Doubt::NotConnected);
    }
    let (sequence, flow) = proof.and_then(|p| p.ask(fd, claim.role).ok()).unzip();
    let tuple = Tuple { local: Addr::from(local), peer: Addr::from(peer) };
    Ok(Facts { netns, tuple, counters, sequence, flow: flow.unwrap_or_default() })
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

/// The state and the stream offsets of a socket (docs/kernel-notes/tcp-offsets.md). Counters and queues cannot be
/// read at one moment, so they are read again until nothing moved between two readings.
pub fn counters(fd: BorrowedFd<'_>, role: Role) -> io::Result<(u8, Option<Counters>)> {
    let mut before = tcp_info(fd)?;
    for _ in 0..READINGS {
        let (unacked, unread) = (kernel::queue(fd, kernel::SIOCOUTQ)?, kernel::queue(fd, kernel::SIOCINQ)?);
        let after = tcp_info(fd)?;
        if before == after {
            let (state, acked, received) = after;
            return Ok((state, counted(role, state, acked + unacked, received.saturating_sub(unread))));
        }
        before = after;
    }
    Ok((before.0, None))
}

/// The offsets of a socket at one moment, if nobody has said FIN and they stand still for long enough.
pub fn offsets(fd: BorrowedFd<'_>, role: Role) -> Option<Offsets> {
    for _ in 0..READINGS {
        let before = tcp_info(fd).ok()?;
        let unacked = kernel::queue(fd, kernel::SIOCOUTQ).ok()?;
        if tcp_info(fd).ok()? == before {
            let (ESTABLISHED, acked, received) = before else { return None };
            let acked = acked.checked_sub(u64::from(role == Role::Connected))?;
            return Some(Offsets { written: acked + unacked, acked, received });
        }
    }
    None
}

/// SYN and FIN occupy a sequence number each: `acked` counts ours, `received` counts the peer's FIN but not its SYN.
fn counted(role: Role, state: u8, written: u64, read: u64) -> Option<Counters> {
    let syn = u64::from(role == Role::Connected);
    let own_fin = u64::from(matches!(state, FIN_WAIT1 | FIN_WAIT2 | CLOSING | LAST_ACK | TIME_WAIT));
    let peer_fin = u64::from(matches!(state, CLOSE_WAIT | CLOSING | LAST_ACK | TIME_WAIT));
    Some(Counters { written: written.checked_sub(syn + own_fin)?, read: read.checked_sub(peer_fin)? })
}

#[cfg(test)]
mod tests;
