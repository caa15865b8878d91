//! Addresses as the protocol carries them: always 16 bytes, so that a v4-mapped v6 address *is* the v4 one.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

/// One end of a TCP connection: an IPv6 address (IPv4 as `::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2) and a port in
/// host byte order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Addr {
    /// The address in network byte order.
    pub ip: [u8; 16],
    /// The port in host byte order.
    pub port: u16,
}

impl Addr {
    /// The same address as the standard library spells it, v4-mapped ones as plain IPv4.
    pub fn to_socket_addr(self) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(Ipv6Addr::from(self.ip)).to_canonical(), self.port)
    }

    /// Whether the kernel keeps traffic to this address inside one network namespace (127.0.0.0/8 or ::1).
    pub fn is_loopback(self) -> bool {
        self.to_socket_addr().ip().is_loopback()
    }
}

impl From<SocketAddr> for Addr {
    fn from(addr: SocketAddr) -> Self {
        let ip = match addr.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Addr { ip: ip.octets(), port: addr.port() }
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_socket_addr().fmt(f)
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_socket_addr().fmt(f)
    }
}

/// The four-tuple as one endpoint sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Tuple {
    /// This end (getsockname).
    pub local: Addr,
    /// The other end (getpeername).
    pub peer: Addr,
}

impl Tuple {
    /// The tuple that the other endpoint of the same stream has, if no address is translated on the way.
    pub fn mirrored(self) -> Tuple {
        Tuple { local: self.peer, peer: self.local }
    }
}
