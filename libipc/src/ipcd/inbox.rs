//! What ipcd says, and what comes of it.

use core::sync::atomic::Ordering::*;

use libc::c_int;
use matcher::reason::Reason;
use matcher::wire::ToShim;

use super::{link, report};
use crate::endpoint::{Birth, Id};
use crate::switch::Phase;
use crate::switch::stay::stay;
use crate::{fds, sys};

/// Takes what ipcd has sent. Costs two loads if that is nothing.
pub(crate) fn collect() {
    link::collect(heard);
}

/// False if ipcd has no business to say it.
fn heard(message: ToShim, fd: Option<c_int>) -> bool {
    match (message, fd) {
        (ToShim::Grant { cookie, token }, Some(fd)) => granted(cookie, token, fd),
        (ToShim::Passed { token, cookie, role, began }, Some(fd)) => {
            passed(token, Birth { cookie, role, at: began }, fd);
        }
        (ToShim::Refuse { cookie, token, reason }, None) => refused(cookie, token, reason),
        (_, fd) => {
            fd.map(sys::close);
            return false;
        }
    }
    true
}

fn granted(cookie: u64, token: u64, fd: c_int) {
    let Some(id) = Id::from_token(token) else {
        // A child may have it, which ipcd knows.
        report::returned(cookie, fd);
        sys::close(fd);
        return;
    };
    let e = id.endpoint();
    id.local().lent.store(false, Relaxed);
    if e.birth().cookie != cookie || e.phase() != Phase::Waiting {
        sys::close(fd);
        return;
    }
    match fds::hide(fd) {
        Some(hidden) => id.local().grant.keep(hidden),
        None => drop(stay(*id, Reason::NoDescriptors)),
    }
}

/// A descriptor that the program has received is the new socket of a stream that another process has moved; here is its TCP
/// socket.
fn passed(token: u64, birth: Birth, tcp: c_int) {
    let hidden = Id::from_token(token).and_then(|id| Some((id, fds::hide(tcp)?)));
    match hidden {
        Some((id, tcp)) if id.receive(birth, tcp) => id.local().claimed.store(link::connection(), Relaxed),
        Some((_, tcp)) => fds::close_hidden(tcp),
        None => {}
    }
}

fn refused(cookie: u64, token: u64, reason: Reason) {
    // Of what was received from another process nothing is known yet.
    if let Some(id) = Id::from_token(token)
        && (id.endpoint().phase() == Phase::Connecting || id.endpoint().birth().cookie == cookie)
    {
        id.local().lent.store(false, Relaxed);
        stay(*id, reason);
    }
}
