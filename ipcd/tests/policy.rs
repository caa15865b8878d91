//! What ipcd is told to leave on TCP.

mod shim;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use matcher::reason::Reason;
use matcher::wire::ToShim;
use shim::{Daemon, End, Shim, ipcd, stream_to};

fn refused(shim: &Shim, end: &End) -> Reason {
    match shim.hear() {
        Some(ToShim::Refuse { cookie, reason, .. }) if cookie == end.cookie() => reason,
        other => panic!("{other:?}"),
    }
}

/// Two streams to two ports; the first is to stay, the second to move.
fn assert_first_stays(arguments: impl Fn(u16, u16) -> Vec<String>) {
    let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (first, second) = (listen(), listen());
    let port = |l: &TcpListener| l.local_addr().unwrap().port();
    let arguments = arguments(port(&first), port(&second));
    let daemon = Daemon::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let (clients, servers) = (Shim::new(&daemon, "clients"), Shim::new(&daemon, "servers"));
    let (c, s) = stream_to(&first);
    clients.prove(&c);
    servers.prove(&s);
    assert_eq!((refused(&clients, &c), refused(&servers, &s)), (Reason::Policy, Reason::Policy));
    let rows = daemon.json(&["ls", "--json"]);
    assert!(rows.as_array().unwrap().iter().all(|r| r["state"] == "stay" && r["reason"] == "policy"), "{rows}");
    let (c, s) = stream_to(&second);
    clients.prove(&c);
    servers.prove(&s);
    let (_x, _y) = (clients.granted(&c), servers.granted(&s));
    let table = String::from_utf8(daemon.cli(&["ls"]).stdout).unwrap();
    assert!(table.contains(&format!("policy: {}", Reason::Policy.explain())), "{table}");
}

#[test]
fn denied_on_the_command_line() {
    assert_first_stays(|first, _| vec!["--deny".into(), format!("server.port={first},client.program=clients")]);
}

#[test]
fn only_what_is_allowed() {
    assert_first_stays(|_, second| {
        let allow = |conditions: String| ["--allow".into(), conditions];
        [allow("client.address=10.0.0.0/8".into()), allow(format!("server.port={second}"))].concat()
    });
}

#[test]
fn a_file_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.toml");
    assert_first_stays(|first, _| {
        std::fs::write(&file, format!("[[deny]]\nserver.port = {first}\nnamespaces = \"same\"\n")).unwrap();
        vec!["--policy".into(), file.display().to_string()]
    });
}

#[test]
fn mistakes_keep_it_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("ipcd.sock");
    for (arguments, word) in [
        (["--deny", "server.prt=1"], "no condition \"server.prt\""),
        (["--allow", "server.port=x"], "a port or FROM-TO is wanted"),
        (["--policy", "/nowhere/policy.toml"], "cannot read /nowhere/policy.toml"),
    ] {
        let output = ipcd().args(["serve", "--socket"]).arg(&socket).args(arguments).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(word), "{error}");
        assert!(!socket.exists());
    }
}

#[test]
fn everybody_may_come_only_if_asked_or_root() {
    let dir = tempfile::tempdir().unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let root = nix::unistd::geteuid().is_root();
    for (arguments, all) in [(&[][..], root), (&["--everybody"][..], true)] {
        let socket = dir.path().join(format!("{}/ipcd.sock", arguments.len()));
        let daemon = Daemon::start_at(&socket, arguments, &[]);
        let wanted = if all { (0o755, 0o666) } else { (0o700, 0o600) };
        assert_eq!((mode(socket.parent().unwrap()), mode(&socket)), wanted);
        drop(daemon);
    }
}
