//! Streams, from the report to the bytes that cross the granted transport.

mod shim;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use matcher::reason::Reason;
use matcher::wire::{Direction, ToDaemon, ToShim};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use shim::{Daemon, Shim, ipcd, now, quiet, stream, stream_to};

#[test]
fn a_stream_is_paired_and_bytes_cross_the_transport() {
    let daemon = Daemon::start(&["--prefix", "48"]);
    let (a, b) = (Shim::new(&daemon, "client"), Shim::new(&daemon, "server"));
    assert_eq!(a.prefix_bytes, 48);
    let (c, s) = stream();
    a.prove(&c);
    assert!(quiet(&a.socket));
    assert_eq!(a.counted(), 0);
    b.prove(&s);
    let (mut x, mut y) = (UnixStream::from(a.granted(&c)), UnixStream::from(b.granted(&s)));
    // A record is counted after it was put in the socket.
    daemon.wait_until(|_| (a.counted(), b.counted()) == (1, 1));
    x.set_nonblocking(false).unwrap();
    y.set_nonblocking(false).unwrap();
    x.write_all(b"ping").unwrap();
    let mut four = [0; 4];
    y.read_exact(&mut four).unwrap();
    y.write_all(b"pong").unwrap();
    x.read_exact(&mut four).unwrap();
    assert_eq!(&four, b"pong");

    for (shim, end) in [(&a, &c), (&b, &s)] {
        let cookie = end.cookie();
        shim.say(ToDaemon::Adopted { cookie });
        shim.say(ToDaemon::Switched { cookie, direction: Direction::Sent, offset: 64 });
        shim.say(ToDaemon::Final { cookie, at: now(), sent: 64, received: 64 });
    }
    daemon.wait_until(|d| d.stat("finals") == 1);
    let rows = daemon.json(&["ls", "--json"]);
    let row = &rows[0];
    assert_eq!((rows.as_array().unwrap().len(), row["state"].as_str()), (1, Some("final")));
    assert_eq!(row["client"], c.tcp.local_addr().unwrap().to_string());
    assert_eq!((&row["ends"][0]["program"], &row["ends"][1]["program"]), (&"client".into(), &"server".into()));
    assert_eq!(row["ends"][0]["pid"], std::process::id());
    assert_eq!((&row["client_to_server_switched_at"], &row["server_to_client_switched_at"]), (&64.into(), &64.into()));
    assert!(row["connect_to_final_us"].as_f64().unwrap() > 0.0);
    let text = String::from_utf8(daemon.cli(&["ls"]).stdout).unwrap();
    assert!(text.contains("client[") && text.contains("final"), "{text}");

    // A stream that ended is shown only on request.
    a.say(ToDaemon::Closed { cookie: c.cookie() });
    drop(b);
    daemon.wait_until(|d| d.json(&["ls", "--json"]).as_array().unwrap().is_empty());
    let all = daemon.json(&["ls", "--all", "--json"]);
    assert_eq!((all[0]["ended"].as_bool(), all[0]["state"].as_str()), (Some(true), Some("final")));
}

#[test]
fn a_child_that_goes_on_is_sent_the_end_that_its_parent_returns() {
    let daemon = Daemon::start(&[]);
    let (client, parent) = (Shim::new(&daemon, "client"), Shim::new(&daemon, "parent"));
    let (c, s) = stream();
    client.prove(&c);
    parent.prove(&s);
    let mut x = UnixStream::from(client.granted(&c));
    x.write_all(b"?").unwrap();
    let child = Shim::new(&daemon, "child");
    child.prove(&s);
    // What is not that end is not taken for it.
    parent.returns(&s, s.tcp.as_fd());
    parent.returns(&s, parent.granted(&s).as_fd());
    let mut y = UnixStream::from(child.granted(&s));
    let mut one = [0; 1];
    y.read_exact(&mut one).unwrap();
    drop(y);
    x.set_nonblocking(false).unwrap();
    assert_eq!(x.read(&mut one).unwrap(), 0);
    assert_eq!(daemon.stat("stray_reports"), 1);
}

