//! Start, stop, crash, takeover, and `ipcd run`.

mod shim;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use matcher::wire::ToShim;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getsid, read, write};
use shim::{Daemon, Shim, ipcd, stream};

#[test]
fn sigterm_ends_it_and_removes_the_socket() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut daemon = Daemon::start(&[]);
        assert!(daemon.socket.exists());
        assert_eq!(daemon.signal(signal), Some(0));
        assert!(!daemon.socket.exists());
    }
}

#[test]
fn a_new_one_takes_over_from_a_dead_one() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("ipcd.sock");
    let mut first = Daemon::start_at(&socket, &[], &[]);
    let shim = Shim::new(&first, "survivor");
    let (c, s) = stream();
    shim.prove(&c);
    first.signal(Signal::SIGKILL);
    assert!(socket.exists());
    assert!(shim.is_dropped());
    let second = Daemon::start_at(&socket, &[], &[]);
    let shim = Shim::new(&second, "survivor");
    shim.prove(&c);
    shim.prove(&s);
    let (_x, _y) = (shim.granted(&c), shim.granted(&s));
}

#[test]
fn a_living_one_is_left_alone() {
    let daemon = Daemon::start(&[]);
    let output = ipcd().args(["serve", "--socket"]).arg(&daemon.socket).output().unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("already listens") && error.contains(&daemon.pid().to_string()), "{error}");
    drop(Shim::new(&daemon, "still there"));
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let output = ipcd().args(["serve", "--socket"]).arg(dir.path().join("s")).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("others can write"));
    let made = dir.path().join("new/ipcd.sock");
    let daemon = Daemon::start_at(&made, &[], &[]);
    assert_eq!(made.parent().unwrap().metadata().unwrap().permissions().mode() & 0o022, 0);
    drop(daemon);
}

#[test]
fn it_dies_where_it_is_told_to() {
    let die = |point: &str| {
        let daemon = Daemon::start_with(&[], &[("IPCD_TEST_CRASH", point)]);
        (Shim::new(&daemon, "a"), Shim::new(&daemon, "b"), daemon)
    };
    let (a, _b, mut daemon) = die("after-prefix");
    a.prove(&stream().0);
    assert_eq!(daemon.wait(), Some(86));

    let (a, b, mut daemon) = die("between-grants");
    let (c, s) = stream();
    a.prove(&c);
    b.prove(&s);
    assert_eq!(daemon.wait(), Some(86));
    let transport = a.granted(&c);
    assert!(b.is_dropped());
    assert_eq!(read(&transport, &mut [0; 1]), Ok(0), "the new transport has ended");

    let (a, b, mut daemon) = die("after-grants");
    let (c, s) = stream();
    a.prove(&c);
    b.prove(&s);
    assert_eq!(daemon.wait(), Some(86));
    let (x, y) = (a.granted(&c), b.granted(&s));
    write(&x, b"!").unwrap();
    assert_eq!(read(&y, &mut [0; 1]), Ok(1), "a transport lives without ipcd");
}

/// A library that can be preloaded and does nothing: the C library's own.
fn run(dir: &std::path::Path) -> Command {
    let library = dir.join("libipc.so");
    if !library.exists() {
        let made = Command::new("cc").args(["-shared", "-xc", "/dev/null", "-o"]).arg(&library).status().unwrap();
        assert!(made.success());
    }
    let mut command = ipcd();
    command.arg("run").arg("--lib").arg(library).arg("--socket").arg(dir.join("run/ipcd.sock"));
    command
}

#[test]
fn run_starts_a_daemon_and_becomes_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo $LD_PRELOAD $IPCD_SOCKET; ps -o pid= --ppid $$ | wc -l; exit 42";
    let output = run(dir.path()).args(["--", "sh", "-c", script]).output().unwrap();
    assert_eq!(output.status.code(), Some(42), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let place = dir.path().canonicalize().unwrap();
    assert!(text.contains(place.join("libipc.so").to_str().unwrap()), "{text}");
    assert!(text.contains("run/ipcd.sock"), "{text}");

    // The signal that ends the program ends what was started, the daemon stays and is used again.
    let output = run(dir.path()).env("LD_PRELOAD", "").args(["--", "sh", "-c", "kill -9 $$"]).output().unwrap();
    assert_eq!(output.status.signal(), Some(9));
    let stats = ipcd().args(["stats", "--json", "--socket"]).arg(dir.path().join("run/ipcd.sock")).output().unwrap();
    let stats: serde_json::Value = serde_json::from_slice(&stats.stdout).unwrap();
    let pid = Pid::from_raw(stats["pid"].as_i64().unwrap() as i32);
    assert_eq!(getsid(Some(pid)).unwrap(), pid, "it has a session of its own");
    kill(pid, Signal::SIGTERM).unwrap();
}

#[test]
fn run_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = ipcd();
    command.args(["run", "--lib", "/nowhere/libipc.so", "--", "true"]);
    let output = command.output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("--lib"));
    let output = ipcd().args(["ls", "--socket"]).arg(dir.path().join("none")).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("ipcd serve"));
}

#[test]
fn an_answer_of_any_size_arrives() {
    let daemon = Daemon::start(&[]);
    let shim = Shim::new(&daemon, "many");
    let (mut c, _s) = stream();
    for i in 0..20_000u64 {
        c.opened.cookie = 1 << 60 | i;
        shim.open(&c);
    }
    daemon.wait_until(|d| d.json(&["ls", "--json"]).as_array().unwrap().len() == 20_000);
    let fd = Shim::silent(&daemon.socket);
    fd.say(matcher::wire::ToDaemon::Query(matcher::wire::Query::List));
    assert!(matches!(fd.hear_with_fd(), (Some(ToShim::Answer { len }), Some(_)) if len > 1 << 20));
}

#[test]
fn the_library_is_replaced_and_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let (source, shared) = (dir.path().join("source.so"), dir.path().join("shared"));
    std::fs::create_dir(&shared).unwrap();
    let start = || {
        let environment = [("IPCD_LIB", source.to_str().unwrap())];
        let arguments = ["--copy-library", shared.to_str().unwrap()];
        drop(Daemon::start_at(&dir.path().join("run/ipcd.sock"), &arguments, &environment));
        std::fs::File::open(shared.join("libipc.so")).unwrap()
    };
    let text = |mut file: std::fs::File| std::io::read_to_string(&mut file).unwrap();
    std::fs::write(&source, "old").unwrap();
    let old = start();
    std::fs::write(&source, "newer").unwrap();
    let new = start();
    assert_eq!(new.metadata().unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!((text(old), text(new)), ("old".into(), "newer".into()));
    assert_eq!(std::fs::read_dir(&shared).unwrap().count(), 1);
}
