//! Containers of a real engine: one that answers, or one that root starts for the tests and that ends with them.

mod host;
mod site;

use std::env;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

use crate::{PATIENCE, artifacts, skipped, streams};

pub use host::HostIpcd;
pub use site::Site;

/// The program that the containers run to talk to each other.
pub const TALK: &str = include_str!("containers/talk.pl");
/// The base of all images here, and ipcd's image. The names belong to these tests, so no user's images are replaced.
const BASE: &str = "ipc-test/base";
const IPCD: &str = "ipc-test/ipcd";
/// The packages of the base image. They are unpacked and not set up, which takes 6 seconds instead of 40.
const PACKAGES: &str = "base-files,base-passwd,dash,coreutils,passwd,login,libpam-modules,perl-base,redis-server,\
                        redis-tools,memcached,nginx-light,php-fpm";

/// A container engine.
pub struct Engine {
    /// DOCKER_HOST, if the engine is our own.
    host: Option<String>,
    /// Whether images are built with BuildKit.
    buildx: bool,
    /// The network namespace that the engine runs in.
    network: Option<File>,
    /// Ends the engine when its standard input is closed, which happens at the latest when this process has ended.
    _supervisor: Option<Child>,
}

/// Waits until a condition holds; panics with its name if it never does.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        // Asking an engine costs more than waiting for it.
        std::thread::sleep(std::time::Duration::from_millis(150));
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Whether a command can be run.
fn exists(name: &str) -> bool {
    env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(name).is_file())
}

