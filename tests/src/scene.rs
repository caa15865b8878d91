//! Ordinary programs, servers and clients, that must do the same with the shim at both ends, at one end, and without
//! ipcd.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::PrivateDir;
use crate::server::{self, Server};
use crate::streams::Stream;
use crate::{Daemon, Mode, PATIENCE, Program, natively, run};

/// Which ends are under the shim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setting {
    /// None.
    Native,
    /// Servers and clients.
    Both,
    /// Servers.
    OnlyServer,
    /// Clients.
    OnlyClient,
    /// Both ends, and no process answers at ipcd's path.
    NoIpcd,
}

/// The settings that are compared with the native one.
const SETTINGS: [Setting; 4] = [Setting::Both, Setting::OnlyServer, Setting::OnlyClient, Setting::NoIpcd];

/// How often the streams of a play may end before ipcd came to them, which depends on the machine. If ipcd never comes
/// in time, something is wrong.
const LATE: usize = 4;

/// The reasons of endpoints whose streams ended before they could move.
const OVER: [&str; 4] = ["closed", "unverified", "peer-declined", "no-peer"];

/// Runs a play in every setting, and compares the results that the play returns. In [`Setting::Both`] the play must
/// have asked for final streams: a test that passes on plain TCP proves nothing.
pub fn check(name: &str, play: impl Fn(&Scene) -> Vec<String>) {
    let play = |setting| {
        let mut late = 0;
        loop {
            let scene = Scene::new(name, setting);
            let start = Instant::now();
            let results = play(&scene);
            let was_late = scene.late.take();
            let count = scene.close();
            println!("{name}, {setting:?}: {count}, {:.1} s", start.elapsed().as_secs_f64());
            assert!(!results.is_empty(), "{name}: nothing to compare");
            let Some(why) = was_late else { return results };
            late += 1;
            println!("{name}, {setting:?}: {why}");
            assert!(late < LATE, "{name}, {setting:?}: {late} times {why}");
        }
    };
    let native = play(Setting::Native);
    for setting in SETTINGS {
        if let Err(text) = natively::compare(&native, &play(setting), || play(Setting::Native)) {
            panic!("{name}, {setting:?} differs from {} native runs:\n{text}", natively::RUNS);
        }
    }
}

/// One setting, with its daemon, a directory, and the servers that run.
pub struct Scene {
    name: String,
    setting: Setting,
    // Servers stop before the daemon does.
    servers: RefCell<Vec<Server>>,
    daemon: Daemon,
    dir: PrivateDir,
    asked: Cell<bool>,
    /// Too few streams moved, and all others ended too soon; the number that moved.
    late: Cell<Option<String>>,
}

impl Scene {
    fn new(name: &str, setting: Setting) -> Scene {
        let daemon = Daemon::eager();
        let dir = PrivateDir::new();
        // Servers that give up root must reach these directories, too.
        for place in [dir.path(), daemon.socket().parent().expect("a directory")] {
            fs::set_permissions(place, fs::Permissions::from_mode(0o755)).expect("our own directory");
        }
        Scene {
            name: name.into(),
            setting,
            servers: RefCell::default(),
            daemon,
            dir,
            asked: Cell::new(false),
            late: Cell::default(),
        }
    }

