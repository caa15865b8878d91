//! The reproduction for docs/kernel-notes/tcp-offsets.md.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
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

impl Stream {
    fn check(&self, connected: (u64, u64), accepted: (u64, u64), what: &str) {
        let exact = |(written, read)| Answer::Exact(Offsets { written, read });
        assert_eq!(read(self.connected.as_raw_fd(), Role::Connected), exact(connected), "connected: {what}");
        assert_eq!(read(self.accepted.as_raw_fd(), Role::Accepted), exact(accepted), "accepted: {what}");
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
        assert_eq!(read(s.connected.as_raw_fd(), Role::Connected), Answer::Over, "both said FIN");
    }
}
