//! Containers that belong together.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{BASE, Engine, IPCD, TALK, wait_final, wait_until};
use crate::streams::{self, Stream};

/// A network, a volume with an ipcd, and containers; all removed on drop.
pub struct Site {
    /// The engine that they run in.
    pub engine: &'static Engine,
    name: String,
    containers: std::cell::RefCell<Vec<String>>,
    networks: std::cell::RefCell<Vec<String>>,
}

impl Site {
    /// A new one, if there is an engine, without an ipcd.
    pub fn new() -> Option<Site> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let engine = Engine::get()?;
        let name = format!("ipc-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let site = Site { engine, name, containers: Vec::default().into(), networks: Vec::default().into() };
        engine.docker(&["volume", "create", &site.name]);
        site.network("net", &[]);
        Some(site)
    }

    /// The same with an ipcd.
    pub fn with_ipcd(options: &[&str]) -> Option<Site> {
        let site = Site::new()?;
        site.start_ipcd(options);
        Some(site)
    }

    /// The name of one of the site's objects.
    pub fn full(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// Another network.
    pub fn network(&self, name: &str, options: &[&str]) -> String {
        let full = self.full(name);
        self.engine.docker(&[&["network", "create"], options, &[&full]].concat());
        self.networks.borrow_mut().push(full.clone());
        full
    }

    /// Starts ipcd as the image does, with more options, and waits until it answers.
    pub fn start_ipcd(&self, options: &[&str]) {
        let volume = format!("{}:/run/ipcd", self.name);
        let hardening = ["--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"];
        let command = [&["serve", "--everybody", "--patience", "0", "--copy-library", "/run/ipcd"], options].concat();
        // The image's health check starts a process every few seconds; compose needs it, these tests do not.
        self.run("ipcd", &[&["-v", &volume, "--no-healthcheck"], &hardening[..]].concat(), IPCD, &command);
        wait_until("ipcd answers", || self.engine.try_docker(&["exec", &self.full("ipcd"), "ipcd", "stats"]).is_ok());
    }

    /// Starts a container without the shim.
    pub fn run(&self, name: &str, options: &[&str], image: &str, command: &[&str]) -> String {
        let full = self.full(name);
        self.containers.borrow_mut().push(full.clone());
        let fixed = ["run", "-d", "--init", "--name", &full, "--hostname", name];
        self.engine.docker(&[&fixed, options, &[image], command].concat());
        full
    }

    /// The options that make a container on the site's network.
    fn on_network(&self, name: &str) -> Vec<String> {
        vec![format!("--network={}", self.full("net")), format!("--network-alias={name}")]
    }

    /// The options that give a container the volume and the two variables.
    pub fn shim(&self) -> Vec<String> {
        super::shim(&self.name)
    }

    /// Starts a container on the site's network with the shim in it.
    pub fn start(&self, name: &str, options: &[&str], command: &[&str]) -> String {
        let ours = [self.on_network(name), self.shim()].concat();
        self.run(name, &[&ours.iter().map(String::as_str).collect::<Vec<_>>(), options].concat(), BASE, command)
    }

    /// Starts talk.pl in a container with the shim.
    pub fn talk(&self, name: &str, options: &[&str], args: &[&str]) -> String {
        self.start(name, options, &[&["perl", "-e", TALK], args].concat())
    }

    /// Starts talk.pl in a container on a given network, without the shim.
    pub fn talk_plain(&self, name: &str, options: &[&str], args: &[&str]) -> String {
        self.run(name, options, BASE, &[&["perl", "-e", TALK], args].concat())
    }

    /// The output of a container so far.
    pub fn logs(&self, name: &str) -> String {
        let output = self.engine.command(&["logs", &self.full(name)]).output().expect("docker logs");
        [output.stdout, output.stderr].map(|s| String::from_utf8_lossy(&s).into_owned()).concat()
    }

    /// Waits until a container has printed this line; panics if the container prints an error instead.
    pub fn wait_for_line(&self, name: &str, line: &str) {
        wait_until(&format!("{name} prints {line:?}"), || {
            let logs = self.logs(name);
            assert!(!logs.contains("error "), "{name}: {logs}\n{}", self.table());
            logs.lines().any(|l| l == line)
        });
    }

    /// How many rounds a talking container has completed.
    pub fn rounds(&self, name: &str) -> u32 {
        let logs = self.logs(name);
        assert!(!logs.contains("error "), "{name}: {logs}\n{}", self.table());
        logs.lines().filter_map(|l| l.strip_prefix("round ")?.parse().ok()).max().unwrap_or(0)
    }

    /// Waits until a talking container has done more rounds than it had.
    pub fn wait_for_rounds(&self, name: &str, more: u32) {
        let before = self.rounds(name);
        wait_until(&format!("{name} goes on"), || self.rounds(name) >= before + more);
    }

    /// The output of `ipcd ls`, as text.
    pub fn table(&self) -> String {
        self.engine.try_docker(&["exec", &self.full("ipcd"), "ipcd", "ls", "--all"]).unwrap_or_else(|e| e)
    }

    /// Every stream that ipcd knows.
    pub fn streams(&self) -> Vec<Stream> {
        let json = self.engine.docker(&["exec", &self.full("ipcd"), "ipcd", "ls", "--all", "--json"]);
        streams::read(&serde_json::from_str(&json).expect("JSON"))
    }

    /// Waits until so many streams to this port are final.
    pub fn wait_final(&self, server: u16, count: usize) {
        let ls = ["exec", &self.full("ipcd"), "ipcd", "ls", "--all", "--json"];
        wait_final(server, count, || self.engine.docker(&ls));
    }

    /// The port of the host that leads to this one of a container.
    pub fn published(&self, name: &str, port: u16) -> String {
        let ports = self.engine.docker(&["port", &self.full(name), &format!("{port}/tcp")]);
        ports.lines().next().and_then(|l| l.rsplit(':').next()).expect("a port").to_owned()
    }

    /// The address of a container on its only network.
    pub fn address(&self, name: &str) -> String {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        self.engine.docker(&["inspect", "-f", format, &self.full(name)])
    }

    /// Where the host is on one of the site's networks.
    pub fn gateway(&self, network: &str) -> String {
        let format = "{{range .IPAM.Config}}{{.Gateway}}{{end}}";
        self.engine.docker(&["network", "inspect", "-f", format, &self.full(network)])
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let remove = |what: &[&str], names: &[String]| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            if !names.is_empty() {
                let _ = self.engine.try_docker(&[what, &names].concat());
            }
        };
        remove(&["rm", "-f", "-v"], &self.containers.borrow());
        remove(&["network", "rm"], &self.networks.borrow());
        remove(&["volume", "rm"], std::slice::from_ref(&self.name));
    }
}
