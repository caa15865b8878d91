//! Whether the bytes that one end of a connection has sent have arrived at the other: the tester asks the kernel
//! (sock_diag(7)), so that no result is early or late by chance. Bytes sent over a Unix-domain socket arrive at once.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::time::{Duration, Instant};

/// How long bytes may be on their way. Some never arrive, because the peer has closed or its buffer is full.
const LIMIT: Duration = Duration::from_millis(100);

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const INET_DIAG_INFO: u16 = 2;
/// `struct nlmsghdr`, and `struct inet_diag_msg` after it.
const HEADER: usize = 16;
const MESSAGE: usize = 72;
/// Offsets in `struct tcp_info`.
const RECEIVED: usize = 128;
const SENT: usize = 200;
const SENT_AGAIN: usize = 208;

/// Asks the kernel about TCP sockets of this namespace.
pub struct Arrivals(Option<File>);

/// The fields of a socket that matter here.
struct Socket {
    state: u8,
    sent: u64,
    received: u64,
}

impl Socket {
    const ESTABLISHED: u8 = 1;
    const FIN_WAIT1: u8 = 4;
    const FIN_WAIT2: u8 = 5;
    const CLOSED: u8 = 7;
    const CLOSE_WAIT: u8 = 8;

    /// Whether its own half has ended.
    fn has_ended(&self) -> bool {
        ![Socket::ESTABLISHED, Socket::CLOSE_WAIT].contains(&self.state)
    }

    /// Whether it has seen the end of the other half.
    fn has_seen_end(&self) -> bool {
        ![Socket::ESTABLISHED, Socket::FIN_WAIT1, Socket::FIN_WAIT2].contains(&self.state)
    }
}

impl Default for Arrivals {
    fn default() -> Self {
        Arrivals::new()
    }
}

impl Arrivals {
    /// Where the kernel does not answer, everything counts as arrived.
    pub fn new() -> Arrivals {
        // SAFETY: no pointers; the new descriptor has no other owner.
        unsafe {
            let fd = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_INET_DIAG);
            Arrivals((fd >= 0).then(|| File::from_raw_fd(fd)))
        }
    }

    /// The socket with this port of its own and of its peer, both on the loopback; `None`: there is none.
    fn socket(&mut self, v6: bool, own: u16, peer: u16) -> Option<Socket> {
        let file = self.0.as_mut()?;
        file.write_all(&question(v6, own, peer)).ok()?;
        let mut bytes = [0; 4096];
        let n = file.read(&mut bytes).ok()?;
        let answer = bytes.get(..n)?;
        if u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?) != SOCK_DIAG_BY_FAMILY {
            return None;
        }
        let state = *answer.get(HEADER + 1)?;
        let info = tcp_info(answer.get(HEADER + MESSAGE..)?).unwrap_or(&[]);
        let field = |at: usize| info.get(at..at + 8).map_or(0, |b| u64::from_ne_bytes(b.try_into().expect("8 bytes")));
        Some(Socket { state, sent: field(SENT).saturating_sub(field(SENT_AGAIN)), received: field(RECEIVED) })
    }

    /// Waits until everything that the ends of a connection have sent each other has arrived.
    pub fn wait(&mut self, v6: bool, ports: (u16, u16)) {
        let start = Instant::now();
        while start.elapsed() < LIMIT && !self.are_there(v6, ports) {
            std::thread::yield_now();
        }
    }

    /// The states of both sockets (`enum` in tcp_states.h; 0: there is none), for a report.
    pub fn states(&mut self, v6: bool, (one, other): (u16, u16)) -> (u8, u8) {
        let mut state = |own, peer| self.socket(v6, own, peer).map_or(0, |socket| socket.state);
        (state(one, other), state(other, one))
    }

    fn are_there(&mut self, v6: bool, (one, other): (u16, u16)) -> bool {
        let (one, other) = (self.socket(v6, one, other), self.socket(v6, other, one));
        let arrived = |from: &Option<Socket>, to: &Option<Socket>| match (from, to) {
            (_, None) => true,
            // A socket that no longer exists has ended, or was reset.
            (None, Some(to)) => to.has_seen_end(),
            (Some(from), Some(to)) if from.state == Socket::CLOSED || to.state == Socket::CLOSED => {
                to.has_seen_end() || !from.has_ended()
            }
            (Some(from), Some(to)) => to.received >= from.sent && (!from.has_ended() || to.has_seen_end()),
        };
        arrived(&one, &other) && arrived(&other, &one)
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn question(v6: bool, own: u16, peer: u16) -> Vec<u8> {
    let address: [u8; 16] = match v6 {
        true => std::net::Ipv6Addr::LOCALHOST.octets(),
        false => [127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    };
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    let mut body = vec![family as u8, libc::IPPROTO_TCP as u8, 1 << (INET_DIAG_INFO - 1), 0];
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(own.to_be_bytes());
    body.extend(peer.to_be_bytes());
    body.extend(address);
    body.extend(address);
    // Any interface, any cookie.
    body.extend(0u32.to_ne_bytes());
    body.extend([0xff; 8]);
    let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// The attribute with the `struct tcp_info`.
fn tcp_info(mut attributes: &[u8]) -> Option<&[u8]> {
    loop {
        let (len, kind) = (attributes.get(..2)?, attributes.get(2..4)?);
        let len = usize::from(u16::from_ne_bytes(len.try_into().ok()?));
        if u16::from_ne_bytes(kind.try_into().ok()?) == INET_DIAG_INFO {
            return attributes.get(4..len);
        }
        attributes = attributes.get(len.next_multiple_of(4).max(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn bytes_and_ends_are_seen_to_arrive() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let mut near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (far, from) = listener.accept().expect("a connection");
        let ports = (from.port(), listener.local_addr().expect("an address").port());
        let mut arrivals = Arrivals::new();
        near.write_all(&[1; 100]).expect("room");
        arrivals.wait(false, ports);
        let seen = arrivals.socket(false, ports.1, ports.0).expect("the socket is known");
        assert_eq!((seen.received, seen.has_seen_end()), (100, false));
        drop(near);
        arrivals.wait(false, ports);
        assert!(arrivals.socket(false, ports.1, ports.0).expect("the socket is known").has_seen_end());
        drop(far);
        arrivals.wait(false, ports);
        assert!(arrivals.are_there(false, ports));
    }
}