impl Engine {
    /// The engine, with the images in it; `None`, after a message, where there is none. The calling thread is in the
    /// engine's network namespace afterwards.
    pub fn get() -> Option<&'static Engine> {
        static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
        match ENGINE.get_or_init(|| Engine::find().inspect(Engine::make_images)) {
            Ok(engine) => {
                engine.enter();
                Some(engine)
            }
            Err(why) => {
                skipped(&format!("nothing of containers is tested here: {why}"));
                None
            }
        }
    }

    fn find() -> Result<Engine, String> {
        let missing: Vec<_> = ["docker", "mmdebstrap"].into_iter().filter(|name| !exists(name)).collect();
        if !missing.is_empty() {
            return Err(format!("there is no {}", missing.join(", no ")));
        }
        let there = Engine { host: None, buildx: buildx(), network: None, _supervisor: None };
        if there.answers() {
            return Ok(there);
        }
        // SAFETY: no arguments, cannot fail.
        if unsafe { libc::geteuid() } != 0 {
            return Err("no engine answers, and only root can start one".into());
        }
        if !exists("dockerd") {
            return Err("no engine answers, and dockerd is not installed".into());
        }
        Engine::start()
    }

    /// Starts an engine with directories, mounts and a network of its own: none of them is left on the machine.
    fn start() -> Result<Engine, String> {
        let dir = env::temp_dir().join(format!("ipc-docker-{}", std::process::id()));
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let script = "ip link set lo up; dockerd --data-root $0/data --exec-root $0/exec -p $0/pid -H unix://$0/docker.sock >$0/log 2>&1 &
                      read -r _; kill $!; wait; umount $0/exec/netns/* 2>/dev/null; rm -rf $0";
        let supervisor = Command::new("unshare")
            .args(["--mount", "--net", "sh", "-c", script])
            .arg(&dir)
            .stdin(Stdio::piped())
            .spawn();
        let supervisor = supervisor.map_err(|e| format!("cannot run unshare: {e}"))?;
        let host = format!("unix://{}/docker.sock", dir.display());
        let pid = supervisor.id();
        let mut engine = Engine { host: Some(host), buildx: buildx(), network: None, _supervisor: Some(supervisor) };
        let start = Instant::now();
        while !engine.answers() {
            if start.elapsed() > PATIENCE {
                let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
                return Err(format!("dockerd does not answer; it said:\n{log}"));
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let network = format!("/proc/{pid}/ns/net");
        engine.network = Some(File::open(&network).map_err(|e| format!("{network}: {e}"))?);
        Ok(engine)
    }

    /// Takes this thread, and the programs that it starts, into the engine's network namespace.
    fn enter(&self) {
        if let Some(network) = &self.network {
            // SAFETY: changes the network namespace of this thread and nothing else; the descriptor is open.
            let entered = unsafe { libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(entered, 0, "cannot enter the engine's network: {}", std::io::Error::last_os_error());
        }
    }

    fn answers(&self) -> bool {
        self.command(&["version"]).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    }

    /// A command of the client.
    pub fn command(&self, args: &[&str]) -> Command {
        self.client("docker", args)
    }

    fn client(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        // Without the plugin for BuildKit the engine builds by itself.
        command.args(args).env("DOCKER_BUILDKIT", if self.buildx { "1" } else { "0" }).stdin(Stdio::null());
        command.envs(self.host.iter().map(|host| ("DOCKER_HOST", host)));
        command
    }

    /// The compose command, if one is installed.
    pub fn compose(&self) -> Option<Command> {
        let plugin = self.command(&["compose", "version"]).output().is_ok_and(|o| o.status.success());
        match plugin {
            true => Some(self.command(&["compose"])),
            false => exists("docker-compose").then(|| self.client("docker-compose", &[])),
        }
    }

    /// The output of a command of the client.
    pub fn try_docker(&self, args: &[&str]) -> Result<String, String> {
        let Output { status, stdout, stderr } = self.command(args).output().map_err(|e| e.to_string())?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
        match status.success() {
            true => Ok(text(stdout)),
            false => Err(format!("docker {}: {status}\n{}\n{}", args.join(" "), text(stdout), text(stderr))),
        }
    }

    /// The same for a command that has to succeed.
    pub fn docker(&self, args: &[&str]) -> String {
        self.try_docker(args).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The base from Debian's packages, and ipcd's image from the Dockerfile that users have.
    fn make_images(&self) {
        let tar = env::temp_dir().join(format!("ipc-base-{}.tar", std::process::id()));
        let accounts = "for f in passwd group; do cp \"$1\"/usr/share/base-passwd/$f.master \"$1\"/etc/$f; done";
        let made = Command::new("mmdebstrap")
            .args(["--quiet", "--variant=extract", &format!("--include={PACKAGES}")])
            .arg(format!("--extract-hook={accounts}"))
            .args(release())
            .arg(&tar)
            .status();
        assert!(made.expect("mmdebstrap").success(), "cannot make a root file system");
        self.docker(&["import", &tar.display().to_string(), BASE]);
        let _ = fs::remove_file(tar);
        self.build_ipcd();
    }

    /// Builds ipcd's image from the binaries under test.
    pub fn build_ipcd(&self) {
        let context = crate::daemon::PrivateDir::new();
        let release = context.path().join("target/release");
        fs::create_dir_all(&release).expect("a build context");
        for file in [artifacts::ipcd(), artifacts::libipc()] {
            fs::copy(&file, release.join(file.file_name().expect("a file"))).expect("a copy");
        }
        let dockerfile = root().join("docker/Dockerfile");
        fs::copy(dockerfile, context.path().join("Dockerfile")).expect("the Dockerfile");
        let base = format!("BASE={BASE}");
        self.docker(&["build", "-q", "-t", IPCD, "--build-arg", &base, &context.path().display().to_string()]);
    }

    /// A stand-in for an image of an application: the base, and more lines of a Dockerfile.
    pub fn build_application(&self, name: &str, lines: &str) -> String {
        let context = crate::daemon::PrivateDir::new();
        let image = format!("ipc-test/{name}");
        fs::write(context.path().join("Dockerfile"), format!("FROM {BASE}\n{lines}\n")).expect("a Dockerfile");
        self.docker(&["build", "-q", "-t", &image, &context.path().display().to_string()]);
        image
    }
}

fn buildx() -> bool {
    let mut command = Command::new("docker");
    command.args(["buildx", "version"]).output().is_ok_and(|o| o.status.success())
}

/// The release of Debian or Ubuntu that this machine has, so that programs built here run there, as mmdebstrap's
/// arguments.
fn release() -> Vec<String> {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim_matches('"').to_owned());
    let components = if value("ID=").as_deref() == Some("ubuntu") { "main,universe" } else { "main" };
    vec![format!("--components={components}"), value("VERSION_CODENAME=").unwrap_or("bookworm".into())]
}

/// Waits until this many streams to this port are final.
fn wait_final(server: u16, count: usize, ls: impl Fn() -> String) {
    let start = Instant::now();
    loop {
        let json = ls();
        let streams = streams::read(&serde_json::from_str(&json).expect("JSON"));
        let finals = streams.iter().filter(|s| s.server == server && s.is_final()).count();
        if finals >= count {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{finals} of {count} are final:\n{json}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// The options that mount this volume or directory at /run/ipcd in a container, and set the two variables.
fn shim(mounted: &str) -> Vec<String> {
    let volume = format!("-v={mounted}:/run/ipcd:ro");
    let variables = ["-e=LD_PRELOAD=/run/ipcd/libipc.so", "-e=IPCD_SOCKET=/run/ipcd/ipcd.sock"];
    [vec![volume], variables.map(String::from).to_vec()].concat()
}
