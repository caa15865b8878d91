//! Environments that the shim does not choose: other ways into the kernel, other preloaded libraries, limits, filters.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::case::{ALL, BESIDE_A_RING, Layout, assert_passed, assert_same, held_ports};
use tests::daemon::PrivateDir;
use tests::run::Outcome;
use tests::{Case, Daemon, Mode, PATIENCE, artifacts, needs, run, skipped};

/// Runs the case natively and under the shim; streams that are held must stay on TCP for one of these reasons.
fn stays(case: Case, layouts: &[Layout], reasons: &[&'static str]) {
    for layout in layouts {
        let native = case.run(*layout, Mode::Native);
        let daemon = Daemon::eager();
        let mode = Mode::Shim(&daemon);
        let here = case.run_with(*layout, mode, |mark| {
            let Some(ports) = held_ports(mark) else { return Ok(()) };
            daemon.wait_final(&ports, reasons, PATIENCE)?;
            match daemon.streams().iter().find(|s| ports.contains(&s.client) && !s.stays_for(reasons)) {
                None => Ok(()),
                Some(other) => Err(format!("should stay for {reasons:?}: {other:?}")),
            }
        });
        assert_same(&native, &here, &case.program(*layout, mode), mode);
        assert!(here.marks.iter().any(|mark| mark.starts_with("hold")), "the victim held nothing");
        assert_eq!(daemon.finals(), 0);
    }
}

/// Bytes that no hook sees are noticed when the stream is to move, or earlier, if this end hashes later bytes than the
/// peer.
const UNSEEN: &[&str] = &["unseen-io", "hash-differs"];

#[test]
fn io_uring_before_the_move() {
    if let Some(why) = needs::no_io_uring() {
        return skipped(&why);
    }
    stays(Case::new("uring-before"), &ALL, UNSEEN);
}

#[test]
fn io_uring_after_the_move() {
    if let Some(why) = needs::no_io_uring() {
        return skipped(&why);
    }
    Case::new("uring-after").may_stay(BESIDE_A_RING).check();
}

#[test]
fn io_uring_waits_for_what_ordinary_calls_read() {
    if let Some(why) = needs::no_io_uring() {
        return skipped(&why);
    }
    Case::new("uring-waits").may_stay(BESIDE_A_RING).check();
}

#[test]
fn io_uring_for_files() {
    if let Some(why) = needs::no_io_uring() {
        return skipped(&why);
    }
    Case::new("uring-files").check();
}

#[test]
fn io_uring_accepts_and_closes() {
    if let Some(why) = needs::no_io_uring() {
        return skipped(&why);
    }
    Case::new("uring-accepts").may_stay(BESIDE_A_RING).check();
}

#[test]
fn io_uring_connects() {
    if let Some(why) = needs::no_io_uring() {
        return skipped(&why);
    }
    // The shim does not know when that call began, so no endpoint can be its peer (docs/limits.md).
    Case::new("uring-connects").may_stay(BESIDE_A_RING).check();
}

/// A preloaded library of the system.
fn library(pattern: &str) -> String {
    let (before, after) = pattern.split_once('*').expect("a pattern");
    let places = fs::read_dir(before).unwrap_or_else(|e| panic!("{before}: {e}"));
    let mut paths = places.flatten().map(|place| format!("{}{after}", place.path().display()));
    let found = paths.find(|path| Path::new(path).is_file());
    found.unwrap_or_else(|| panic!("{pattern} is not installed: `make test` as root installs it"))
}

/// Runs the case with another preloaded library, which comes before libipc or after it; `moves`: its streams are to
/// move.
fn beside(case: &Case, layout: Layout, other: &str, env: &[(&str, &str)], moves: bool) {
    let program = |mode: Mode, preload: &str| {
        env.iter().fold(case.program(layout, mode), |p, (name, value)| p.env(name, value)).env("LD_PRELOAD", preload)
    };
    let alone = program(Mode::Native, other);
    let native = run(&alone, Mode::Native, |_| Ok(()));
    assert_passed(&native, &alone, Mode::Native);
    let shim = artifacts::libipc().display().to_string();
    for order in [format!("{other}:{shim}"), format!("{shim}:{other}")] {
        println!("LD_PRELOAD={order}");
        let daemon = Daemon::eager();
        let mode = Mode::Shim(&daemon);
        let program = program(mode, &order);
        let here = run(&program, mode, |mark| match held_ports(mark) {
            Some(ports) if moves => daemon.wait_final(&ports, &[], PATIENCE),
            _ => Ok(()),
        });
        assert_passed(&here, &program, mode);
        assert_same(&native, &here, &program, mode);
        let finals = if moves { daemon.finals_reach(1) } else { daemon.finals() };
        assert_eq!(finals > 0, moves, "final streams: {}", daemon.ls());
    }
}

#[test]
fn beside_libfaketime() {
    let other = library("/usr/lib/*/faketime/libfaketime.so.1");
    for name in ["steady", "several", "epoll-edge"] {
        beside(&Case::new(name), Layout::Cold, &other, &[("FAKETIME", "-15d")], true);
    }
}

#[test]
fn beside_jemalloc() {
    let other = library("/usr/lib/*/libjemalloc.so.2");
    for name in ["steady", "two-threads-each"] {
        beside(&Case::new(name), Layout::OneProcess, &other, &[], true);
    }
}

#[test]
fn beside_socket_wrapper() {
    let other = library("/usr/lib/*/libsocket_wrapper.so");
    let place = PrivateDir::new();
    let env = [("SOCKET_WRAPPER_DIR", place.path().to_str().expect("a name of ASCII"))];
    for name in ["steady", "epoll-edge", "two-threads-each"] {
        // Its sockets of AF_INET are sockets of AF_UNIX.
        beside(&Case::new(name), Layout::Warm, &other, &env, false);
    }
}

#[test]
fn beside_a_library_whose_constructor_uses_tcp() {
    for layout in ALL {
        let env = [("LIBRARY_BEGINS", "1")];
        beside(&Case::new("preloaded-library"), layout, artifacts::LIBRARY, &env, true);
    }
}

#[test]
fn a_library_that_is_opened_later() {
    Case::new("opened-library").check();
}

#[test]
fn a_library_that_is_bound_past_the_hooks() {
    stays(Case::new("opened-library").args(&["deep"]), &ALL, UNSEEN);
}

#[test]
fn streams_after_main() {
    Case::new("at-exit").check();
}

/// Waits until the connected end at this port is between the transports.
fn wait_dual(daemon: &Daemon, port: u16) -> Result<(), String> {
    let is = |end: &Value, name: &str, value: &str| end.get(name).and_then(Value::as_str) == Some(value);
    let start = Instant::now();
    loop {
        let all = daemon.ls();
        let at_port = |row: &&Value| {
            let client = row.get("client").and_then(Value::as_str).unwrap_or("");
            client.ends_with(&format!(":{port}"))
        };
        let rows = all.as_array().into_iter().flatten().filter(at_port);
        let mut ends = rows.filter_map(|row| row.get("ends")?.as_array()).flatten();
        if ends.any(|end| is(end, "role", "connected") && is(end, "state", "dual")) {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("{port} is not between the transports: {all}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Answers the marks of cases that hold streams, and of those that wait for a stream to be between the transports.
fn answer(daemon: &Daemon, mark: &str) -> Result<(), String> {
    match (held_ports(mark), mark.strip_prefix("event dual ").and_then(|port| port.parse().ok())) {
        (Some(ports), _) => daemon.wait_final(&ports, &[], PATIENCE),
        (_, Some(port)) => wait_dual(daemon, port),
        _ => Ok(()),
    }
}

/// More children than a family has slots are killed. In the end ipcd lists no holder any more.
fn killed(state: &'static str, layout: Layout) {
    let case = Case::new("killed-children").args(&[state]);
    let native = case.run(layout, Mode::Native);
    let daemon = Daemon::eager();
    let mode = Mode::Shim(&daemon);
    let here = case.run_with(layout, mode, |mark| answer(&daemon, mark));
    assert_same(&native, &here, &case.program(layout, mode), mode);
    let start = Instant::now();
    while !daemon.streams().iter().all(|s| s.ended) {
        assert!(start.elapsed() < PATIENCE, "alive after the end: {}", daemon.ls());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn members_of_a_family_are_killed_before_the_move() {
    killed("tcp", Layout::Cold);
    killed("tcp", Layout::OneProcess);
}

#[test]
fn members_of_a_family_are_killed_between_the_transports() {
    killed("between", Layout::Warm);
}

#[test]
fn members_of_a_family_are_killed_after_the_move() {
    killed("moved", Layout::Warm);
}

#[test]
fn a_reader_is_killed_and_its_stream_moves() {
    Case::new("killed-reader").check();
}

#[test]
fn numbers_closed_by_the_hundred() {
    Case::new("closing").check();
}

#[test]
fn few_descriptors() {
    let case = Case::new("few-descriptors").may_stay(&["no-descriptors"]);
    for layout in ALL {
        let native = case.run(layout, Mode::Native);
        let daemon = Daemon::eager();
        let mode = Mode::Shim(&daemon);
        let here = case.run(layout, mode);
        assert_same(&native, &here, &case.program(layout, mode), mode);
        let files = |outcome: &Outcome| outcome.mark("files", "files").expect("a mark");
        println!("{layout:?}: {} files natively, {} here; {} final", files(&native), files(&here), daemon.finals());
        // The shim takes from the upper quarter of 256 numbers, and no others.
        assert!(files(&here) >= files(&native) - 64.0);
        // Where both ends are in one process, there may be no number left for either.
        assert!(daemon.finals() > 0 || layout == Layout::OneProcess);
    }
}

#[test]
fn waits_when_every_descriptor_is_in_use() {
    Case::new("no-descriptors").check();
}

/// A restriction with which the program is executed, and whether its streams move all the same.
const FILTERS: [(&str, bool); 10] = [
    ("unix", false),
    ("shared", false),
    ("memory", true),
    ("options", false),
    ("numbers", false),
    ("replacing", false),
    ("waiting", true),
    ("names", false),
    ("limits", false),
    ("most", false),
];

fn check_filter(name: &'static str, layout: Layout, moves: bool) {
    let more: &[_] = if moves { &[name, "moves"] } else { &[name] };
    let case = Case::new("filtered").args(more);
    let native = case.run(layout, Mode::Native);
    let daemon = Daemon::eager();
    let mode = Mode::Shim(&daemon);
    let here = case.run(layout, mode);
    assert_same(&native, &here, &case.program(layout, mode), mode);
    assert!(moves || daemon.finals() == 0, "{name}, {layout:?}: {}", daemon.ls());
}

#[test]
fn executed_with_a_filter() {
    for layout in ALL {
        FILTERS.iter().for_each(|(name, moves)| check_filter(name, layout, *moves));
    }
    // In a program with threads recv is recvmsg (docs/limits.md).
    check_filter("messages", Layout::Warm, false);
}

/// Kernel TLS, where the kernel has it: the answer is the same natively and here, and a stream that uses it stays.
#[test]
fn kernel_tls() {
    let case = Case::new("kernel-tls");
    let native = case.run(Layout::Warm, Mode::Native);
    match native.lines.iter().any(|line| line == "TCP_ULP tls: = 0") {
        true => stays(case, &ALL, &["socket-option"]),
        false => {
            println!("this kernel has no TLS: {:?}", native.lines);
            case.check();
        }
    }
}

#[test]
fn threads_cancelled_before_the_move() {
    Case::new("cancel-on-tcp").check();
}

#[test]
fn threads_cancelled_after_the_move() {
    Case::new("cancel-moved").check();
}

#[test]
fn threads_cancelled_between_the_transports() {
    let case = Case::new("cancel-between");
    let native = case.run(Layout::Warm, Mode::Native);
    let daemon = Daemon::eager();
    let mode = Mode::Shim(&daemon);
    let here = case.run_with(Layout::Warm, mode, |mark| answer(&daemon, mark));
    assert_same(&native, &here, &case.program(Layout::Warm, mode), mode);
}

#[test]
fn threads_whose_stacks_lie_far_apart() {
    Case::new("threads-apart").check();
}
