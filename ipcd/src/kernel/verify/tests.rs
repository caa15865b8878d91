//! What verification says, and what it refuses.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr::null_mut;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::*;

fn verify(fd: BorrowedFd<'_>, claim: &Opened) -> Result<Facts, Doubt> {
    Verifier::new(None).verify(fd, claim)
}

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

#[test]
fn a_connected_tcp_socket_is_verified() {
    let s = stream("127.0.0.1");
    let facts = verify(s.connected.as_fd(), &claim(&s.connected, Role::Connected)).unwrap();
    assert_eq!(facts.tuple.local.to_socket_addr(), s.connected.local_addr().unwrap());
    assert_eq!(facts.tuple.peer.to_socket_addr(), s.connected.peer_addr().unwrap());
    assert_ne!(facts.netns, 0);
    let other = verify(s.accepted.as_fd(), &claim(&s.accepted, Role::Accepted)).unwrap();
    assert_eq!((other.netns, other.tuple), (facts.netns, facts.tuple.mirrored()));
}

#[test]
fn one_that_is_bound_to_the_loopback_device_is_as_one_that_is_not() {
    let s = stream("127.0.0.1");
    let device = |s: &TcpStream, role| verify(s.as_fd(), &claim(s, role)).unwrap().device;
    assert_eq!(device(&s.connected, Role::Connected), 0);
    // The loopback device is the first that a namespace has.
    kernel::set_int_option(s.connected.as_fd(), libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, 1).unwrap();
    assert_eq!(device(&s.connected, Role::Connected), 0);
    assert_eq!(device(&s.accepted, Role::Accepted), 0);
}

#[test]
fn offsets_are_those_of_the_moment() {
    let s = stream("127.0.0.1");
    let check = |connected: [u64; 3], accepted: [u64; 3]| {
        for (socket, role, [written, acked, received]) in
            [(&s.connected, Role::Connected, connected), (&s.accepted, Role::Accepted, accepted)]
        {
            assert_eq!(offsets(socket.as_fd(), role), Some(Offsets { written, acked, received }));
        }
    };
    check([0; 3], [0; 3]);
    (&s.connected).write_all(&[1; 10]).unwrap();
    (&s.accepted).read_exact(&mut [0; 4]).unwrap();
    (&s.accepted).write_all(&[1; 7]).unwrap();
    check([10, 10, 7], [7, 7, 10]);
    s.accepted.shutdown(Shutdown::Write).unwrap();
    assert_eq!(offsets(s.accepted.as_fd(), Role::Accepted), None);
}

#[test]
fn anything_else_is_not() {
    let s = stream("127.0.0.1");
    let connected = claim(&s.connected, Role::Connected);
    assert!(matches!(verify(s.accepted.as_fd(), &connected), Err(Doubt::OtherCookie)));
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(matches!(verify(udp.as_fd(), &claim(&udp, Role::Connected)), Err(Doubt::NotTcp)));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(verify(listener.as_fd(), &claim(&listener, Role::Accepted)).is_err());
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    assert!(matches!(verify(file.as_fd(), &connected), Err(Doubt::Kernel(_))));
    drop(s.accepted);
    s.connected.shutdown(Shutdown::Both).unwrap();
    assert!(verify(s.connected.as_fd(), &connected).is_err());
}

/// Holds the lock of a socket: a send whose bytes are not there yet.
struct Sending {
    missing: OwnedFd,
    sender: JoinHandle<isize>,
}

impl Sending {
    // userfaultfd(2), linux/userfaultfd.h.
    const API: libc::Ioctl = 0xc018_aa3f_u32 as libc::Ioctl;
    const REGISTER: libc::Ioctl = 0xc020_aa00_u32 as libc::Ioctl;
    const MISSING: u64 = 1;

    /// None if this kernel lets nobody, or not us, handle faults of its own.
    fn begin(socket: &impl AsRawFd) -> Option<Sending> {
        const PAGE: usize = 4096;
        // SAFETY: an anonymous mapping of its own, never unmapped.
        let page = unsafe { libc::mmap(null_mut(), PAGE, libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANON, -1, 0) };
        // SAFETY: the call takes flags and gives a descriptor that nobody else has.
        let missing = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
        if missing < 0 {
            return None;
        }
        // SAFETY: as above.
        let missing = unsafe { OwnedFd::from_raw_fd(missing as i32) };
        let (mut api, mut register) = ([0xaa_u64, 0, 0], [page as u64, PAGE as u64, Self::MISSING, 0]);
        // SAFETY: the arrays have the shapes of uffdio_api and uffdio_register, and the range is a mapping of ours.
        let registered = unsafe {
            libc::ioctl(missing.as_raw_fd(), Self::API, api.as_mut_ptr()) == 0
                && libc::ioctl(missing.as_raw_fd(), Self::REGISTER, register.as_mut_ptr()) == 0
        };
        assert!(registered, "{}", io::Error::last_os_error());
        let (fd, at) = (socket.as_raw_fd(), page as usize);
        // SAFETY: one byte of the page, which stays mapped.
        let sender = std::thread::spawn(move || unsafe { libc::send(fd, at as *const _, 1, 0) });
        nix::unistd::read(&missing, &mut [0; 64]).unwrap();
        Some(Sending { missing, sender })
    }

    /// The byte is there: without anybody to handle them, faults are the kernel's again.
    fn end(self) {
        drop(self.missing);
        assert_eq!(self.sender.join().unwrap(), 1);
    }
}

/// What takes the lock of a socket delays what arrives there (docs/kernel-notes/socket-lock.md).
#[test]
fn it_does_not_take_the_lock_of_the_socket() {
    let s = stream("127.0.0.1");
    let (local, peer) = (s.connected.local_addr().unwrap(), s.connected.peer_addr().unwrap());
    let tuple = Tuple { local: Addr::from(local), peer: Addr::from(peer) };
    let claim = Opened { tuple, ..claim(&s.connected, Role::Connected) };
    let Some(sending) = Sending::begin(&s.connected) else {
        return ::tests::skipped("this takes the right to handle page faults of the kernel (userfaultfd(2))");
    };
    let asked = |ask: fn(&TcpStream, &Opened) -> bool| {
        let socket = s.connected.try_clone().unwrap();
        let (tell, told) = channel();
        std::thread::spawn(move || tell.send(ask(&socket, &claim)));
        told
    };
    let told = asked(|socket, claim| verify(socket.as_fd(), claim).is_ok());
    assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(true));
    // It is held indeed.
    let told = asked(|socket, _| socket.peer_addr().is_ok());
    assert_eq!(told.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
    sending.end();
    assert_eq!(told.recv(), Ok(true));
}
