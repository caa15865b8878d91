//! Which of the program's numbers belong to which endpoint.

use core::sync::atomic::Ordering::*;

use libc::c_int;

use super::table::{Id, Pinned};
use crate::fds::{self, FD_SLOTS, Kind, Word};
use crate::host::guard::errno;
use crate::host::process;
use crate::readiness::registrations;
use crate::switch::Phase;
use crate::sys;

fn at(word: Word) -> Id {
    Id { index: word.index() }
}

fn word(id: Id, kind: Kind) -> Word {
    Word::of_endpoint(id.index, id.generation(), kind)
}

/// The endpoint of a number that is only counted.
pub(crate) fn counted(fd: c_int) -> Option<Id> {
    Some(fds::word(fd)).filter(|word| word.kind() == Kind::Counted).map(at)
}

/// The endpoint of an active number, not pinned: the entry may be another endpoint by the time that the caller uses it.
pub(crate) fn hint(fd: c_int) -> Option<Id> {
    Some(fds::word(fd)).filter(|word| word.kind() == Kind::Active).map(at)
}

/// The endpoint behind a descriptor, pinned, and what the descriptor is at the moment.
pub(crate) fn lookup(fd: c_int) -> Option<(Pinned, Kind)> {
    loop {
        let found = fds::word(fd);
        let kind = found.kind();
        match kind {
            Kind::Stay | Kind::Final | Kind::Active => {}
            Kind::Busy => {
                sys::yield_now();
                continue;
            }
            _ => return None,
        }
        let Some(pinned) = at(found).pin() else {
            if fds::word(fd) == found {
                // The endpoint ended while its number was closed by another thread.
                return None;
            }
            continue;
        };
        if fds::word(fd) != found {
            continue;
        }
        if kind == Kind::Active && pinned.endpoint().phase() == Phase::Stay {
            // Another process of the family has taken the step to Stay, and changed its own table of numbers alone.
            fds::change(fd, found, word(*pinned, Kind::Stay));
            return Some((pinned, Kind::Stay));
        }
        return Some((pinned, kind));
    }
}

/// Puts a new descriptor number of the endpoint into the table. The number has a pin of its own, so that the endpoint
/// lasts as long as any number does; the caller has another pin.
pub(crate) fn bind(fd: c_int, id: Id, kind: Kind) -> bool {
    if !(0..FD_SLOTS as c_int).contains(&fd) {
        return false;
    }
    let l = id.local();
    l.pins.pin();
    l.fds.fetch_add(1, SeqCst);
    l.fd.store(fd, SeqCst);
    fds::put(fd, word(id, kind))
}

/// Puts a number into the table that no call may use before [`publish`] says what it is.
pub(crate) fn bind_reserved(fd: c_int, id: Id) -> bool {
    bind(fd, id, Kind::Busy)
}

/// Takes a number out of the table, because the program closes it or the kernel has handed it out anew. If it was the
/// endpoint's last in this process, the endpoint is released.
pub(crate) fn forget(fd: c_int) {
    if fds::word(fd) != Word::NONE && process::is_announced() {
        forget_ours(fd);
    }
}

/// The same where it is known that the tables are this process's own.
pub(crate) fn forget_ours(fd: c_int) {
    let gone = fds::take(fd);
    match gone.kind() {
        Kind::Stay | Kind::Final | Kind::Active | Kind::Counted => drop_number(at(gone)),
        Kind::Epoll => registrations::instance_closed(fd),
        _ => {}
    }
}

fn drop_number(id: Id) {
    id.local().fds.fetch_sub(1, SeqCst);
    id.unpin();
}

/// Every number of the program that is this endpoint.
pub(crate) fn numbers_of(id: Id) -> impl Iterator<Item = c_int> {
    let l = id.local();
    let single = l.fds.load(SeqCst) == 1;
    let first = l.fd.load(SeqCst);
    let known = single && first >= 0 && is_number_of(first, id);
    let range = if known { first..first + 1 } else { 0..fds::used() };
    range.filter(move |fd| is_number_of(*fd, id))
}