#[test]
fn an_end_that_was_sent_is_the_clients_alone_even_if_ipcd_is_stopped() {
    for _ in 0..50 {
        let daemon = Daemon::start(&[]);
        let (a, b) = (Shim::new(&daemon, "client"), Shim::new(&daemon, "server"));
        let (c, s) = stream();
        a.prove(&c);
        b.prove(&s);
        // As the shim does: nothing is looked for before the page says so.
        while a.counted() == 0 {
            std::hint::spin_loop();
        }
        daemon.kill(Signal::SIGSTOP);
        drop(a.granted(&c));
        daemon.kill(Signal::SIGCONT);
        let mut y = UnixStream::from(b.granted(&s));
        daemon.kill(Signal::SIGSTOP);
        y.set_nonblocking(false).unwrap();
        assert_eq!(y.read(&mut [0]).unwrap(), 0);
        daemon.kill(Signal::SIGCONT);
    }
}

/// Who goes on between the transports, and when it speaks first.
#[derive(Clone, Copy, PartialEq)]
enum Successor {
    BeforeTheParentLeaves,
    AfterwardsAlone,
    AfterExec,
}

#[test]
fn who_goes_on_between_the_transports_is_heard() {
    use Successor::*;
    let daemon = Daemon::start(&[]);
    let client = Shim::new(&daemon, "client");
    for (finals, successor) in (1..).zip([BeforeTheParentLeaves, AfterwardsAlone, AfterExec]) {
        let parent = Shim::new(&daemon, "parent");
        let (c, s) = stream();
        client.prove(&c);
        parent.prove(&s);
        let (_x, _y) = (client.granted(&c), parent.granted(&s));
        parent.say(ToDaemon::Adopted { cookie: s.cookie() });
        let child = Shim::new(&daemon, "child");
        let offer = || child.offer(&s, [None; 2], s.tcp.as_fd());
        match successor {
            BeforeTheParentLeaves => {
                offer();
                child.say(ToDaemon::Final { cookie: s.cookie(), at: now(), sent: 64, received: 64 });
                parent.say(ToDaemon::Left { cookie: s.cookie() });
            }
            AfterwardsAlone => {
                parent.say(ToDaemon::Left { cookie: s.cookie() });
                client.say(ToDaemon::Final { cookie: c.cookie(), at: now(), sent: 64, received: 64 });
                client.say(ToDaemon::Closed { cookie: c.cookie() });
                // Until both have been heard.
                let total = daemon.stat("endpoints_total");
                for (shim, heard) in [(&parent, total + 1), (&client, total + 2)] {
                    let (mark, _) = stream();
                    shim.open(&mark);
                    daemon.wait_until(|d| d.stat("endpoints_total") == heard);
                    shim.say(ToDaemon::Closed { cookie: mark.cookie() });
                }
            }
            AfterExec => {
                drop(parent);
                daemon.wait_until(|d| d.json(&["ls", "--json"])[0]["ends"][1]["ended"] == true);
            }
        }
        if successor != BeforeTheParentLeaves {
            offer();
            child.say(ToDaemon::Final { cookie: s.cookie(), at: now(), sent: 64, received: 64 });
        }
        client.say(ToDaemon::Final { cookie: c.cookie(), at: now(), sent: 64, received: 64 });
        child.say(ToDaemon::Closed { cookie: s.cookie() });
        client.say(ToDaemon::Closed { cookie: c.cookie() });
        daemon.wait_until(|d| d.json(&["ls", "--json"]).as_array().unwrap().is_empty());
        assert_eq!(daemon.stat("finals"), finals, "{finals}");
        drop(child);
    }
}

#[test]
fn one_process_may_have_both_ends() {
    let daemon = Daemon::start(&[]);
    let a = Shim::new(&daemon, "both");
    let (c, s) = stream_to(&TcpListener::bind("[::1]:0").unwrap());
    a.prove(&c);
    a.prove(&s);
    let (_x, _y) = (a.granted(&c), a.granted(&s));
}

