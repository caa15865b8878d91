//! Streams between different places, and under different restrictions.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command};

use tests::containers::{HostIpcd, Site};
use tests::{artifacts, needs, skipped};

/// A process that is killed on drop.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs it to its end; it has to report that all was well.
fn assert_ok(mut command: Command) {
    let output = command.output().expect("perl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.lines().any(|l| l == "ok"), "{text}");
}

/// The default bridge does not resolve names.
#[test]
fn the_default_bridge() {
    let Some(site) = Site::with_ipcd(&[]) else { return };
    let shim = site.shim();
    let shim: Vec<&str> = shim.iter().map(String::as_str).collect();
    site.talk_plain("server", &shim, &["echo", "7000"]);
    site.talk_plain("client", &shim, &["ask", &site.address("server"), "7000", "200"]);
    site.wait_for_line("client", "ok");
    site.wait_final(7000, 2);
}

#[test]
fn an_ipv6_network() {
    let Some(site) = Site::with_ipcd(&[]) else { return };
    let subnet = format!("fd00:7570:{:x}::/64", std::process::id() & 0xffff);
    let network = format!("--network={}", site.network("six", &["--ipv6", "--subnet", &subnet]));
    let shim = site.shim();
    let options: Vec<&str> = shim.iter().map(String::as_str).chain([network.as_str()]).collect();
    let server = site.talk_plain("server", &options, &["echo", "7000"]);
    let format = "{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end}}";
    let address = site.engine.docker(&["inspect", "-f", format, &server]);
    site.talk_plain("client", &options, &["ask", &address, "7000", "200"]);
    site.wait_for_line("client", "ok");
    site.wait_final(7000, 2);
}

#[test]
fn the_host_and_containers() {
    let Some(site) = Site::new() else { return };
    let ipcd = HostIpcd::start(&[]);
    let shim = ipcd.shim();
    let shim: Vec<&str> = shim.iter().map(String::as_str).collect();
    let network = format!("--network={}", site.full("net"));
    let on_network: Vec<&str> = shim.iter().copied().chain([network.as_str()]).collect();

    site.talk_plain("server", &on_network, &["echo", "7001"]);
    assert_ok(ipcd.talk(&["ask", &site.address("server"), "7001", "200"]));
    ipcd.wait_final(7001, 2);

    let port = std::net::TcpListener::bind("0.0.0.0:0").and_then(|l| l.local_addr()).expect("a port").port();
    let text = port.to_string();
    let _server = Background(ipcd.talk(&["echo", &text]).spawn().expect("perl"));
    site.talk_plain("client", &on_network, &["ask", &site.gateway("net"), &text, "200"]);
    site.wait_for_line("client", "ok");
    ipcd.wait_final(port, 2);

    let in_host: Vec<&str> = shim.iter().copied().chain(["--network=host"]).collect();
    site.talk_plain("host-client", &in_host, &["ask", "127.0.0.1", &text, "200"]);
    site.wait_for_line("host-client", "ok");
    ipcd.wait_final(port, 4);
}

#[test]
fn no_rights_at_all() {
    let Some(site) = Site::with_ipcd(&[]) else { return };
    let restricted = [
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--pids-limit=8",
        "--memory=48m",
        "--user=4711:4711",
        "--ulimit=nofile=64:64",
    ];
    site.talk("server", &restricted, &["echo", "7000"]);
    site.talk("client", &restricted, &["ask", "server", "7000", "200"]);
    site.wait_for_line("client", "ok");
    site.wait_final(7000, 2);
}

/// The program works as ever, and its peer is told that no peer was reported.
#[test]
fn a_container_without_the_volume() {
    let Some(site) = Site::with_ipcd(&["--wait-peer", "0.5"]) else { return };
    let options = [&format!("--network={}", site.full("net")), "-e=LD_PRELOAD=/run/ipcd/libipc.so"];
    site.talk_plain("server", &[options[0], options[1], "--network-alias=server"], &["echo", "7000"]);
    site.talk("client", &[], &["ask", "server", "7000", "400"]);
    site.wait_for_line("client", "ok");
    let streams = site.streams();
    assert!(!streams.is_empty() && streams.iter().all(|s| !s.is_final()), "{}", site.table());
    assert!(streams.iter().any(|s| s.stays_for(&["no-peer"])), "{}", site.table());
}

/// A program of the host asks a container by its published port, which iptables translates: both ends see other
/// addresses.
fn ask_published(site: &Site, ipcd: &HostIpcd, rounds: &str) {
    let network = format!("--network={}", site.full("net"));
    let options = [ipcd.shim(), vec![network, "-p=7000".into()]].concat();
    site.talk_plain("server", &options.iter().map(String::as_str).collect::<Vec<_>>(), &["echo", "7000"]);
    assert_ok(ipcd.talk(&["ask", &site.gateway("net"), &site.published("server", 7000), rounds]));
}

/// Only the kernel can prove such a pair, and the reason says so.
#[test]
fn a_published_port_stays_on_tcp() {
    let Some(site) = Site::new() else { return };
    let ipcd = HostIpcd::start(&["--wait-peer", "0.5"]);
    ask_published(&site, &ipcd, "400");
    let streams = ipcd.streams();
    assert!(!streams.is_empty() && streams.iter().all(|s| !s.is_final()), "{streams:?}");
    assert!(streams.iter().any(|s| s.stays_for(&["translated"])), "{streams:?}");
}

#[test]
fn a_published_port_with_proof() {
    let Some(site) = Site::new() else { return };
    if let Some(why) = needs::no_proof(&artifacts::ipcd()) {
        return skipped(&why);
    }
    let ipcd = HostIpcd::start(&["--proof"]);
    ask_published(&site, &ipcd, "200");
    ipcd.wait_final(7000, 2);
}

/// A container that asks another one by the host's address is served by the engine's proxy: two streams, and the proxy
/// has no libipc at its ends.
#[test]
fn the_engines_own_proxy() {
    let Some(site) = Site::with_ipcd(&["--wait-peer", "0.5"]) else { return };
    site.talk("server", &["-p=7000"], &["echo", "7000"]);
    let other = format!("--network={}", site.network("other", &[]));
    let options = [site.shim(), vec![other]].concat();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let port = site.published("server", 7000);
    site.talk_plain("client", &options, &["ask", &site.gateway("other"), &port, "100"]);
    site.wait_for_line("client", "ok");
    let streams = site.streams();
    assert!(!streams.is_empty() && streams.iter().all(|s| !s.is_final()), "{}", site.table());
}

#[test]
fn the_library_tells_nobody_that_it_is_there() {
    let Some(site) = Site::with_ipcd(&[]) else { return };
    site.start("quiet", &[], &["sh", "-c", "echo one line"]);
    site.wait_for_line("quiet", "one line");
    let logs = site.logs("quiet");
    assert_eq!(BufReader::new(logs.as_bytes()).lines().count(), 1, "{logs}");
}
