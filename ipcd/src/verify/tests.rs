//! The reproduction for docs/kernel-notes/tcp-offsets.md, and what verification refuses.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use super::*;

struct Stream {
    connected: TcpStream,
    accepted: TcpStream,
}

fn stream(host: &str) -> Stream {
    let listener = TcpListener::bind((host, 0)).unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let accepted = listener.accept().unwrap().0;
    Stream { connected, accepted }
}

fn claim(socket: &impl AsFd, role: Role) -> Opened {
    let cookie = kernel::u64_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_COOKIE).unwrap();
    Opened { cookie, token: 0, role, tuple: Tuple::default(), began: 0, opened: 0 }
}

impl Stream {
    fn check(&self, connected: (u64, u64), accepted: (u64, u64), what: &str) {
        let read = |s: &TcpStream, role| {
            let c = counters(s.as_fd(), role).unwrap().1.unwrap();
            (c.written, c.read)
        };
        assert_eq!(read(&self.connected, Role::Connected), connected, "connected: {what}");
        assert_eq!(read(&self.accepted, Role::Accepted), accepted, "accepted: {what}");
    }
}

#[test]
fn offsets_are_exact_over_the_life_of_a_stream() {
    for host in ["127.0.0.1", "::1"] {
        let s = stream(host);
        let (mut connected, mut accepted) = (&s.connected, &s.accepted);
        s.check((0, 0), (0, 0), "fresh");
        connected.write_all(&[1; 10]).unwrap();
        accepted.read_exact(&mut [0; 4]).unwrap();
        s.check((10, 0), (0, 4), "10 written, 4 of them read");
        accepted.write_all(&[1; 7]).unwrap();
        connected.read_exact(&mut [0; 7]).unwrap();
        s.check((10, 7), (7, 4), "7 back");

        connected.set_nonblocking(true).unwrap();
        let mut written = 10;
        loop {
            match connected.write(&[0; 65536]) {
                Ok(n) => written += n as u64,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => panic!("{e}"),
            }
        }
        assert!(written > 1 << 20);
        s.check((written, 7), (7, 4), "buffers full");

        accepted.write_all(&[1; 3]).unwrap();
        accepted.shutdown(Shutdown::Write).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        s.check((written, 7), (10, 4), "the accepted side said FIN, its last 3 bytes are not read");
        connected.set_nonblocking(false).unwrap();
        assert_eq!(connected.read(&mut [0; 2]).unwrap(), 2);
        s.check((written, 9), (10, 4), "2 of the 3 are read");
        assert_eq!(connected.read(&mut [0; 2]).unwrap(), 1);
        assert_eq!(connected.read(&mut [0; 2]).unwrap(), 0);
        s.check((written, 10), (10, 4), "end of stream was read");

        connected.shutdown(Shutdown::Write).unwrap();
        s.check((written, 10), (10, 4), "both said FIN, one is behind a full buffer");
    }
}

#[test]
fn a_connected_tcp_socket_is_verified() {
    let s = stream("127.0.0.1");
    let facts = verify(s.connected.as_fd(), &claim(&s.connected, Role::Connected), None).unwrap();
    assert_eq!(facts.tuple.local.to_socket_addr(), s.connected.local_addr().unwrap());
    assert_eq!(facts.tuple.peer.to_socket_addr(), s.connected.peer_addr().unwrap());
    assert_ne!(facts.netns, 0);
    let other = verify(s.accepted.as_fd(), &claim(&s.accepted, Role::Accepted), None).unwrap();
    assert_eq!((other.netns, other.tuple), (facts.netns, facts.tuple.mirrored()));
}

#[test]
fn anything_else_is_not() {
    let s = stream("127.0.0.1");
    let connected = claim(&s.connected, Role::Connected);
    assert!(matches!(verify(s.accepted.as_fd(), &connected, None), Err(Doubt::OtherCookie)));
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(matches!(verify(udp.as_fd(), &claim(&udp, Role::Connected), None), Err(Doubt::NotTcp)));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(verify(listener.as_fd(), &claim(&listener, Role::Accepted), None).is_err());
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    assert!(matches!(verify(file.as_fd(), &connected, None), Err(Doubt::Kernel(_))));
    drop(s.accepted);
    s.connected.shutdown(Shutdown::Both).unwrap();
    assert!(verify(s.connected.as_fd(), &connected, None).is_err());
}