pub(crate) fn is_number_of(fd: c_int, id: Id) -> bool {
    fds::word(fd).is_same_endpoint(word(id, Kind::Other)) && fds::is_endpoint(fd)
}

/// Whether the endpoint has one of the three numbers that the program uses as `stdin`, `stdout` and `stderr`.
pub(crate) fn is_standard(id: Id) -> bool {
    numbers_of(id).any(|fd| fd <= libc::STDERR_FILENO)
}

/// Turns every number of the endpoint that is of the kind `from` into one of the kind `to`.
pub(crate) fn turn(id: Id, from: Kind, to: Kind) {
    for fd in numbers_of(id) {
        fds::change(fd, word(id, from), word(id, to));
    }
}

/// Reserves a number of the endpoint for replacement, so that no close of it can come between; false if it is not an
/// active number of the endpoint any more.
pub(crate) fn reserve(fd: c_int, id: Id) -> bool {
    fds::change(fd, word(id, Kind::Active), word(id, Kind::Busy))
}

/// Ends a reservation.
pub(crate) fn publish(fd: c_int, id: Id, kind: Kind) {
    fds::put(fd, word(id, kind));
}

/// Whether a call on the number may go to the endpoint. If the endpoint has a hidden TCP socket, only if the number is
/// still the endpoint's socket. If it has none, the call goes to the number itself, whatever file that is by now.
#[cold]
pub(crate) fn is_callable(fd: c_int) -> bool {
    hint(fd).is_some_and(|id| id.local().tcp.load(Acquire) < 0) || still_socket(fd)
}

/// Notes that the program writes to a number that is the new socket, or gives it to a program that may. The endpoint is not
/// pinned: at worst this notes it for a new endpoint in the same memory, and a reset of that one is believed.
#[inline]
pub(crate) fn note_written(fd: c_int) {
    let found = fds::word(fd);
    if found.kind() == Kind::Final {
        at(found).endpoint().wrote.raise();
    }
}

/// Whether an active number is still the endpoint's socket. If the number was closed past the hooks (fclose, a raw system
/// call) and is another file by now, the entry is forgotten.
#[cold]
pub(crate) fn still_socket(fd: c_int) -> bool {
    let Some((id, kind)) = lookup(fd) else { return false };
    if kind != Kind::Active {
        return true;
    }
    let birth = id.endpoint().phase() > Phase::Connecting;
    match sys::getsockopt::<u64>(fd, libc::SOL_SOCKET, libc::SO_COOKIE) {
        Ok(cookie) if !birth || cookie == id.endpoint().birth().cookie => true,
        // Another thread has replaced the number by the new socket since.
        Ok(_) if id.endpoint().phase() == Phase::Final => true,
        _ => {
            forget_exact(fd, word(*id, Kind::Active));
            false
        }
    }
}

/// Whether a call on an endpoint failed because its number is no socket any more (closed past the hooks).
pub(crate) fn is_no_socket(fd: c_int, r: isize) -> bool {
    r == -1 && errno() == libc::ENOTSOCK && !still_socket(fd)
}

/// Whether a final number is still the endpoint's new socket. If not, its entry is forgotten.
pub(crate) fn still_final(fd: c_int, id: Id) -> bool {
    let is = is_final_now(fd, id);
    if !is {
        forget_exact(fd, word(id, Kind::Final));
    }
    is
}

/// The same, without forgetting.
pub(crate) fn is_final_now(fd: c_int, id: Id) -> bool {
    let cookie = sys::getsockopt::<u64>(fd, libc::SOL_SOCKET, libc::SO_COOKIE);
    cookie == Ok(id.local().unix_cookie.load(Relaxed))
}

/// Forgets a number only if its entry is still `known`: another thread may have changed it meanwhile.
fn forget_exact(fd: c_int, known: Word) {
    if process::is_announced() && fds::change(fd, known, Word::NONE) {
        drop_number(at(known));
    }
}
