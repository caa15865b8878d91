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

/// Where the program is in both directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offsets {
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
const CLOSE_WAIT: u8 = 8;

fn tcp_info(tcp: c_int) -> Option<TcpInfo> {
    sys::getsockopt(tcp, libc::IPPROTO_TCP, libc::TCP_INFO).ok()
}

/// What came of asking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The exact offsets.
    Exact(Offsets),
    /// Too much moves at the moment: ask again later.
    Moving,
    /// The connection is over.
    Over,
}

/// The exact offsets of a connected socket. The counters are read one after the other while bytes may arrive or be
/// acknowledged, so they are read until two readings agree.
pub fn read(tcp: c_int, role: Role) -> Answer {
    let mut last = None;
    for _ in 0..16 {
        match (sample(tcp, role), last) {
            (None, _) => return Answer::Over,
            (Some(now), Some(before)) if now == before => return Answer::Exact(now),
            (now, _) => last = now,
        }
    }
    Answer::Moving
}

fn sample(tcp: c_int, role: Role) -> Option<Offsets> {
    let info = tcp_info(tcp)?;
    let queued_out = sys::ioctl_int(tcp, SIOCOUTQ).ok()?;
    let queued_in = sys::ioctl_int(tcp, SIOCINQ).ok()?;
    let (fin_sent, fin_received) = match info.state {
        ESTABLISHED => (0, 0),
        FIN_WAIT1 | FIN_WAIT2 => (1, 0),
        CLOSE_WAIT => (0, 1),
        _ => return None,
    };
    // The SYN of the connecting side takes one number of the sequence, and so does each FIN (RFC 9293, section 3.4).
    let syn = u64::from(role == Role::Connected);
    Some(Offsets {
        written: (info.bytes_acked + queued_out as u64).checked_sub(syn + fin_sent)?,
        read: info.bytes_received.checked_sub(queued_in as u64 + fin_received)?,
    })
}

/// Whether the socket has a connection (a non-blocking connect may have one without having said so).
pub fn is_connected(tcp: c_int) -> bool {
    tcp_info(tcp).is_some_and(|i| matches!(i.state, ESTABLISHED | FIN_WAIT1 | FIN_WAIT2 | CLOSE_WAIT))
}
