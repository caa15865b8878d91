//! Accepts clients, waits for their records, and lets time pass. One thread does all of it, so that whatever was sent
//! before a pair is decided can be read before it is decided.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use matcher::wire::{ErrorCode, Query, ToDaemon, ToShim, Transports};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::broker::{Broker, refuse_client};
use crate::config::Config;
use crate::kernel;
use crate::kernel::closing;
use crate::kernel::proof::Proof;
use crate::kernel::verify::Verifier;
use crate::serve::owner::{Owner, SessionId};
use crate::serve::place::Place;
use crate::serve::record::Received;
use crate::serve::session::Link;
use crate::serve::{record, session};
use crate::view::report;

/// Records that one client may have read before another has its turn.
const TURN: usize = 64;
/// Records that are read from one client before a decision: more than its socket holds.
const SWEEP: usize = 4096;

/// What all tasks share.
struct Server {
    broker: RefCell<Broker>,
    links: RefCell<std::collections::HashMap<SessionId, Rc<Link>>>,
    next_id: std::cell::Cell<SessionId>,
    deadline: Notify,
}

/// What a look at a client's socket found.
#[derive(PartialEq, Eq)]
enum Pump {
    Empty,
    More,
    Over,
}

/// Serves until a signal asks to end.
pub async fn serve(place: Place, config: Config, proof: Option<Proof>) -> io::Result<()> {
    let server = Rc::new(Server {
        broker: RefCell::new(Broker::new(config, Verifier::new(proof))),
        links: RefCell::default(),
        next_id: std::cell::Cell::new(1),
        deadline: Notify::new(),
    });
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let listener = Rc::new(Link::new(place.listener.try_clone()?)).watch()?;
    tokio::select! {
        result = accept(&server, &listener) => result,
        () = clock(&server) => Ok(()),
        _ = term.recv() => { info!("SIGTERM"); Ok(()) }
        _ = tokio::signal::ctrl_c() => { info!("SIGINT"); Ok(()) }
    }
}