#[test]
fn ipcd_keeps_no_copy_of_a_socket() {
    let daemon = Daemon::start(&[]);
    let a = Shim::new(&daemon, "a");
    let (c, mut s) = stream();
    a.prove(&c);
    daemon.wait_until(|d| d.json(&["stats", "--json"])["endpoints"]["waiting"] == 1);
    drop(c);
    s.tcp.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    assert_eq!(s.tcp.read(&mut [0; 8]).unwrap(), 0, "the end of the stream arrives");
}

#[test]
fn the_page_is_sealed() {
    let daemon = Daemon::start(&[]);
    let a = Shim::new(&daemon, "a");
    let page = a.page.as_ref().unwrap();
    let seals = SealFlag::from_bits_retain(fcntl(page, FcntlArg::F_GET_SEALS).unwrap());
    assert!(seals.contains(
        SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_FUTURE_WRITE
    ));
    assert!(nix::unistd::ftruncate(page, 0).is_err());
    assert!(nix::sys::uio::pwrite(page, &[1], 0).is_err());
}

#[test]
fn a_socket_that_is_not_what_was_said_is_refused() {
    let daemon = Daemon::start(&[]);
    let a = Shim::new(&daemon, "liar");
    let refused = |end: &shim::End| {
        let (cookie, token) = (end.cookie(), end.opened.token);
        assert_eq!(a.hear(), Some(ToShim::Refuse { cookie, token, reason: Reason::Unverified }));
    };
    let (c, s) = stream();
    a.open(&c);
    a.offer(&c, Direction::Sent.alone([1; 32]), s.tcp.as_fd());
    refused(&c);
    a.open(&s);
    a.say(ToDaemon::Prefix { cookie: s.cookie(), direction: Direction::Sent, hash: [1; 32] });
    refused(&s);
    let (c, s) = stream();
    let file = std::fs::File::open("/dev/null").unwrap();
    a.open(&c);
    a.offer(&c, Direction::Sent.alone([1; 32]), file.as_fd());
    refused(&c);
    // Not by closing: a child that another test has just forked may still hold a copy.
    s.tcp.shutdown(Shutdown::Both).unwrap();
    c.tcp.shutdown(Shutdown::Both).unwrap();
    a.prove(&s);
    refused(&s);
}

#[test]
fn the_claimed_tuple_does_not_count() {
    let daemon = Daemon::start(&[]);
    let a = Shim::new(&daemon, "a");
    let (mut c, s) = stream();
    c.opened.tuple.local.port ^= 1;
    a.prove(&c);
    a.prove(&s);
    let (_x, _y) = (a.granted(&c), a.granted(&s));
}

#[test]
fn other_bytes_and_no_peer_are_refused() {
    let daemon = Daemon::start(&[]);
    let a = Shim::new(&daemon, "a");
    let (c, s) = stream();
    a.prove(&c);
    a.open(&s);
    a.offer(&s, Direction::Received.alone([8; 32]), s.tcp.as_fd());
    for _ in 0..2 {
        assert!(matches!(a.hear(), Some(ToShim::Refuse { reason: Reason::HashDiffers, .. })));
    }
    assert_eq!(daemon.json(&["stats", "--json"])["refused"]["hash-differs"], 2);
    // Not before both had been heard above, however slow this machine is.
    let daemon = Daemon::start(&["--wait-peer", "0.2"]);
    let a = Shim::new(&daemon, "a");
    let (c, _s) = stream();
    a.prove(&c);
    let (cookie, token) = (c.cookie(), c.opened.token);
    assert_eq!(a.hear(), Some(ToShim::Refuse { cookie, token, reason: Reason::NoPeer }));
    assert_eq!(daemon.json(&["stats", "--json"])["refused"]["no-peer"], 1);
}

#[test]
fn two_sessions_one_cookie_the_child_of_a_fork_speaks() {
    let daemon = Daemon::start(&[]);
    let (parent, child, peer) = (Shim::new(&daemon, "parent"), Shim::new(&daemon, "child"), Shim::new(&daemon, "peer"));
    let (c, s) = stream();
    parent.open(&s);
    child.open(&s);
    parent.say(ToDaemon::Closed { cookie: s.cookie() });
    child.prove(&s);
    peer.prove(&c);
    let (_x, _y) = (child.granted(&s), peer.granted(&c));
    assert_eq!(parent.counted(), 0);
}