    fn server_mode(&self) -> Mode<'_> {
        match self.setting {
            Setting::Native | Setting::OnlyClient => Mode::Native,
            Setting::Both | Setting::OnlyServer => Mode::Shim(&self.daemon),
            Setting::NoIpcd => Mode::ShimNoDaemon,
        }
    }

    fn client_mode(&self) -> Mode<'_> {
        match self.setting {
            Setting::Native | Setting::OnlyServer => Mode::Native,
            Setting::Both | Setting::OnlyClient => Mode::Shim(&self.daemon),
            Setting::NoIpcd => Mode::ShimNoDaemon,
        }
    }

    /// A directory of its own, which every user may read.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A name in that directory.
    pub fn path(&self, name: &str) -> String {
        self.dir().join(name).display().to_string()
    }

    /// Makes a directory there.
    pub fn directory(&self, name: &str) -> String {
        fs::create_dir_all(self.dir().join(name)).expect("a directory");
        self.path(name)
    }

    /// Makes a directory there that every user may write to: servers give up root.
    pub fn open_directory(&self, name: &str) -> String {
        let path = self.directory(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("our own directory");
        path
    }

    /// Writes a file there.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path: PathBuf = self.dir().join(name);
        fs::create_dir_all(path.parent().expect("inside the directory")).expect("a directory");
        fs::write(&path, content).expect("a file");
        path.display().to_string()
    }

    /// Starts a server, and waits until it listens on all these ports.
    pub fn serve(&self, program: &Program, ports: &[u16]) {
        let mut servers = self.servers.borrow_mut();
        let log = self.dir().join(format!("server-{}.log", servers.len()));
        let mut server = Server::start(program, self.server_mode(), &log);
        ports.iter().for_each(|port| server.wait_for_port(*port));
        servers.push(server);
    }

    /// Runs a client to its end, and returns its output. Panics with a full report if it fails.
    pub fn run(&self, program: &Program) -> Vec<String> {
        self.run_in(program, self.client_mode())
    }

    /// Runs a command beside the play without the shim, to prepare something or to look at the results.
    pub fn prepare(&self, program: &Program) -> Vec<String> {
        self.run_in(program, Mode::Native)
    }

    fn run_in(&self, program: &Program, mode: Mode) -> Vec<String> {
        let outcome = run(program, mode, |_| Ok(()));
        if !outcome.passed() {
            let text = format!("{:?}\nstderr: {}\nstdout: {:#?}", outcome.status, outcome.stderr, outcome.lines);
            self.fail(&format!("{}\n{text}\n{}", program.by_hand(mode), outcome.hang));
        }
        outcome.lines
    }

    fn fail(&self, why: &str) -> ! {
        let servers: String = self.servers.borrow().iter().map(Server::describe).collect();
        let mut streams = self.daemon.ls().to_string();
        streams.truncate(streams.char_indices().nth(6000).map_or(streams.len(), |(at, _)| at));
        panic!(
            "{}, {:?}: {why}\n{servers}\nstreams: {streams}\nstats: {}",
            self.name,
            self.setting,
            self.daemon.stats()
        );
    }

    /// With the shim at both ends: checks that at least this many streams became final. With it at one end: checks that
    /// libipc was loaded, and that the clients' streams stayed (servers may have moved streams among themselves).
    pub fn expect_final(&self, least: usize) {
        self.asked.set(true);
        let end = Instant::now() + PATIENCE;
        // The reports of other streams may still be under way to ipcd.
        let mut over_since = Instant::now();
        loop {
            let finals = self.daemon.finals();
            let enough = match self.setting {
                Setting::Both => finals >= least && self.is_loaded(least),
                Setting::OnlyServer => self.is_loaded(least),
                Setting::OnlyClient => finals == 0 && self.is_loaded(least),
                Setting::Native | Setting::NoIpcd => finals == 0 && self.endpoints() == 0,
            };
            if enough {
                return;
            }
            if self.setting != Setting::Both || finals >= least || !self.all_were_over() {
                over_since = Instant::now();
            } else if over_since.elapsed() > Duration::from_secs(2) {
                return self
                    .late
                    .set(Some(format!("{finals} of {least} streams moved, the others were over too soon")));
            }
            if Instant::now() > end {
                self.fail(&format!("{finals} streams are final, expected {least}"));
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// Whether every stream has ended, and those that did not move stayed only because they ended. False for a play
    /// that sees no stream at all.
    fn all_were_over(&self) -> bool {
        let streams = self.daemon.streams();
        let over = |s: &Stream| s.ended && s.reasons.iter().all(|reason| OVER.contains(&reason.as_str()));
        !streams.is_empty() && streams.iter().all(|s| s.is_final() && s.ended || over(s))
    }

    /// Whether libipc was loaded. Where no stream is expected to move, it may be that none was ever reported.
    fn is_loaded(&self, least: usize) -> bool {
        self.endpoints() > 0 || least == 0 && self.counter("sessions_total") > 0
    }

    fn endpoints(&self) -> u64 {
        self.counter("endpoints_total")
    }

    fn counter(&self, name: &str) -> u64 {
        self.daemon.stats().get(name).and_then(Value::as_u64).expect("a counter")
    }

    /// Stops everything, and returns how many streams became final, and why endpoints stayed on TCP.
    fn close(self) -> String {
        assert!(self.asked.get(), "{}: the play never asked for final streams", self.name);
        let mut servers = self.servers.take();
        while let Some(mut server) = servers.pop() {
            server.stop().unwrap_or_else(|e| self.fail(&e));
        }
        let (stats, endpoints) = (self.daemon.stats(), self.endpoints());
        let listed = self.daemon.streams();
        let distinct: BTreeSet<_> = listed.iter().map(|s| (s.client, s.server)).collect();
        // The list ends after a thousand; an endpoint that a child takes over is counted again.
        let streams = if listed.len() < 1000 { distinct.len() as u64 } else { endpoints.div_ceil(2) };
        let words = |name: &str| stats.get(name).map_or("{}".into(), Value::to_string).replace(['{', '}', '"'], "");
        match self.setting {
            Setting::Both => format!(
                "{} of {streams} streams final; ends that stayed: {} {}",
                self.daemon.finals(),
                words("stayed"),
                words("refused"),
            ),
            _ => format!("{endpoints} endpoints"),
        }
    }
}

/// A port on which no process listens.
pub fn free_port() -> u16 {
    server::free_port()
}
