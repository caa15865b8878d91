//! Streams inside and across network namespaces. Needs root and ip(8); without them there is nothing to see.

mod shim;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};

use matcher::reason::Reason;
use matcher::wire::{Role, ToShim};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt};
use shim::{Daemon, End, Shim, end, now};
use tests::{needs, skipped};

/// Whether ipcd can prove here; if not, says so.
fn can_prove() -> bool {
    let why = needs::no_proof(Path::new(env!("CARGO_BIN_EXE_ipcd")));
    why.inspect(|why| skipped(why)).is_none()
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own.
struct Namespace {
    jobs: Sender<Job>,
    tid: String,
}

impl Namespace {
    fn new() -> Option<Namespace> {
        let (jobs, todo): (Sender<Job>, Receiver<Job>) = channel();
        let (tell, told) = channel();
        std::thread::spawn(move || {
            // SAFETY: unshare takes flags only, and changes this thread alone.
            let own = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
            let up = own && ip("link set lo up");
            let _ = tell.send(up.then(|| nix::unistd::gettid().to_string()));
            todo.into_iter().for_each(|job| job());
        });
        let Some(tid) = told.recv().unwrap() else {
            skipped("this takes the right to make network namespaces, and ip(8)");
            return None;
        };
        Some(Namespace { jobs, tid })
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        self.jobs.send(Box::new(move || tell.send(job()).unwrap())).unwrap();
        told.recv().unwrap()
    }
}

fn ip(arguments: &str) -> bool {
    Command::new("ip").args(arguments.split(' ')).status().is_ok_and(|s| s.success())
}

fn listen(address: SocketAddr) -> TcpListener {
    TcpListener::bind(address).unwrap()
}

fn new_socket() -> OwnedFd {
    socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap()
}

/// Connects from a port of one's choice.
fn connect(from: SocketAddr, to: SocketAddr) -> End {
    let began = now();
    let socket = new_socket();
    setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    bind(socket.as_raw_fd(), &SockaddrStorage::from(from)).unwrap();
    nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
    end(TcpStream::from(socket), Role::Connected, began, 1000)
}

fn accept(listener: &TcpListener, began: u64) -> End {
    end(listener.accept().unwrap().0, Role::Accepted, began, 2000)
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Both directions known.
fn tell_all(shim: &Shim, e: &End, up: u8, down: u8) {
    let (sent, received) = if e.opened.role == Role::Connected { (up, down) } else { (down, up) };
    shim.open(e);
    shim.offer(e, [Some([sent; 32]), Some([received; 32])], e.tcp.as_fd());
}

#[test]
fn two_containers_with_the_same_loopback_tuple_both_pair() {
    let (Some(one), Some(two)) = (Namespace::new(), Namespace::new()) else { return };
    let stream = || {
        let listener = listen(loopback(80));
        let began = now();
        let c = connect(loopback(40_000), loopback(80));
        (c, accept(&listener, began))
    };
    let ((c1, s1), (c2, s2)) = (one.run(stream), two.run(stream));
    assert_eq!(c1.opened.tuple, c2.opened.tuple);
    let daemon = Daemon::start(&[]);
    let shim = Shim::new(&daemon, "all");
    for e in [&c1, &c2, &s1, &s2] {
        shim.open(e);
    }
    for (c, s) in [(&c1, &s1), (&c2, &s2)] {
        shim.prove(c);
        shim.prove(s);
        let (_x, _y) = (shim.granted(c), shim.granted(s));
    }
}

#[test]
fn across_namespaces_a_stream_pairs_and_an_ambiguous_one_does_not() {
    let (Some(one), Some(two), Some(three)) = (Namespace::new(), Namespace::new(), Namespace::new()) else { return };
    let (here, there): (SocketAddr, SocketAddr) = ("10.1.1.1:40000".parse().unwrap(), "10.1.1.2:80".parse().unwrap());
    // two – one – three: the same addresses on two networks.
    let (second, third) = (two.tid.clone(), three.tid.clone());
    for (name, other) in [("v2", second), ("v3", third)] {
        assert!(one.run(move || ip(&format!("link add {name} type veth peer name p0 netns {other}"))));
    }
    assert!(one.run(|| ip("addr add 10.1.1.1/24 dev v2") && ip("link set v2 up")));
    for peer in [&two, &three] {
        assert!(peer.run(|| ip("addr add 10.1.1.2/24 dev p0") && ip("link set p0 up")));
    }
    let daemon = Daemon::start(&[]);
    let shim = Shim::new(&daemon, "all");

    let began = now();
    let listener = two.run(move || listen(there));
    let c = one.run(move || connect(here, there));
    let (s, listener) = two.run(move || (accept(&listener, began), listener));
    tell_all(&shim, &c, 1, 2);
    tell_all(&shim, &s, 1, 2);
    let (_x, _y) = (shim.granted(&c), shim.granted(&s));

    // The same two addresses again, and somebody on another network with the same ones.
    let here: SocketAddr = "10.1.1.1:40001".parse().unwrap();
    let c = one.run(move || connect(here, there));
    let s = two.run(move || accept(&listener, began));
    assert!(three.run(|| ip("link set p0 down") && ip("link set lo up") && ip("addr add 10.1.1.1/32 dev lo")));
    assert!(three.run(|| ip("link set p0 up")));
    let stranger = three.run(move || {
        let listener = listen(there);
        let _c = connect(here, there);
        accept(&listener, began)
    });
    assert_eq!(stranger.opened.tuple, s.opened.tuple);
    for e in [&c, &stranger, &s] {
        tell_all(&shim, e, 1, 2);
    }
    for _ in 0..3 {
        assert!(matches!(shim.hear(), Some(ToShim::Refuse { reason: Reason::Ambiguous, .. })));
    }
}

/// A client that acts as another user, but only while it connects to ipcd.
fn shim_of_user(daemon: &Daemon, uid: libc::uid_t) -> Shim {
    let act_as = |uid: libc::uid_t| {
        // SAFETY: the raw call changes this thread's effective user and nothing else.
        let done = unsafe { libc::syscall(libc::SYS_setresuid, -1, uid, -1) };
        assert_eq!(done, 0);
    };
    act_as(uid);
    let shim = Shim::new(daemon, "other");
    act_as(0);
    shim
}

#[test]
fn users_are_not_believed_of_one_another_across_namespaces_unless_asked() {
    let (Some(one), Some(two)) = (Namespace::new(), Namespace::new()) else { return };
    let (here, there): (SocketAddr, SocketAddr) = ("10.1.1.1:40000".parse().unwrap(), "10.1.1.2:80".parse().unwrap());
    let tid = two.tid.clone();
    assert!(one.run(move || ip(&format!("link add v type veth peer name p netns {tid}"))));
    assert!(one.run(|| ip("addr add 10.1.1.1/24 dev v") && ip("link set v up")));
    assert!(two.run(|| ip("addr add 10.1.1.2/24 dev p") && ip("link set p up")));
    let began = now();
    let listener = two.run(move || listen(there));
    for (port, arguments, uid, paired) in
        [(40_000, &[][..], 0, true), (40_001, &[], 65_534, false), (40_002, &["--everybody"], 65_534, true)]
    {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let daemon = Daemon::start_at(&dir.path().join("ipcd.sock"), arguments, &[]);
        let here = SocketAddr::new(here.ip(), port);
        let c = one.run(move || connect(here, there));
        let listener = listener.try_clone().unwrap();
        let s = two.run(move || accept(&listener, began));
        let (clients, servers) = (shim_of_user(&daemon, uid), Shim::new(&daemon, "server"));
        tell_all(&clients, &c, 1, 2);
        tell_all(&servers, &s, 1, 2);
        if paired {
            let (_x, _y) = (clients.granted(&c), servers.granted(&s));
        } else {
            assert!(matches!(clients.hear(), Some(ToShim::Refuse { reason: Reason::OtherUser, .. })));
            assert!(matches!(servers.hear(), Some(ToShim::Refuse { reason: Reason::OtherUser, .. })));
        }
    }
}

/// Two networks with the same addresses on both; gives a stream of each, between the same addresses and ports.
fn twins(one: &Namespace, two: &Namespace, three: &Namespace, four: &Namespace) -> [(End, End); 2] {
    let (here, there): (SocketAddr, SocketAddr) = ("10.1.1.1:40000".parse().unwrap(), "10.1.1.2:80".parse().unwrap());
    [(one, two), (three, four)].map(|(a, b)| {
        let tid = b.tid.clone();
        assert!(a.run(move || ip(&format!("link add v type veth peer name p netns {tid}"))));
        assert!(a.run(|| ip("addr add 10.1.1.1/24 dev v") && ip("link set v up")));
        assert!(b.run(|| ip("addr add 10.1.1.2/24 dev p") && ip("link set p up")));
        let began = now();
        let listener = b.run(move || listen(there));
        let c = a.run(move || connect(here, there));
        (c, b.run(move || accept(&listener, began)))
    })
}

fn four() -> Option<[Namespace; 4]> {
    Some([Namespace::new()?, Namespace::new()?, Namespace::new()?, Namespace::new()?])
}

#[test]
fn with_proof_equal_tuples_on_two_networks_pair_rightly() {
    let Some([one, two, three, four]) = four().filter(|_| can_prove()) else { return };
    let [(c, s), (d, t)] = twins(&one, &two, &three, &four);
    assert_eq!((c.opened.tuple, s.opened.tuple), (d.opened.tuple, t.opened.tuple));
    let daemon = Daemon::start(&["--proof"]);
    let shims = [0; 4].map(|_| Shim::new(&daemon, "one"));
    for (shim, e) in shims.iter().zip([&c, &d, &t, &s]) {
        tell_all(shim, e, 1, 2);
    }
    let [x, _y, y, _x] = [(0, &c), (1, &d), (2, &t), (3, &s)].map(|(i, e)| shims[i].granted(e));
    // Nothing but the transport tells who was paired with whom.
    nix::unistd::write(&x, b"x").unwrap();
    assert_eq!(nix::unistd::read(&_x, &mut [0; 2]), Ok(1));
    nix::unistd::write(&y, b"y").unwrap();
    assert_eq!(nix::unistd::read(&_y, &mut [0; 2]), Ok(1));
}

/// Only the client of one network and the server of the other take part, and all that they see is alike.
#[test]
fn with_proof_half_a_deployment_is_never_taken_for_a_whole() {
    let Some([one, two, three, four]) = four() else { return };
    let [(c, _s), (_d, t)] = twins(&one, &two, &three, &four);
    // Without proof this is the pair that must not be, and is: docs/pairing.md.
    let daemon = Daemon::start(&[]);
    let shim = Shim::new(&daemon, "all");
    tell_all(&shim, &c, 1, 2);
    tell_all(&shim, &t, 1, 2);
    let (_x, _y) = (shim.granted(&c), shim.granted(&t));

    if !can_prove() {
        return;
    }
    let daemon = Daemon::start(&["--proof", "--wait-peer", "0.1"]);
    let shim = Shim::new(&daemon, "all");
    tell_all(&shim, &c, 1, 2);
    tell_all(&shim, &t, 1, 2);
    for _ in 0..2 {
        assert!(matches!(shim.hear(), Some(ToShim::Refuse { reason: Reason::NoPeer, .. })));
    }
}

/// Reads or sets one number of a socket in repair mode, tcp(7).
fn tcp_option(socket: &impl AsFd, name: libc::c_int, set: Option<u32>) -> u32 {
    let (mut value, mut len) = (set.unwrap_or(0), size_of::<u32>() as libc::socklen_t);
    let (fd, at) = (socket.as_fd().as_raw_fd(), (&raw mut value).cast());
    // SAFETY: the value is four bytes, and outlives the call.
    let done = unsafe {
        match set {
            Some(_) => libc::setsockopt(fd, libc::IPPROTO_TCP, name, at, len),
            None => libc::getsockopt(fd, libc::IPPROTO_TCP, name, at, &raw mut len),
        }
    };
    assert_eq!(done, 0, "option {name}: {}", std::io::Error::last_os_error());
    value
}

const TCP_REPAIR: libc::c_int = 19;
const TCP_REPAIR_QUEUE: libc::c_int = 20;
const TCP_QUEUE_SEQ: libc::c_int = 21;
/// Ends repair mode without a word to the peer.
const QUIETLY: u32 = -1i32 as u32;
const RECEIVED: u32 = 1;
const SENT: u32 = 2;

/// The next number to send and to receive.
fn numbers(socket: &impl AsFd) -> (u32, u32) {
    tcp_option(socket, TCP_REPAIR, Some(1));
    let [sent, received] = [SENT, RECEIVED].map(|queue| {
        tcp_option(socket, TCP_REPAIR_QUEUE, Some(queue));
        tcp_option(socket, TCP_QUEUE_SEQ, None)
    });
    tcp_option(socket, TCP_REPAIR, Some(QUIETLY));
    (sent, received)
}

/// Somebody who knows, or has guessed, a stream's sequence numbers makes himself a socket with them.
#[test]
fn with_proof_forged_sequence_numbers_are_not_enough() {
    let (Some(one), Some(two), Some(three)) = (Namespace::new(), Namespace::new(), Namespace::new()) else { return };
    if !can_prove() {
        return;
    }
    let (here, there): (SocketAddr, SocketAddr) = ("10.1.1.1:40000".parse().unwrap(), "10.1.1.2:80".parse().unwrap());
    let tid = two.tid.clone();
    assert!(one.run(move || ip(&format!("link add v type veth peer name p netns {tid}"))));
    assert!(one.run(|| ip("addr add 10.1.1.1/24 dev v") && ip("link set v up")));
    assert!(two.run(|| ip("addr add 10.1.1.2/24 dev p") && ip("link set p up")));
    assert!(three.run(|| ip("addr add 10.1.1.2/24 dev lo")));
    let listener = two.run(move || listen(there));
    let c = one.run(move || connect(here, there));
    let (sent, received) = numbers(&c.tcp);
    let forged = three.run(move || {
        let socket = new_socket();
        tcp_option(&socket, TCP_REPAIR, Some(1));
        for (queue, number) in [(SENT, received), (RECEIVED, sent)] {
            tcp_option(&socket, TCP_REPAIR_QUEUE, Some(queue));
            tcp_option(&socket, TCP_QUEUE_SEQ, Some(number));
        }
        bind(socket.as_raw_fd(), &SockaddrStorage::from(there)).unwrap();
        nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(here)).unwrap();
        tcp_option(&socket, TCP_REPAIR, Some(QUIETLY));
        end(TcpStream::from(socket), Role::Accepted, now(), 2000)
    });
    assert_eq!(numbers(&forged.tcp), (received, sent));
    for order in [[&c, &forged], [&forged, &c]] {
        let daemon = Daemon::start(&["--proof", "--wait-peer", "0.1"]);
        let shim = Shim::new(&daemon, "all");
        order.iter().for_each(|e| tell_all(&shim, e, 1, 2));
        for _ in order {
            let heard = shim.hear();
            assert!(matches!(heard, Some(ToShim::Refuse { reason: Reason::Unproven, .. })), "{heard:?}");
        }
    }
    drop(listener);
}

/// As above, but one stream has carried more than the other when the two are looked at.
#[test]
fn half_a_deployment_out_of_step_is_refused() {
    let Some([one, two, three, four]) = four() else { return };
    let [(mut c, _s), (_d, t)] = twins(&one, &two, &three, &four);
    let daemon = Daemon::start(&[]);
    let shim = Shim::new(&daemon, "all");
    // When it was verified nothing contradicted: the end that has written more was asked first.
    tell_all(&shim, &c, 1, 2);
    daemon.wait_until(|d| d.json(&["stats", "--json"])["endpoints"]["waiting"] == 1);
    c.tcp.write_all(&[0; 100]).unwrap();
    tell_all(&shim, &t, 1, 2);
    for _ in 0..2 {
        assert!(matches!(shim.hear(), Some(ToShim::Refuse { reason: Reason::CountersDiffer, .. })));
    }
}
