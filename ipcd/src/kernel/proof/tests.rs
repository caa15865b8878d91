//! The reproduction for docs/kernel-notes/sequence-numbers.md.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;

use super::*;

/// The means to ask, where the machine lets us have them.
fn proof() -> Option<Proof> {
    match Proof::new() {
        Ok(proof) => Some(proof),
        Err(why) if ::tests::needs::is_the_machines(&why) => {
            ::tests::skipped(&why);
            None
        }
        Err(why) => panic!("{why}"),
    }
}

struct Stream {
    connected: TcpStream,
    accepted: TcpStream,
}

fn stream(host: &str) -> Stream {
    let listener = TcpListener::bind((host, 0)).unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    Stream { connected, accepted: listener.accept().unwrap().0 }
}

impl Stream {
    fn numbers(&self, proof: &Proof) -> (Sequence, Sequence) {
        let ask = |s: &TcpStream, role| proof.ask(s.as_fd(), role).unwrap().0;
        (ask(&self.connected, Role::Connected), ask(&self.accepted, Role::Accepted))
    }
}

#[test]
fn first_numbers_mirror_and_stay_for_the_life_of_a_stream() {
    let Some(proof) = proof() else { return };
    for host in ["127.0.0.1", "::1"] {
        let s = stream(host);
        let (c, a) = s.numbers(&proof);
        assert_eq!(c, a.mirrored());
        let check = |what: &str| assert_eq!(s.numbers(&proof), (c, a), "{what}");
        (&s.connected).write_all(&[1; 1000]).unwrap();
        check("1000 written, none read");
        (&s.accepted).read_exact(&mut [0; 1000]).unwrap();
        (&s.accepted).write_all(&[1; 10]).unwrap();
        check("read, and 10 back");
        let flow = |s: &TcpStream| proof.ask(s.as_fd(), Role::Accepted).unwrap().1;
        let (c_flow, a_flow) = (flow(&s.connected), flow(&s.accepted));
        assert_eq!((c_flow.sent, c_flow.received), (a_flow.received, a_flow.sent), "{host}");
        const MUCH: u64 = 32 << 20;
        std::thread::scope(|scope| {
            scope.spawn(|| std::io::copy(&mut std::io::repeat(7).take(MUCH), &mut &s.connected).unwrap());
            let (mut buffer, mut left) = (vec![0; 1 << 16], MUCH);
            while left > 0 {
                left -= (&s.accepted).read(&mut buffer).unwrap() as u64;
                check("while bytes flow");
            }
        });
        s.accepted.shutdown(Shutdown::Write).unwrap();
        check("the accepted end has shut");
        s.connected.shutdown(Shutdown::Write).unwrap();
        check("both have");
    }
}

/// The kernel's numbers have 32 bits, its counts 64.
#[test]
fn numbers_that_have_wrapped_around() {
    let number = |rcv_nxt: u32, snd_una: u32, received: u64, acked: u64| {
        let mut bytes = [0; Numbers::LEN];
        bytes[8..12].copy_from_slice(&rcv_nxt.to_ne_bytes());
        bytes[12..16].copy_from_slice(&snd_una.to_ne_bytes());
        bytes[16..24].copy_from_slice(&received.to_ne_bytes());
        bytes[24..].copy_from_slice(&acked.to_ne_bytes());
        Numbers::decode(&bytes)
    };
    let first = number(5, 9, 10, (1 << 33) + 10).first(Role::Accepted);
    assert_eq!(first, Sequence { sent: u32::MAX, received: u32::MAX - 4 });
    assert_eq!(number(5, 9, 10, 10).first(Role::Connected).sent, 0);
}

#[test]
fn streams_between_other_ports_have_other_numbers() {
    let Some(proof) = proof() else { return };
    let streams: Vec<Stream> = (0..200).map(|_| stream("127.0.0.1")).collect();
    let all: std::collections::BTreeSet<_> = streams.iter().map(|s| s.numbers(&proof).0).collect();
    assert_eq!(all.len(), streams.len());
}

/// Sequence numbers and flow hashes of the two ends of one stream.
type Ends = [(Sequence, Flow); 2];

