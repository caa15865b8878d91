//! Asks the kernel whose a four-tuple is, without asking the socket: a question to a socket takes its lock, and what
//! arrives meanwhile waits (docs/kernel-notes/socket-lock.md). See sock_diag(7).

use std::cell::Cell;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use matcher::addr::Tuple;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::constants::{TCP_CLOSE_WAIT, TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_FIN_WAIT2};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::kernel;

/// More than any answer is long.
const ANSWER: usize = 4096;

/// The means to ask about the sockets of ipcd's own network namespace.
pub struct Diag {
    socket: OwnedFd,
    netns: u64,
    asked: Cell<u32>,
}

impl Diag {
    /// None if this kernel does not answer such questions.
    pub fn new() -> Option<Diag> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkSockDiag).ok()?;
        let netns = kernel::u64_option(socket.as_fd(), libc::SOL_SOCKET, kernel::SO_NETNS_COOKIE).ok()?;
        Some(Diag { socket, netns, asked: Cell::new(0) })
    }

    /// Whether the socket with this cookie is connected and has this tuple. Only a yes says something: the socket may be
    /// bound to a device, or in another namespace.
    pub fn confirms(&self, netns: u64, tuple: Tuple, cookie: u64) -> bool {
        netns == self.netns && self.ask(tuple, cookie).is_some_and(is_connected)
    }

    /// The state of the socket with this tuple and this cookie. The kernel answers before it returns from the sending.
    fn ask(&self, tuple: Tuple, cookie: u64) -> Option<u8> {
        let number = self.asked.get().wrapping_add(1);
        self.asked.set(number);
        send(self.socket.as_raw_fd(), &question(number, tuple, cookie), MsgFlags::empty()).ok()?;
        let mut answer = [0; ANSWER];
        loop {
            let len = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT).ok()?;
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(answer.get(..len)?).ok()?;
            if message.header.sequence_number == number {
                let NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) = message.payload else {
                    return None;
                };
                return Some(found.header.state);
            }
        }
    }
}

fn question(number: u32, tuple: Tuple, cookie: u64) -> Vec<u8> {
    let (local, peer) = (tuple.local.to_socket_addr(), tuple.peer.to_socket_addr());
    let v4 = matches!((local, peer), (SocketAddr::V4(_), SocketAddr::V4(_)));
    let request = InetRequest {
        family: if v4 { AF_INET } else { AF_INET6 },
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: SocketId {
            source_port: local.port(),
            destination_port: peer.port(),
            source_address: local.ip(),
            destination_address: peer.ip(),
            interface_id: 0,
            cookie: cookie.to_ne_bytes(),
        },
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    header.sequence_number = number;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Whether there is another end that may still say something, or be told something.
fn is_connected(state: u8) -> bool {
    matches!(state, TCP_ESTABLISHED | TCP_FIN_WAIT1 | TCP_FIN_WAIT2 | TCP_CLOSE_WAIT)
}

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream};

    use matcher::addr::Addr;

    use super::*;

    fn named(socket: &TcpStream) -> (u64, Tuple, u64) {
        let netns = kernel::u64_option(socket.as_fd(), libc::SOL_SOCKET, kernel::SO_NETNS_COOKIE).unwrap();
        let (local, peer) = (socket.local_addr().unwrap(), socket.peer_addr().unwrap());
        (netns, Tuple { local: Addr::from(local), peer: Addr::from(peer) }, kernel::cookie(socket.as_fd()).unwrap())
    }

    #[test]
    fn a_connected_socket_is_confirmed_and_nothing_else() {
        let diag = Diag::new().unwrap();
        // A v4 socket, a v6 one, and one of v6 that talks v4.
        for (host, to) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1")] {
            let listener = TcpListener::bind((host, 0)).unwrap();
            let connected = TcpStream::connect((to, listener.local_addr().unwrap().port())).unwrap();
            let accepted = listener.accept().unwrap().0;
            let confirms = |(netns, tuple, cookie)| diag.confirms(netns, tuple, cookie);
            let (c, a) = (named(&connected), named(&accepted));
            assert!(confirms(c) && confirms(a), "{host}");
            assert!(!confirms((c.0, c.1, a.2)), "{host}: the other end's cookie");
            assert!(!confirms((c.0, a.1, c.2)), "{host}: the other end's tuple");
            assert!(!confirms((c.0 + 1, c.1, c.2)), "{host}: another namespace");
            let listening = Tuple { local: c.1.peer, peer: Addr { port: 1, ..c.1.local } };
            let cookie = kernel::cookie(listener.as_fd()).unwrap();
            assert!(!confirms((c.0, listening, cookie)), "{host}: a listening socket");
            accepted.shutdown(Shutdown::Write).unwrap();
            assert!(confirms(c) && confirms(a), "{host}: half closed");
            connected.shutdown(Shutdown::Write).unwrap();
            assert!(!confirms(c) && !confirms(a), "{host}: over");
        }
    }
}
