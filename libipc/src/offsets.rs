//! What the kernel says of a TCP stream: exact byte offsets of both directions (docs/kernel-notes/tcp-offsets.md).

use libc::c_int;
use matcher::wire::Role;

use crate::sys;

/// The head of Linux's `struct tcp_info`, as far as it is read here.
#[repr(C)]
#[derive(Clone, Copy)]
struct TcpInfo {
    state: u8,
    _options: [u8; 7],
    _counters: [u32; 24],
    _pacing_rate: u64,
    _max_pacing_rate: u64,
    bytes_acked: u64,
    bytes_received: u64,
}

impl TcpInfo {
    fn counts(&self) -> (u8, u64, u64) {
        (self.state, self.bytes_acked, self.bytes_received)
    }
}

/// How far the program is in both directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Offsets {
    /// Bytes that were written to the socket.
    pub written: u64,
    /// Bytes that were read from it.
    pub read: u64,
}

const SIOCINQ: u32 = 0x541b;
const SIOCOUTQ: u32 = 0x5411;
const ESTABLISHED: u8 = 1;
const FIN_WAIT1: u8 = 4;
const FIN_WAIT2: u8 = 5;
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;

fn tcp_info(tcp: c_int) -> Option<TcpInfo> {
    sys::getsockopt(tcp, libc::IPPROTO_TCP, libc::TCP_INFO).ok()
}

/// The answer to the question for the offsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// The exact offsets.
    Exact(Offsets),
    /// Too much moves at the moment: ask again later.
    Moving,
    /// The connection is over.
    Over,
}

/// The exact offsets of a connected socket. The counters are read one after the other while bytes may arrive or be
/// acknowledged, so they are read until nothing has happened meanwhile.
pub(crate) fn read(tcp: c_int, role: Role) -> Answer {
    for _ in 0..16 {
        match sample(tcp, role) {
            Answer::Moving => {}
            answer => return answer,
        }
    }
    Answer::Moving
}

/// Asks for the lengths of the queues once, and for the kernel's counts before and after that.
fn sample(tcp: c_int, role: Role) -> Answer {
    let before = tcp_info(tcp);
    let queues = (sys::ioctl_int(tcp, SIOCOUTQ), sys::ioctl_int(tcp, SIOCINQ));
    let (Some(before), Some(info), (Ok(queued_out), Ok(queued_in))) = (before, tcp_info(tcp), queues) else {
        return Answer::Over;
    };
    if before.counts() != info.counts() {
        return Answer::Moving;
    }
    let (fin_sent, fin_received) = match info.state {
        ESTABLISHED => (0, 0),
        FIN_WAIT1 | FIN_WAIT2 => (1, 0),
        CLOSE_WAIT => (0, 1),
        _ => return Answer::Over,
    };
    // The SYN of the connecting side takes one number of the sequence, and so does each FIN (RFC 9293, section 3.4).
    let syn = u64::from(role == Role::Connected);
    let written = (info.bytes_acked + queued_out as u64).checked_sub(syn + fin_sent);
    let read = info.bytes_received.checked_sub(queued_in as u64 + fin_received);
    match (written, read) {
        (Some(written), Some(read)) => Answer::Exact(Offsets { written, read }),
        // The counters are of different moments.
        _ => Answer::Moving,
    }
}

/// Whether the connection is over, for both sides.
pub(crate) fn is_closed(tcp: c_int) -> bool {
    tcp_info(tcp).is_some_and(|i| i.state == CLOSE)
}

/// Whether the socket has a connection (a non-blocking connect may have made one without a report to the program).
pub(crate) fn is_connected(tcp: c_int) -> bool {
    tcp_info(tcp).is_some_and(|i| matches!(i.state, ESTABLISHED | FIN_WAIT1 | FIN_WAIT2 | CLOSE_WAIT))
}

#[cfg(test)]
mod tests;