async fn accept(server: &Rc<Server>, listener: &AsyncFd<Rc<Link>>) -> io::Result<()> {
    loop {
        let mut ready = listener.readable().await?;
        match kernel::accept(listener.get_ref().socket.as_fd()) {
            Ok(socket) => {
                let id = server.next_id.replace(server.next_id.get() + 1);
                tokio::task::spawn_local(converse(Rc::clone(server), id, socket));
            }
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(Errno::EINTR | Errno::ECONNABORTED) => {}
            Err(error) => {
                // Out of descriptors or memory: those who wait are served when somebody leaves.
                warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// One client, from its first record to its end.
async fn converse(server: Rc<Server>, id: SessionId, socket: OwnedFd) {
    let link = Rc::new(Link::new(socket));
    let Ok(ready) = link.watch() else { return };
    let greeted = tokio::time::timeout(Duration::from_secs(10), greet(&server, id, &ready)).await;
    if greeted != Ok(true) {
        return;
    }
    server.links.borrow_mut().insert(id, Rc::clone(&link));
    while let Some(waits) = server.waits(id) {
        let interest = if waits { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        let mut guard = tokio::select! {
            guard = ready.ready(interest) => match guard { Ok(guard) => guard, Err(_) => break },
            () = link.waiting.notified() => continue,
        };
        if guard.ready().is_writable() && waits {
            server.broker.borrow_mut().flush(id);
            if server.waits(id) == Some(true) {
                guard.clear_ready_matching(tokio::io::Ready::WRITABLE);
            }
        }
        if guard.ready().is_readable() || guard.ready().is_read_closed() {
            match server.pump(id, &link, TURN) {
                Pump::Empty => guard.clear_ready_matching(tokio::io::Ready::READABLE),
                Pump::More => tokio::task::yield_now().await,
                Pump::Over => break,
            }
        }
    }
    server.links.borrow_mut().remove(&id);
    server.broker.borrow_mut().leave(id);
    server.rearm();
}

/// The first record. True if the client said Hello and was welcome; a Query is answered here.
async fn greet(server: &Server, id: SessionId, ready: &AsyncFd<Rc<Link>>) -> bool {
    let link = ready.get_ref();
    loop {
        let Ok(mut guard) = ready.readable().await else { return false };
        let mut first = None;
        let result = record::receive(&link.socket, 1, |received| {
            first = match received {
                Received::Record(bytes, fd) => Some((Vec::from_iter(fd), ToDaemon::decode(bytes).ok())),
                Received::Oversized(fds) => Some((fds, None)),
                Received::End => None,
            }
        });
        match result {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                guard.clear_ready();
                continue;
            }
            Err(_) => return false,
        }
        let Some((fds, message)) = first else { return false };
        let unexpected = !fds.is_empty();
        closing::bury(fds, || {});
        let code = match message {
            Some(ToDaemon::Hello { version, name, transports }) if !unexpected => {
                let owner = owner(link, &name, transports);
                return server.broker.borrow_mut().hello(id, link, owner, version);
            }
            Some(ToDaemon::Query(query)) if !unexpected => {
                answer(server, link, query).await;
                continue;
            }
            Some(_) => ErrorCode::Unexpected,
            _ => ErrorCode::Malformed,
        };
        server.broker.borrow_mut().metrics.malformed += 1;
        refuse_client(link, code);
        return false;
    }
}

impl Server {
    /// Whether something waits to be sent to a client, or nothing if it is gone.
    fn waits(&self, id: SessionId) -> Option<bool> {
        self.broker.borrow().sessions.get(&id).map(session::Session::waits)
    }

    /// Reads and handles what a client has sent, up to a number of records.
    fn pump(&self, id: SessionId, link: &Link, limit: usize) -> Pump {
        let mut broker = self.broker.borrow_mut();
        let mut found = Pump::More;
        for _ in 0..limit {
            if !broker.sessions.contains_key(&id) {
                found = Pump::Over;
                break;
            }
            let result = record::receive(&link.socket, 1, |received| match received {
                Received::Record(bytes, fd) => match ToDaemon::decode(bytes) {
                    Ok(message) => broker.message(id, &message, Vec::from_iter(fd)),
                    Err(_) => {
                        closing::bury(Vec::from_iter(fd), || {});
                        broker.malformed(id, ErrorCode::Malformed);
                    }
                },
                Received::Oversized(fds) => {
                    closing::bury(fds, || {});
                    broker.malformed(id, ErrorCode::Malformed);
                }
                Received::End => found = Pump::Over,
            });
            match result {
                Ok(_) if found == Pump::Over => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    found = Pump::Empty;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    found = Pump::Over;
                    break;
                }
            }
        }
        drop(broker);
        self.rearm();
        found
    }

    /// Tells the clock that the next deadline may have changed.
    fn rearm(&self) {
        if self.broker.borrow().next_deadline().is_some() {
            self.deadline.notify_one();
        }
    }

    /// Reads everything that was sent before now. A process reports an endpoint before the first byte goes through
    /// it, so when the bytes of a pair are known, the report of anybody else who could have sent them is in one of
    /// these sockets at the latest.
    fn sweep(&self) {
        let links: Vec<_> = self.links.borrow().iter().map(|(id, link)| (*id, Rc::clone(link))).collect();
        for (id, link) in links {
            // The client's own task notices when it is over.
            self.pump(id, &link, SWEEP);
        }
    }
}

/// Ticks when the matcher wants it.
async fn clock(server: &Server) {
    loop {
        let deadline = server.broker.borrow().next_deadline();
        match deadline.map(|at| at.saturating_sub(kernel::now())) {
            None => server.deadline.notified().await,
            Some(0) => {
                if server.broker.borrow().settles() {
                    server.sweep();
                }
                server.broker.borrow_mut().tick();
                tokio::task::yield_now().await;
            }
            Some(wait) => {
                let wait = Duration::from_nanos(wait);
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = server.deadline.notified() => {}
                }
            }
        }
    }
}

/// Answers a query with a memfd. What it says is noted at once and written by another thread.
async fn answer(server: &Server, link: &Link, query: Query) {
    let json = match query {
        Query::List => {
            let rows = report::rows(&server.broker.borrow());
            tokio::task::spawn_blocking(move || serde_json::to_vec(&rows)).await
        }
        Query::Stats => Ok(serde_json::to_vec(&report::stats(&server.broker.borrow()))),
    };
    let Ok(Ok(json)) = json else { return };
    let sent = tokio::task::spawn_blocking(move || -> io::Result<(u64, OwnedFd)> {
        let memfd = memfd_create("ipcd-answer", MFdFlags::MFD_CLOEXEC)?;
        let mut file = std::fs::File::from(memfd);
        io::Write::write_all(&mut file, &json)?;
        Ok((json.len() as u64, file.into()))
    });
    if let Ok(Ok((len, memfd))) = sent.await {
        let _ = record::send(&link.socket, ToShim::Answer { len }.encode().as_bytes(), Some(memfd.as_fd()));
    }
}

/// Who a client is: the kernel names process and user, the client its program.
fn owner(link: &Link, name: &[u8], transports: Transports) -> Owner {
    let mut credentials = [0; 12];
    let _ = kernel::option(link.socket.as_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, &mut credentials);
    let at = |i: usize| i32::from_ne_bytes([0, 1, 2, 3].map(|j| credentials[i + j]));
    let (pid, uid) = (at(0), at(4).cast_unsigned());
    let name = name.split(|b| *b == 0).next().unwrap_or_default();
    let clean = |s: &str| s.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
    let program = match String::from_utf8_lossy(name) {
        name if !name.is_empty() => clean(&name),
        _ => clean(std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim()),
    };
    Owner { program, pid, uid, transports }
}
