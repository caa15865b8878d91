//! The command line's side of a query.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use matcher::wire::{Query, ToDaemon, ToShim};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, socket};

use crate::serve::record;
use crate::serve::record::Received;

/// Asks the ipcd at this place, and gives its answer in JSON.
pub fn ask(path: &Path, query: Query, patience: Duration) -> io::Result<Vec<u8>> {
    let until = Instant::now() + patience;
    let socket = connect(path, until)?;
    record::send(&socket, ToDaemon::Query(query).encode().as_bytes(), None)?;
    let mut answer = None;
    loop {
        match record::receive(&socket, 1, |received| answer = Some(understand(received))) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(&socket, until)?,
            Err(error) => return Err(error),
        }
    }
    let (memfd, len) = answer.unwrap_or(Err(io::ErrorKind::UnexpectedEof.into()))?;
    read(memfd, len)
}

/// The descriptor and the length of an answer.
fn understand(received: Received<'_>) -> io::Result<(OwnedFd, u64)> {
    match received {
        Received::Record(bytes, memfd) => match (ToShim::decode(bytes), memfd) {
            (Ok(ToShim::Answer { len }), Some(memfd)) => Ok((memfd, len)),
            _ => Err(io::Error::other("it does not speak this version's protocol")),
        },
        _ => Err(io::Error::other("it closed the connection without an answer")),
    }
}

fn connect(path: &Path, until: Instant) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    let address = UnixAddr::new(path)?;
    loop {
        match nix::sys::socket::connect(socket.as_raw_fd(), &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::EAGAIN) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(error.into()),
        }
    }
}

fn wait(socket: &OwnedFd, until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(0) if Instant::now() >= until => Err(io::ErrorKind::TimedOut.into()),
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn read(memfd: OwnedFd, len: u64) -> io::Result<Vec<u8>> {
    let mut json = Vec::new();
    let mut file = File::from(memfd);
    file.rewind()?;
    file.take(len).read_to_end(&mut json)?;
    Ok(json)
}
