//! Applications across containers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use tests::containers::{Engine, Site, wait_until};
use tests::skipped;

#[test]
fn redis_across_containers() {
    let Some(site) = Site::with_ipcd(&[]) else { return };
    site.start("redis", &["--user=999"], &["redis-server", "--save", "", "--protected-mode", "no"]);
    site.talk("client", &[], &["redis", "redis", "6379", "300"]);
    site.wait_for_line("client", "ok");
    site.wait_final(6379, 2);
    let benchmark = ["redis-benchmark", "-h", "redis", "-c", "20", "-n", "40000", "-t", "set,get", "-q"];
    site.start("benchmark", &[], &benchmark);
    site.wait_final(6379, 22);
}

#[test]
fn memcached_across_containers() {
    let Some(site) = Site::with_ipcd(&[]) else { return };
    site.start("cache", &[], &["memcached", "-u", "nobody", "-t", "2"]);
    site.talk("client", &["--user=1234"], &["memcached", "cache", "11211", "300"]);
    site.wait_for_line("client", "ok");
    site.wait_final(11211, 2);
}

/// docker/compose.yaml unchanged, with stand-ins for the images of the applications.
struct Compose<'a> {
    engine: &'a Engine,
    project: String,
    port: u16,
}

impl Compose<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.engine.compose().expect("asked before");
        command.args(["-p", &self.project, "-f"]).arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../docker/compose.yaml"));
        for (name, image) in [("IPCD", "ipcd"), ("REDIS", "redis"), ("NGINX", "nginx"), ("PHP", "php")] {
            command.env(format!("{name}_IMAGE"), format!("ipc-test/{image}"));
        }
        command.env("PORT", self.port.to_string()).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().expect("compose");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }
}

impl Drop for Compose<'_> {
    fn drop(&mut self) {
        let _ = self.command(&["down", "-v", "-t", "0"]).output();
    }
}

/// The body that nginx answers with; `None` if it does not answer.
fn fetch(port: u16, query: &str) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET /{query} HTTP/1.0\r\nHost: example\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    answer.starts_with(b"HTTP/1.1 200").then(|| answer.split_off(head + 4))
}

#[test]
fn the_compose_file_with_nginx_and_php() {
    let Some(engine) = Engine::get() else { return };
    if engine.compose().is_none() {
        return skipped("neither `docker compose` nor docker-compose is there");
    }
    engine.build_application("redis", r#"CMD ["redis-server", "--save", "", "--protected-mode", "no"]"#);
    engine.build_application("nginx", r#"CMD ["nginx", "-g", "daemon off; user www-data; error_log /dev/stderr;"]"#);
    let fpm =
        "[global]\\nerror_log=/dev/stderr\\n[www]\\nuser=www-data\\nlisten=9000\\npm=static\\npm.max_children=4\\n";
    let php = format!("RUN printf '{fpm}' >/etc/fpm.conf\nCMD exec /usr/sbin/php-fpm[0-9]* -F -y /etc/fpm.conf");
    engine.build_application("php", &php);
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let compose = Compose { engine, project: format!("ipc-test-compose-{}", std::process::id()), port };
    compose.run(&["up", "-d"]);
    wait_until("nginx answers", || fetch(port, "").is_some());
    for n in 1..=100 {
        let size = n * 700;
        let wanted: String = (0..).map(|i| format!("line {i} of a page that php made\n")).take(size / 20).collect();
        let body = fetch(port, &format!("?n={size}")).expect("an answer");
        assert!(body == wanted.as_bytes()[..size], "page {n} of {size} bytes is another");
    }
    let ls = compose.run(&["exec", "-T", "ipcd", "ipcd", "ls", "--all"]);
    let finals = |port: &str| ls.lines().filter(|l| l.contains(port) && l.contains(" final")).count();
    assert!(finals(":9000") >= 1 && finals(":6379") >= 20, "{ls}");
}
