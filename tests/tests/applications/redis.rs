//! Redis: many clients at a time, pipelines, blocking commands, subscriptions, a fork that saves, a replica.

use tests::Program;
use tests::scene::{Scene, check, free_port};

use crate::tools::{python, shell, tool};

fn server(scene: &Scene, dir: &str, more: &[&str]) -> u16 {
    let port = free_port();
    let (text, dir) = (port.to_string(), scene.directory(dir));
    let args = ["--port", &text, "--bind", "127.0.0.1", "--save", "", "--dir", &dir, "--daemonize", "no"];
    let args: Vec<&str> = args.iter().chain(&["--enable-debug-command", "yes"]).chain(more).copied().collect();
    scene.serve(&tool("redis-server", &args), &[port]);
    port
}

fn benchmark(port: u16, more: &[&str]) -> Program {
    let port = port.to_string();
    let args = ["-h", "127.0.0.1", "-p", &port, "-c", "50", "-q"];
    tool("redis-benchmark", &args.iter().chain(more).copied().collect::<Vec<_>>())
}

/// The number of requests of each kind that were measured, without the rates, which differ.
fn kinds(lines: &[String]) -> Vec<String> {
    let kind = |line: &String| line.rsplit('\r').next().and_then(|l| l.split_once(": ")).map(|(kind, _)| kind.into());
    lines.iter().filter_map(kind).collect()
}

#[test]
fn benchmark_has_all_its_streams_final() {
    check("redis-benchmark", |scene| {
        let port = server(scene, "data", &[]);
        let results = kinds(&scene.run(&benchmark(port, &["-n", "20000", "-t", "get"])));
        scene.expect_final(50);
        results
    });
}

#[test]
fn benchmark_with_pipelines_and_large_values() {
    check("redis-benchmark with pipelines", |scene| {
        let port = server(scene, "data", &["--io-threads", "3", "--io-threads-do-reads", "yes"]);
        let pipelines = ["-n", "2000", "-t", "set,get,lpush,lrange_100", "-P", "8", "-d", "2000"];
        let mut results = kinds(&scene.run(&benchmark(port, &pipelines)));
        results.extend(kinds(&scene.run(&benchmark(port, &["-n", "60", "-t", "set,get", "-d", "300000"]))));
        scene.expect_final(50);
        results
    });
}

#[test]
fn sessions_of_every_kind() {
    check("redis, a replica, Python clients", |scene| {
        let master = server(scene, "master", &["--repl-diskless-sync-delay", "0"]);
        let replica = server(scene, "replica", &["--replicaof", "127.0.0.1", &master.to_string()]);
        let results = scene.run(&python("redis.py", &[&master.to_string(), &replica.to_string()]));
        scene.expect_final(4);
        results
    });
}

#[test]
fn commands_from_the_standard_input() {
    check("redis-cli", |scene| {
        let port = server(scene, "data", &[]).to_string();
        let script = "for i in $(seq 4000); do echo set key:$i value-$i; echo incrby sum $i; done | \
            redis-cli -p $1 --pipe && seq -f 'get key:%.0f' 4000 | redis-cli -p $1 && redis-cli -p $1 get sum";
        let mut results = scene.run(&shell(script, &[&port]));
        results.extend(scene.run(&tool("redis-cli", &["-p", &port, "-r", "500", "lpush", "list", "x"])));
        scene.expect_final(2);
        results
    });
}