#[test]
fn two_sessions_one_cookie_the_prover_leaves_and_the_child_takes_over() {
    let daemon = Daemon::start(&[]);
    let (parent, child, peer) = (Shim::new(&daemon, "parent"), Shim::new(&daemon, "child"), Shim::new(&daemon, "peer"));
    let (c, s) = stream();
    parent.prove(&s);
    child.open(&s);
    daemon.wait_until(|d| d.stat("endpoints_total") == 1);
    drop(parent);
    daemon.wait_until(|d| d.stat("sessions") == 2);
    peer.prove(&c);
    assert!(quiet(&peer.socket), "nobody speaks for the other end");
    child.prove(&s);
    let (_x, _y) = (child.granted(&s), peer.granted(&c));
}

#[test]
fn a_stranger_who_names_a_cookie_disturbs_nobody() {
    let daemon = Daemon::start(&[]);
    let (stranger, a, b) = (Shim::new(&daemon, "stranger"), Shim::new(&daemon, "a"), Shim::new(&daemon, "b"));
    let (c, s) = stream();
    let (cookie, file) = (c.cookie(), std::fs::File::open("/dev/null").unwrap());
    let disturb = |shim: &Shim| {
        shim.offer(&c, Direction::Sent.alone([99; 32]), file.as_fd());
        shim.say(ToDaemon::Adopted { cookie });
        shim.say(ToDaemon::Stayed { cookie, reason: Reason::Kernel });
        shim.say(ToDaemon::Final { cookie, at: 1, sent: 1, received: 1 });
    };
    // Before the owner comes, while it waits, and after.
    stranger.open(&c);
    disturb(&stranger);
    assert!(matches!(stranger.hear(), Some(ToShim::Refuse { reason: Reason::Unverified, .. })));
    a.prove(&c);
    daemon.wait_until(|d| d.json(&["stats", "--json"])["endpoints"]["waiting"] == 1);
    disturb(&stranger);
    stranger.say(ToDaemon::Closed { cookie });
    stranger.open(&c);
    disturb(&stranger);
    assert!(matches!(stranger.hear(), Some(ToShim::Refuse { .. })));
    assert!(matches!(stranger.hear(), Some(ToShim::Refuse { .. })));
    b.prove(&s);
    let (_x, _y) = (a.granted(&c), b.granted(&s));
    drop(stranger);
    daemon.wait_until(|d| d.stat("sessions") == 2);
    assert_eq!(daemon.json(&["ls", "--json"])[0]["state"], "granted");
}

#[test]
fn five_thousand_endpoints_at_once() {
    // Without /proc/sys/net/ipv4/ip_local_port_range in the way: 2,500 streams to each of two listeners.
    let (_, all) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, all, all).unwrap();
    let daemon = Daemon::start(&[]);
    let (a, b) = (Shim::new(&daemon, "a"), Shim::new(&daemon, "b"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let streams: Vec<_> = (0..2500).map(|_| stream_to(&listener)).collect();
    for (c, s) in &streams {
        a.prove(c);
        b.prove(s);
    }
    daemon.wait_until(|d| d.stat("pairs") == 2500);
    // Nobody has read anything so far.
    for (c, s) in &streams {
        drop((a.granted(c), b.granted(s)));
    }
    daemon.wait_until(|_| (a.counted(), b.counted()) == (2500, 2500));
    assert_eq!(daemon.stat("slow_clients"), 0);
    assert_eq!(daemon.json(&["ls", "--json"]).as_array().unwrap().len(), 2500);
}

#[test]
fn every_word_is_explained() {
    let text = String::from_utf8(ipcd().args(["ls", "--explain"]).output().unwrap().stdout).unwrap();
    for reason in Reason::ALL {
        assert!(text.contains(reason.word()) && text.contains(reason.explain()), "{}", reason.word());
    }
}
