//! The reproduction for docs/kernel-notes/sequence-numbers.md.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;

use super::*;

/// Not by eprintln, which is heard of failed tests only.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: {why}");
}

fn proof() -> Option<Proof> {
    let rights = std::fs::read_to_string("/proc/self/status").unwrap();
    let rights = rights.lines().find_map(|l| l.strip_prefix("CapEff:")).unwrap().trim();
    const BPF_AND_PERFMON: u64 = 1 << 39 | 1 << 38;
    if u64::from_str_radix(rights, 16).unwrap() & BPF_AND_PERFMON != BPF_AND_PERFMON {
        skipped("this takes CAP_BPF and CAP_PERFMON");
        return None;
    }
    if !std::path::Path::new(btf::KERNEL).exists() {
        skipped("this kernel does not describe its types");
        return None;
    }
    Some(Proof::new().unwrap())
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
        let ask = |s: &TcpStream, role| proof.ask(s.as_fd(), role).unwrap();
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
        bytes[..4].copy_from_slice(&rcv_nxt.to_ne_bytes());
        bytes[4..8].copy_from_slice(&snd_una.to_ne_bytes());
        bytes[8..16].copy_from_slice(&received.to_ne_bytes());
        bytes[16..].copy_from_slice(&acked.to_ne_bytes());
        Numbers::decode(&bytes)
    };
    let first = number(5, 9, 10, (1 << 33) + 10).first(Role::Accepted);
    assert_eq!(first, Sequence { sent: u32::MAX, received: u32::MAX - 4 });
    assert_eq!(number(5, 9, 10, 10).first(Role::Connected).sent, 0);
}

#[test]
fn no_two_streams_have_the_same_numbers() {
    let Some(proof) = proof() else { return };
    let streams: Vec<Stream> = (0..200).map(|_| stream("127.0.0.1")).collect();
    let all: std::collections::BTreeSet<_> = streams.iter().map(|s| s.numbers(&proof).0).collect();
    assert_eq!(all.len(), streams.len());
}

#[test]
fn what_is_no_tcp_socket_has_none() {
    let Some(proof) = proof() else { return };
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(proof.ask(udp.as_fd(), Role::Connected).is_err());
    assert!(proof.ask(std::fs::File::open("/dev/null").unwrap().as_fd(), Role::Connected).is_err());
}

#[test]
fn types_that_make_no_sense_are_refused() {
    let blob = btf::two_integers();
    assert!(Btf::new(&blob).is_some_and(|b| b.function("int").is_none()));
    for len in 0..blob.len() {
        assert!(Btf::new(&blob[..len]).is_none(), "{len} bytes");
    }
}
