//! The command line's side of a query.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use matcher::wire::{MAX_MESSAGE, Query, ToDaemon, ToShim};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::serve::record;
use crate::serve::record::Received;

/// Asks the ipcd at this place, and gives its answer in JSON.
pub fn ask(path: &Path, query: Query, patience: Duration) -> io::Result<Vec<u8>> {
    let until = Instant::now() + patience;
    let socket = connect(path, until)?;
    record::send(&socket, ToDaemon::Query(query).encode().as_bytes(), None)?;
    let mut buffer = [0; MAX_MESSAGE + 1];
    loop {
        match record::receive(&socket, &mut buffer) {
            Ok(Received::Record(mut fds, len)) => match (ToShim::decode(&buffer[..len]), fds.pop()) {
                (Ok(ToShim::Answer { len }), Some(memfd)) => return read(memfd, len),
                _ => return Err(io::Error::other("it does not speak this version's protocol")),
            },
            Ok(_) => return Err(io::Error::other("it closed the connection without an answer")),
            Err(Errno::AGAIN) => wait(&socket, until)?,
            Err(error) => return Err(error.into()),
        }
    }
}

fn connect(path: &Path, until: Instant) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let address = SocketAddrUnix::new(path)?;
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::AGAIN) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(error.into()),
        }
    }
}

fn wait(socket: &OwnedFd, until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
        Ok(0) => Err(io::ErrorKind::TimedOut.into()),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn read(memfd: OwnedFd, len: u64) -> io::Result<Vec<u8>> {
    let mut json = Vec::new();
    let file = File::from(memfd);
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    file.take(len).read_to_end(&mut json)?;
    Ok(json)
}
