//! Programs as they are installed.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use tests::case::assert_passed;
use tests::daemon::PrivateDir;
use tests::run::{Background, Outcome};
use tests::{Daemon, Mode, Program, artifacts, run};

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

fn redis_server(port: u16, dir: &PrivateDir, mode: Mode) -> Background {
    let (port_text, dir) = (port.to_string(), dir.path().display().to_string());
    let args = ["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--dir", &dir, "--daemonize", "no"];
    let server = Program::new(artifacts::installed("redis-server"), &args).start(mode);
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < Duration::from_secs(10), "redis-server does not listen on port {port}");
        std::thread::sleep(Duration::from_millis(10));
    }
    server
}

fn redis_benchmark(port: u16, mode: Mode, more: &[&str]) -> Outcome {
    let port = port.to_string();
    let mut args = vec!["-h", "127.0.0.1", "-p", &port, "-c", "50", "-q"];
    args.extend(more);
    let program = Program::new(artifacts::installed("redis-benchmark"), &args);
    let outcome = run(&program, mode, |_| Ok(()));
    assert_passed(&outcome, &program, mode);
    outcome
}

#[test]
fn redis_benchmark_has_all_its_streams_final() {
    let dir = PrivateDir::new();
    let port = free_port();
    let native = redis_server(port, &dir, Mode::Native);
    redis_benchmark(port, Mode::Native, &["-n", "50000", "-t", "get"]);
    drop(native);

    let daemon = Daemon::start(Default::default());
    let mode = Mode::Shim(&daemon);
    let port = free_port();
    let _server = redis_server(port, &dir, mode);
    redis_benchmark(port, mode, &["-n", "100000", "-t", "get"]);
    let finals = daemon.streams().iter().filter(|s| s.server == port && s.is_final()).count();
    assert!(finals >= 50, "{finals} of 50 client streams are final: {}", daemon.ls());
}

#[test]
fn redis_benchmark_with_pipelines_and_large_values() {
    let dir = PrivateDir::new();
    let daemon = Daemon::eager();
    let mode = Mode::Shim(&daemon);
    let port = free_port();
    let _server = redis_server(port, &dir, mode);
    redis_benchmark(port, mode, &["-n", "20000", "-t", "set,get,lpush,lrange_100", "-P", "8", "-d", "2000"]);
    redis_benchmark(port, mode, &["-n", "400", "-t", "set,get", "-d", "500000"]);
    assert!(daemon.finals_reach(50) >= 50, "{}", daemon.ls());
}