/// Streams from these ports to one, in a network namespace of the calling thread's own. Whoever else does it has the
/// same four-tuples, and with `meet` at the same time.
fn streams_in_a_namespace(proof: &Proof, ports: std::ops::Range<u16>, meet: impl Fn()) -> Vec<Ends> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt};
    // SAFETY: unshare takes flags only, and changes this thread alone.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
    let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.is_ok_and(|status| status.success()), "this takes ip(8)");
    let at = |port: u16| SockaddrIn::new(127, 0, 0, 1, port);
    let listener = TcpListener::bind(("127.0.0.1", 80)).unwrap();
    let ends = |port: u16| {
        let connected = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        setsockopt(&connected, sockopt::ReuseAddr, &true).unwrap();
        bind(connected.as_raw_fd(), &at(port)).unwrap();
        meet();
        connect(connected.as_raw_fd(), &at(80)).unwrap();
        let (mut accepted, mut connected) = (listener.accept().unwrap().0, TcpStream::from(connected));
        connected.write_all(b"question").unwrap();
        accepted.read_exact(&mut [0; 8]).unwrap();
        let ask = |s: &TcpStream, role| proof.ask(s.as_fd(), role).unwrap();
        [ask(&connected, Role::Connected), ask(&accepted, Role::Accepted)]
    };
    ports.map(ends).collect()
}

/// The kernel makes sequence numbers of the tuple and the time: that two networks have the same is rare, but not rare
/// enough. Flow hashes are random.
#[test]
fn flow_hashes_tell_equal_sequence_numbers_of_two_networks_apart() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    if proof().is_none() {
        return;
    }
    if !::tests::needs::network_namespaces() {
        return ::tests::skipped("this takes the right to make network namespaces, and ip(8)");
    }
    const STREAMS: u16 = 1000;
    let met = AtomicUsize::new(0);
    let run = || {
        let proof = Proof::new().unwrap();
        streams_in_a_namespace(&proof, 20_000..20_000 + STREAMS, || {
            let both = met.fetch_add(1, Ordering::Relaxed) / 2 * 2 + 2;
            let came = || met.load(Ordering::Relaxed) >= both;
            // Exactly at once, where there are two processors; and not for ever.
            for i in 0..101_000 {
                match came() {
                    true => break,
                    false if i < 100_000 => std::hint::spin_loop(),
                    false => std::thread::yield_now(),
                }
            }
        })
    };
    let (one, two) = std::thread::scope(|scope| {
        let (one, two) = (scope.spawn(run), scope.spawn(run));
        (one.join().unwrap(), two.join().unwrap())
    });
    let mut alike = 0;
    for ([(c, c_flow), (a, a_flow)], [(other, _), (_, other_flow)]) in one.iter().zip(&two) {
        assert_eq!((*c, c_flow.sent, c_flow.received), (a.mirrored(), a_flow.received, a_flow.sent));
        alike += usize::from(c == other);
        assert!(c_flow.sent != other_flow.received && c_flow.received != other_flow.sent);
    }
    println!("{alike} of {STREAMS} streams had the sequence numbers of the other network's");
}

#[test]
fn what_is_no_tcp_socket_has_none() {
    let Some(proof) = proof() else { return };
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(proof.ask(udp.as_fd(), Role::Connected).is_err());
    assert!(proof.ask(std::fs::File::open("/dev/null").unwrap().as_fd(), Role::Connected).is_err());
}

/// What an earlier question has left behind must not answer this one.
#[test]
fn two_sockets_in_the_map_are_no_answer() {
    let Some(proof) = proof() else { return };
    let (one, other) = (stream("127.0.0.1"), stream("127.0.0.1"));
    let (map, key, value) = (proof.map.as_raw_fd() as u64, one.connected.as_raw_fd(), 0u64);
    bpf_call(MAP_UPDATE_ELEM, &[map, (&raw const key) as u64, (&raw const value) as u64, 0]).unwrap();
    assert!(proof.ask(other.connected.as_fd(), Role::Connected).is_err());
    bpf_call(MAP_DELETE_ELEM, &[map, (&raw const key) as u64, 0, 0]).unwrap();
    other.numbers(&proof);
}

#[test]
fn types_that_make_no_sense_are_refused() {
    let blob = btf::two_integers();
    assert!(Btf::new(&blob).is_some_and(|b| b.function("int").is_none()));
    for len in 0..blob.len() {
        assert!(Btf::new(&blob[..len]).is_none(), "{len} bytes");
    }
}
