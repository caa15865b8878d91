//! Clients that do not do what a shim does: they are dropped, and nobody else notices.

mod shim;

use std::os::fd::AsFd;

use matcher::reason::Reason;
use matcher::wire::{Direction, ErrorCode, NAME_LEN, ToDaemon, ToShim, Transports, VERSION};
use shim::{Daemon, Shim, stream};

/// Pairs a stream, to show that ipcd is well.
fn assert_well(daemon: &Daemon) {
    let (a, b) = (Shim::new(daemon, "a"), Shim::new(daemon, "b"));
    let (c, s) = stream();
    a.prove(&c);
    b.prove(&s);
    let (_x, _y) = (a.granted(&c), b.granted(&s));
}

fn hello(version: u16) -> ToDaemon {
    ToDaemon::Hello { version, name: [0; NAME_LEN], transports: Transports::UNIX }
}

#[test]
fn records_that_make_no_sense() {
    let daemon = Daemon::start(&[]);
    let bystander = Shim::new(&daemon, "bystander");
    let opened = ToDaemon::Opened(stream().0.opened).encode();
    let truncated = &opened.as_bytes()[..20];
    let mut extended = opened.as_bytes().to_vec();
    extended.push(0);
    let records: [&[u8]; 5] = [&[200, 1, 2], truncated, &extended, &[0; 161], &[7; 100_000]];
    for (i, record) in records.iter().enumerate() {
        let shim = Shim::new(&daemon, "malformed");
        shim.record(record, &[]).unwrap();
        assert_eq!(shim.hear(), Some(ToShim::Error { code: ErrorCode::Malformed }), "{i}");
        assert!(shim.is_dropped());
        let silent = Shim::silent(&daemon.socket);
        silent.record(record, &[]).unwrap();
        assert_eq!(silent.hear(), Some(ToShim::Error { code: ErrorCode::Malformed }), "{i}, as the first");
        assert!(silent.is_dropped());
    }
    daemon.wait_until(|d| d.stat("malformed_clients") == 10 && d.stat("sessions") == 1);
    let (c, s) = stream();
    bystander.prove(&c);
    bystander.prove(&s);
    let (_x, _y) = (bystander.granted(&c), bystander.granted(&s));
}

#[test]
fn records_that_may_not_come_now() {
    let daemon = Daemon::start(&[]);
    let unexpected = Some(ToShim::Error { code: ErrorCode::Unexpected });
    let first = Shim::silent(&daemon.socket);
    first.open(&stream().0);
    assert_eq!(first.hear(), unexpected);
    let twice = Shim::new(&daemon, "twice");
    twice.say(hello(VERSION));
    assert_eq!(twice.hear(), unexpected);
    let old = Shim::silent(&daemon.socket);
    old.say(hello(VERSION + 1));
    assert_eq!(old.hear(), Some(ToShim::Error { code: ErrorCode::Version }));
    let generous = Shim::new(&daemon, "generous");
    let (c, _s) = stream();
    generous.record(ToDaemon::Opened(c.opened).encode().as_bytes(), &[c.tcp.as_fd()]).unwrap();
    assert_eq!(generous.hear(), unexpected);
    for shim in [first, twice, old, generous] {
        assert!(shim.is_dropped());
    }
    assert_well(&daemon);
}

#[test]
fn too_many_descriptors_are_closed() {
    let daemon = Daemon::start(&[]);
    let open = || std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    daemon.wait_until(|d| d.stat("sessions") == 0);
    let before = open();
    let (c, _s) = stream();
    let message = ToDaemon::Offer { opened: c.opened, hashes: Direction::Sent.alone([0; 32]) };
    for fds in [2, 3, 60] {
        let shim = Shim::new(&daemon, "generous");
        shim.open(&c);
        shim.record(message.encode().as_bytes(), &vec![c.tcp.as_fd(); fds]).unwrap();
        assert_eq!(shim.hear(), Some(ToShim::Error { code: ErrorCode::Malformed }));
    }
    daemon.wait_until(|d| d.stat("sessions") == 0);
    daemon.wait_until(|_| open() <= before);
    assert_well(&daemon);
}

#[test]
fn one_who_does_not_read_is_dropped() {
    let daemon = Daemon::start(&[]);
    let slow = Shim::new(&daemon, "slow");
    let (mut c, _s) = stream();
    // Every one of these is answered with a refusal.
    for i in 0..20_000u64 {
        c.opened.cookie = 1 << 60 | i;
        let opened = slow.record(ToDaemon::Opened(c.opened).encode().as_bytes(), &[]);
        let message = ToDaemon::Prefix { cookie: c.opened.cookie, direction: Direction::Sent, hash: [0; 32] };
        if opened.and_then(|_| slow.record(message.encode().as_bytes(), &[])).is_err() {
            break;
        }
    }
    daemon.wait_until(|d| d.stat("slow_clients") == 1 && d.stat("sessions") == 0);
    assert_eq!(daemon.json(&["stats", "--json"])["endpoints"].as_object().unwrap().len(), 0);
    assert_well(&daemon);
}

#[test]
fn a_flood_of_endpoints_ends_at_the_limit() {
    let daemon = Daemon::start(&[]);
    let flood = Shim::new(&daemon, "flood");
    let (mut c, _s) = stream();
    for i in 0..65_537u64 {
        c.opened.cookie = 1 << 60 | i;
        flood.open(&c);
    }
    let cookie = c.cookie();
    assert_eq!(flood.hear(), Some(ToShim::Refuse { cookie, token: 1000, reason: Reason::Limit }));
    assert_well(&daemon);
    let resident = std::fs::read_to_string(format!("/proc/{}/statm", daemon.pid())).unwrap();
    let bytes = resident.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096;
    println!("{} bytes per endpoint", bytes / 65_536);
    assert!(bytes / 65_536 < 1024, "{bytes}");
}

#[test]
fn a_socket_that_takes_long_to_close_holds_nobody_up() {
    use std::io::Write;
    let daemon = Daemon::start(&[]);
    let shim = Shim::new(&daemon, "linger");
    let (mut c, s) = stream();
    shim::linger(&c.tcp, 30);
    c.tcp.set_nonblocking(true).unwrap();
    while c.tcp.write(&[0; 65536]).is_ok() {}
    // ipcd holds the last reference when it closes its copy.
    shim.prove(&c);
    drop(c);
    for _ in 0..20 {
        assert_well(&daemon);
    }
    drop(s);
}

#[test]
fn shims_of_two_versions_meet_on_the_best_transport_that_both_know() {
    let daemon = Daemon::start(&[]);
    let later = Transports(Transports::UNIX.0 | 1 << 6);
    for (one, other) in [(Transports::UNIX, later), (later, Transports::UNIX), (later, later)] {
        let (clients, servers) = (Shim::knowing(&daemon, "a", one), Shim::knowing(&daemon, "b", other));
        let (c, s) = stream();
        clients.prove(&c);
        servers.prove(&s);
        let (_x, _y) = (clients.granted(&c), servers.granted(&s));
    }
    // One that knows others only.
    let (clients, servers) = (Shim::knowing(&daemon, "a", later), Shim::knowing(&daemon, "b", Transports(1 << 6)));
    let (c, s) = stream();
    clients.prove(&c);
    servers.prove(&s);
    for (shim, end) in [(&clients, &c), (&servers, &s)] {
        let reason = match shim.hear() {
            Some(ToShim::Refuse { cookie, reason, .. }) if cookie == end.cookie() => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason, Reason::NoTransport);
    }
}
