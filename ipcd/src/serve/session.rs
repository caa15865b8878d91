//! One client: its socket, and what waits to be sent to it.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use matcher::wire::{Terms, ToShim};
use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::kernel::closing;
use crate::serve::owner::Owner;
use crate::serve::page::Page;
use crate::serve::record;

/// The control socket, shared by the task that waits for it and the broker that reads and writes it.
pub struct Link {
    /// The socket.
    pub socket: OwnedFd,
    /// Wakes the task when something waits to be sent.
    pub waiting: Notify,
}

impl AsRawFd for Link {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Link {
    /// A link over this socket.
    pub fn new(socket: OwnedFd) -> Link {
        Link { socket, waiting: Notify::new() }
    }

    /// Registers the socket with the runtime.
    pub fn watch(self: &Rc<Link>) -> io::Result<AsyncFd<Rc<Link>>> {
        // SAFETY: the link owns its socket, never replaces it, and lives as long as the registration that holds it.
        unsafe { AsyncFd::register(Rc::clone(self)) }.map_err(io::Error::from)
    }

    /// Ends the conversation: the task that waits for the socket wakes up and finds the session gone.
    pub fn hang_up(&self) {
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }
}

/// What came of sending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// It is in the socket, or will be.
    Yes,
    /// The client does not read what it is sent.
    Slow,
    /// The client is gone.
    Gone,
    /// The kernel holds as many descriptors under way as this user may have (unix(7), ETOOMANYREFS).
    TooManyFds,
}

/// One client that said Hello.
pub struct Session {
    /// Its socket.
    pub link: Rc<Link>,
    /// Who it is.
    pub owner: Rc<Owner>,
    /// The endpoints that it claims.
    pub cookies: HashSet<u64>,
    page: Page,
    outbox: VecDeque<(ToShim, Option<OwnedFd>)>,
    closing: Arc<AtomicUsize>,
}

impl Session {
    /// A session that was not told anything yet.
    pub fn new(link: Rc<Link>, owner: Rc<Owner>, page: Page) -> Session {
        let (cookies, outbox, closing) = Default::default();
        Session { link, owner, cookies, page, outbox, closing }
    }

    /// The first record, with the page; it is not counted.
    pub fn welcome(&self, terms: Terms) -> Sent {
        let record = ToShim::Welcome(terms).encode();
        outcome(record::send(&self.link.socket, record.as_bytes(), Some(self.page.as_fd())))
    }

    /// Sends a message, or lets it wait behind those that wait already, up to a limit.
    pub fn send(&mut self, message: ToShim, mut fd: Option<OwnedFd>, limit: usize) -> Sent {
        if self.outbox.is_empty() {
            match self.put(message, &mut fd) {
                Sent::Slow => {}
                sent => return sent,
            }
        }
        if self.outbox.len() >= limit {
            return Sent::Slow;
        }
        self.outbox.push_back((message, fd));
        self.link.waiting.notify_one();
        Sent::Yes
    }

    /// Sends what waits, as far as the socket takes it.
    pub fn flush(&mut self) -> Sent {
        while let Some((message, mut fd)) = self.outbox.pop_front() {
            match self.put(message, &mut fd) {
                // Without its grant the client stays on TCP, and its peer sees the transport end.
                Sent::Yes | Sent::TooManyFds => {}
                Sent::Gone => return Sent::Gone,
                Sent::Slow => {
                    self.outbox.push_front((message, fd));
                    break;
                }
            }
        }
        Sent::Yes
    }

    /// Whether something waits to be sent.
    pub fn waits(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// A descriptor that was sent is closed here before the client can know of it: an end of a new transport that has been
    /// taken up is nobody's but the client's, so that its closing is seen at once, whatever ipcd does.
    fn put(&self, message: ToShim, fd: &mut Option<OwnedFd>) -> Sent {
        let carried = fd.as_ref().map(AsFd::as_fd);
        let sent = outcome(record::send(&self.link.socket, message.encode().as_bytes(), carried));
        if sent == Sent::Yes {
            drop(fd.take());
            self.page.sent();
        }
        sent
    }

    /// Closes descriptors that the client passed. Closing can wait for as long as who made the descriptor likes
    /// (SO_LINGER, a FUSE file), so it happens on a thread of its own. False if this client has too many under way.
    pub fn bury(&self, mut fds: Vec<OwnedFd>, limit: usize) -> bool {
        fds.retain(|fd| !closing::closes_at_once(fd));
        if fds.is_empty() {
            return true;
        }
        let closing = Arc::clone(&self.closing);
        let under_way = closing.fetch_add(1, Ordering::Relaxed);
        closing::bury(fds, move || {
            closing.fetch_sub(1, Ordering::Relaxed);
        });
        under_way < limit
    }
}

fn outcome(result: nix::Result<()>) -> Sent {
    match result {
        Ok(()) => Sent::Yes,
        Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) => Sent::Slow,
        Err(Errno::ETOOMANYREFS) => Sent::TooManyFds,
        Err(_) => Sent::Gone,
    }
}
