//! A shim that speaks the protocol over real TCP sockets without being preloaded, and the daemon it speaks to.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{IoSlice, IoSliceMut};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use matcher::addr::{Addr, Tuple};
use matcher::wire::{Direction, Hash, NAME_LEN, Opened, Role, ToDaemon, ToShim, Transports, VERSION};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect, recvmsg,
    sendmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;

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

    pub fn signal(&mut self, signal: Signal) -> Option<i32> {
        self.kill(signal);
        self.wait()
    }

    pub fn kill(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
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
    let since = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    Duration::from(since).as_nanos() as u64
}

/// The number that names a socket (SO_COOKIE).
pub fn cookie(socket: &impl AsRawFd) -> u64 {
    let (mut cookie, mut len) = (0u64, size_of::<u64>() as libc::socklen_t);
    let at = (&raw mut cookie).cast();
    // SAFETY: the value is as long as is said, and outlives the call.
    let done = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_COOKIE, at, &raw mut len) };
    assert_eq!(done, 0);
    cookie
}

/// Lets the closing of a socket wait until what was written has arrived.
pub fn linger(socket: &impl AsFd, seconds: i32) {
    setsockopt(socket, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: seconds }).unwrap();
}

pub fn end(tcp: TcpStream, role: Role, began: u64, token: u64) -> End {
    let cookie = cookie(&tcp);
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
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        connect(socket.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
        let timeout = TimeVal::new(PATIENCE.as_secs() as i64, 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &timeout).unwrap();
        Shim { socket, page: None, prefix_bytes: 0 }
    }

    pub fn new(daemon: &Daemon, program: &str) -> Shim {
        Shim::knowing(daemon, program, Transports::UNIX)
    }

    /// The same of another version, that can move connections to these transports.
    pub fn knowing(daemon: &Daemon, program: &str, transports: Transports) -> Shim {
        let mut shim = Shim::silent(&daemon.socket);
        let mut name = [0; NAME_LEN];
        name[..program.len()].copy_from_slice(program.as_bytes());
        shim.say(ToDaemon::Hello { version: VERSION, name, transports });
        let (Some(ToShim::Welcome(terms)), Some(page)) = shim.hear_with_fd() else { panic!("no welcome") };
        shim.prefix_bytes = terms.prefix_bytes;
        shim.page = Some(page);
        shim
    }

    pub fn say(&self, message: ToDaemon) {
        self.record(message.encode().as_bytes(), &[]).unwrap();
    }

    pub fn record(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> nix::Result<usize> {
        let fds: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
        sendmsg::<()>(self.socket.as_raw_fd(), &[IoSlice::new(bytes)], rights, MsgFlags::MSG_NOSIGNAL, None)
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
        let mut space = nix::cmsg_space!([i32; 1]);
        let (mut parts, flags) = ([IoSliceMut::new(&mut buffer)], MsgFlags::MSG_CMSG_CLOEXEC);
        let received = recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), flags);
        let received = match received {
            Err(Errno::ECONNRESET) => return (None, None),
            received => received.expect("a message in time"),
        };
        let fd = received.cmsgs().unwrap().find_map(|m| match m {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        // SAFETY: the kernel has made this descriptor for us; nobody else has it.
        let fd = fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        let len = received.bytes;
        if len == 0 { (None, fd) } else { (Some(ToShim::decode(&buffer[..len]).unwrap()), fd) }
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
        nix::sys::uio::pread(self.page.as_ref().unwrap(), &mut count, 0).unwrap();
        u32::from_le_bytes(count)
    }
}

/// Whether nothing is there to be read.
pub fn quiet(fd: &impl AsFd) -> bool {
    poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], 200u8).unwrap() == 0
}
