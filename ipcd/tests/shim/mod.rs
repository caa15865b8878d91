//! A shim that speaks the protocol over real TCP sockets without being preloaded, and the daemon it speaks to.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use matcher::addr::{Addr, Tuple};
use matcher::wire::{Direction, Hash, NAME_LEN, Opened, Role, ToDaemon, ToShim, Transports, VERSION};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// Only what never comes takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Daemon {
    pub socket: PathBuf,
    child: Child,
    _dir: Option<tempfile::TempDir>,
}

impl Daemon {
    pub fn start(arguments: &[&str]) -> Daemon {
        Daemon::start_with(arguments, &[])
    }

    pub fn start_with(arguments: &[&str], env: &[(&str, &str)]) -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        let mut daemon = Daemon::start_at(&dir.path().join("ipcd.sock"), arguments, env);
        daemon._dir = Some(dir);
        daemon
    }

    pub fn start_at(socket: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Daemon {
        let mut command = ipcd();
        command.args(["serve", "--socket"]).arg(socket).args(arguments).envs(env.iter().copied());
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        let daemon = Daemon { socket: socket.to_owned(), child, _dir: None };
        daemon.wait_until(|d| d.cli(&["stats"]).status.success());
        daemon
    }

    pub fn wait_until(&self, done: impl Fn(&Daemon) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < until, "timed out");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn cli(&self, arguments: &[&str]) -> Output {
        ipcd().args(arguments).arg("--socket").arg(&self.socket).output().unwrap()
    }

    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.cli(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn stat(&self, name: &str) -> u64 {
        self.json(&["stats", "--json"])[name].as_u64().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&mut self, signal: rustix::process::Signal) -> Option<i32> {
        self.kill(signal);
        self.wait()
    }

    pub fn kill(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn ipcd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipcd"));
    for name in ["LD_PRELOAD", "IPCD_SOCKET", "IPCD_LIB", "IPCD_TEST_CRASH"] {
        command.env_remove(name);
    }
    command
}

/// One end of a TCP connection, and what a shim would say of it.
pub struct End {
    pub tcp: TcpStream,
    pub opened: Opened,
}

impl End {
    pub fn cookie(&self) -> u64 {
        self.opened.cookie
    }
}

pub fn now() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

pub fn end(tcp: TcpStream, role: Role, began: u64, token: u64) -> End {
    let cookie = rustix::net::sockopt::socket_cookie(&tcp).unwrap();
    let tuple = Tuple { local: Addr::from(tcp.local_addr().unwrap()), peer: Addr::from(tcp.peer_addr().unwrap()) };
    End { tcp, opened: Opened { cookie, token, role, tuple, began, opened: now() } }
}

/// A new connection: the end that connected, the end that accepted.
pub fn stream_to(listener: &TcpListener) -> (End, End) {
    let began = now();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let connected = end(tcp, Role::Connected, began, 1000);
    let accepted = end(listener.accept().unwrap().0, Role::Accepted, began, 2000);
    (connected, accepted)
}

pub fn stream() -> (End, End) {
    stream_to(&TcpListener::bind("127.0.0.1:0").unwrap())
}

pub struct Shim {
    pub socket: OwnedFd,
    pub page: Option<OwnedFd>,
    pub prefix_bytes: u32,
}

impl Shim {
    /// A connection on which nothing was said.
    pub fn silent(path: &Path) -> Shim {
        let kind = SocketType::SEQPACKET;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        let timeout = Some(PATIENCE);
        rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, timeout).unwrap();
        Shim { socket, page: None, prefix_bytes: 0 }
    }

    pub fn new(daemon: &Daemon, program: &str) -> Shim {
        let mut shim = Shim::silent(&daemon.socket);
        let mut name = [0; NAME_LEN];
        name[..program.len()].copy_from_slice(program.as_bytes());
        shim.say(ToDaemon::Hello { version: VERSION, name, transports: Transports::UNIX });
        let (Some(ToShim::Welcome(terms)), Some(page)) = shim.hear_with_fd() else { panic!("no welcome") };
        shim.prefix_bytes = terms.prefix_bytes;
        shim.page = Some(page);
        shim
    }

    pub fn say(&self, message: ToDaemon) {
        self.record(message.encode().as_bytes(), &[]).unwrap();
    }

    pub fn record(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(100))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(fds)));
        }
        rustix::net::sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)
    }

    pub fn open(&self, end: &End) {
        self.say(ToDaemon::Opened(end.opened));
    }

    pub fn offer(&self, end: &End, hashes: [Option<Hash>; 2], fd: BorrowedFd<'_>) {
        let message = ToDaemon::Offer { opened: end.opened, hashes };
        self.record(message.encode().as_bytes(), &[fd]).unwrap();
    }

    /// One direction is known: the bytes that the connected end sent.
    pub fn prove(&self, end: &End) {
        let direction = if end.opened.role == Role::Connected { Direction::Sent } else { Direction::Received };
        self.offer(end, direction.alone([7; 32]), end.tcp.as_fd());
    }

    /// An end of the new transport that was granted, or what is said to be it.
    pub fn returns(&self, end: &End, transport: BorrowedFd<'_>) {
        self.record(ToDaemon::Returned { cookie: end.cookie() }.encode().as_bytes(), &[transport]).unwrap();
    }

    /// The next message, or nothing at the end of the conversation.
    pub fn hear_with_fd(&self) -> (Option<ToShim>, Option<OwnedFd>) {
        let mut buffer = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = rustix::net::recvmsg(&self.socket, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, flags);
        let received = match received {
            Err(rustix::io::Errno::CONNRESET) => return (None, None),
            received => received.expect("a message in time"),
        };
        let fd = ancillary.drain().find_map(|m| match m {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        if received.bytes == 0 { (None, fd) } else { (Some(ToShim::decode(&buffer[..received.bytes]).unwrap()), fd) }
    }

    pub fn hear(&self) -> Option<ToShim> {
        self.hear_with_fd().0
    }

    /// The grant of an endpoint.
    pub fn granted(&self, end: &End) -> OwnedFd {
        let (message, fd) = self.hear_with_fd();
        assert_eq!(message, Some(ToShim::Grant { cookie: end.cookie(), token: end.opened.token }));
        fd.unwrap()
    }

    /// Whether ipcd has hung up, after whatever it said before.
    pub fn is_dropped(&self) -> bool {
        while self.hear().is_some() {}
        true
    }

    /// How many records the page says were sent.
    pub fn counted(&self) -> u32 {
        let mut count = [0; 4];
        rustix::io::pread(self.page.as_ref().unwrap(), &mut count, 0).unwrap();
        u32::from_le_bytes(count)
    }
}

/// Whether nothing is there to be read.
pub fn quiet(fd: &impl AsFd) -> bool {
    let mut fds = [rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
    rustix::event::poll(&mut fds, Some(&timeout)).unwrap() == 0
}
