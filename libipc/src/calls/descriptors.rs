//! Descriptor numbers: closing and duplicating; the shim's own numbers are kept out of sight.

use core::sync::atomic::Ordering::*;

use libc::{FILE, c_int, c_uint};
use matcher::reason::Reason;

use crate::endpoint::{Id, numbers, sides};
use crate::fds::{self, Kind};
use crate::host::guard::{Errno, NoSignals, set_errno};
use crate::host::{confine, process, threads};
use crate::readiness::{moves, park};
use crate::switch::{Phase, drive, land};
use crate::symbols::real;
use crate::sys;

/// close_range(2): the calling thread gets a table of numbers of its own first.
const CLOSE_RANGE_UNSHARE: c_int = libc::CLOSE_RANGE_UNSHARE as c_int;

fn bad_descriptor() -> c_int {
    set_errno(libc::EBADF);
    -1
}

pub(crate) unsafe fn close(fd: c_int) -> c_int {
    if fds::kind(fd) != Kind::Other && process::is_announced() {
        if fds::kind(fd) == Kind::Hidden {
            return bad_descriptor();
        }
        let _errno = Errno::keep();
        if !confine::is_confined() {
            leaving(fd);
        }
        numbers::forget_ours(fd);
    }
    // SAFETY: the program's own call.
    unsafe { real::close()(fd) }
}

/// The program closes a number. If it is the endpoint's last one, the peer must see of the close what the kernel would
/// show.
fn leaving(fd: c_int) {
    let Some((id, kind)) = numbers::lookup(fd) else { return };
    let (e, l) = (id.endpoint(), id.local());
    // A call that began before the endpoint was settled goes on with the socket.
    let used = kind != Kind::Final && keep_for_calls(*id, fd);
    if kind == Kind::Stay && !l.lent.load(Relaxed) {
        return;
    }
    if used || l.fds.load(SeqCst) != 1 || e.handed.is_raised() || !id.holders().is_sole() {
        return;
    }
    let unix = &l.unix;
    let (tcp, unread) = match (kind, e.phase()) {
        // ipcd may still have a copy of the socket: the end of the stream must not wait for ipcd.
        (Kind::Active, Phase::Waiting) | (Kind::Stay, _) if l.lent.load(Relaxed) => {
            moves::withdraw(*id, fd);
            (fd, sys::unread(fd) > 0)
        }
        (Kind::Active, Phase::Dual) if unix.is_open() => {
            if e.sides() & sides::CONTROL != 0 {
                unix.discard_control();
            }
            (fd, unix.unread() > 0 || sys::unread(fd) > 0)
        }
        (Kind::Final, _) => (l.tcp.load(Acquire), sys::unread(fd) > 0),
        _ => return,
    };
    // Done before the new transport ends, so that a peer that sees this end can ask TCP how the stream ended.
    land::end_as_close_does(tcp, unread, kind != Kind::Final);
}

/// Lets calls that other threads have in progress go on with the socket, as they would in the kernel, and not with another
/// file that gets the number.
///
/// True if there are such calls.
fn keep_for_calls(id: Id, fd: c_int) -> bool {
    // This look-up is a user too, besides the numbers.
    if id.local().pins.users() <= id.local().fds.load(SeqCst) + 1 {
        return false;
    }
    let _no_signals = NoSignals::hold();
    let e = id.endpoint();
    let _locks = (e.lock_rx(), e.lock_tx());
    if id.local().tcp.load(Acquire) < 0
        && let Some(tcp) = fds::duplicate_hidden(fd)
    {
        id.local().tcp.store(tcp, SeqCst);
    }
    // A thread that sleeps on the number looks again, at the socket.
    park::kick(id);
    true
}

pub(crate) unsafe fn fclose(file: *mut FILE) -> c_int {
    if !file.is_null() {
        let _errno = Errno::keep();
        // SAFETY: the program's stream.
        let fd = unsafe { libc::fileno(file) };
        if fds::is_endpoint(fd) && process::is_announced() {
            // SAFETY: as above. What is buffered goes out while the number is known.
            unsafe { libc::fflush(file) };
            leaving(fd);
            numbers::forget(fd);
        }
    }
    // SAFETY: the program's own call.
    unsafe { real::fclose()(file) }
}

pub(crate) unsafe fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    let unshares = flags & CLOSE_RANGE_UNSHARE != 0;
    if flags & !CLOSE_RANGE_UNSHARE != 0 || first > last || !process::is_announced() {
        // SAFETY: the program's own call; with CLOEXEC nothing is closed now, and the shim's own numbers have that flag; in
        // the child of a vfork there is nothing of the shim to protect.
        return unsafe { real::close_range()(first, last, flags) };
    }
    if unshares {
        super::process::threads_part();
    }
    // Other threads keep the numbers, if the calling one no longer shares them with the others.
    let is_ours_alone = !unshares || threads::has_one_thread();
    let mut from = first;
    for fd in fds::marked(first.min(i32::MAX as c_uint) as c_int, last.min(i32::MAX as c_uint) as c_int) {
        if fds::kind(fd) == Kind::Hidden {
            close_piece(from, fd as c_uint, flags);
            from = fd as c_uint + 1;
        } else if is_ours_alone {
            leaving(fd);
            numbers::forget(fd);
        }
    }
    match from > last {
        true => 0,
        // SAFETY: the program's own call, without the numbers it does not know of.
        false => unsafe { real::close_range()(from, last, flags) },
    }
}

fn close_piece(from: c_uint, end: c_uint, flags: c_int) {
    if from < end {
        sys::forward(libc::SYS_close_range, [from as usize, end as usize - 1, flags as usize, 0, 0, 0]);
    }
}

pub(crate) unsafe fn closefrom(first: c_int) {
    let _errno = Errno::keep();
    // SAFETY: closefrom(3) is this call.
    if unsafe { close_range(first.max(0) as c_uint, c_uint::MAX, 0) } != 0 {
        // SAFETY: the program's own call, on a kernel without close_range (before 5.9).
        unsafe { real::closefrom()(first) };
    }
}

/// Duplicates with `make`, so that no replacement of the descriptor comes between the copy and its entry.
fn duplicate(fd: c_int, make: impl FnOnce() -> c_int) -> c_int {
    if confine::is_confined() {
        let new = make();
        if new >= 0 && new != fd {
            numbers::forget(new);
            numbers::counted(fd).map(|id| numbers::bind(new, id, Kind::Counted));
        }
        return new;
    }
    let known = numbers::lookup(fd).filter(|_| process::is_announced());
    let Some((id, kind)) = known else {
        let new = make();
        if new >= 0 {
            numbers::forget(new);
        }
        return new;
    };
    let _no_signals = NoSignals::hold();
    let e = id.endpoint();
    let locks = (e.lock_rx(), e.lock_tx());
    let new = make();
    if new >= 0 && new != fd {
        // The kind that it has now, while no step can be taken, or had, if another thread has closed it meanwhile.
        let now = Some(fds::kind(fd)).filter(|_| fds::is_endpoint(fd));
        numbers::bind(new, *id, now.unwrap_or(kind));
    }
    drop(locks);
    if (0..=libc::STDERR_FILENO).contains(&new) && id.endpoint().phase() >= Phase::Adopting {
        super::stdio::takes(new);
    }
    new
}

pub(crate) unsafe fn dup(fd: c_int) -> c_int {
    // SAFETY: the program's own call.
    duplicate(fd, || unsafe { real::dup()(fd) })
}

/// A number that the program replaces is closed first.
fn replaces(old: c_int, new: c_int) -> bool {
    if fds::kind(new) == Kind::Other || !process::is_announced() {
        return true;
    }
    if fds::kind(new) == Kind::Hidden {
        return false;
    }
    if !confine::is_confined() && old != new && sys::fcntl(old, libc::F_GETFD, 0) >= 0 {
        leaving(new);
        numbers::forget(new);
    }
    true
}

pub(crate) unsafe fn dup2(old: c_int, new: c_int) -> c_int {
    if !replaces(old, new) {
        return bad_descriptor();
    }
    // SAFETY: the program's own call.
    duplicate(old, || unsafe { real::dup2()(old, new) })
}

pub(crate) unsafe fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
    if !replaces(old, new) {
        return bad_descriptor();
    }
    // SAFETY: the program's own call.
    duplicate(old, || unsafe { real::dup3()(old, new, flags) })
}

pub(crate) unsafe fn fcntl(fd: c_int, cmd: c_int, arg: usize) -> c_int {
    if matches!(cmd, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC) && fds::is_endpoint(fd) {
        // SAFETY: the program's own call.
        return duplicate(fd, || unsafe { real::fcntl()(fd, cmd, arg) });
    }
    // SAFETY: the program's own call.
    let r = unsafe { real::fcntl()(fd, cmd, arg) };
    if r == 0 && cmd == libc::F_SETFL && arg as c_int & libc::O_ASYNC != 0 {
        heed_signals(fd);
    }
    r
}

/// The program may have asked for signals just now, which only one socket can send with the number that the program knows.
pub(crate) fn heed_signals(fd: c_int) {
    let _errno = Errno::keep();
    let between = numbers::lookup(fd).filter(|(id, _)| id.endpoint().phase() == Phase::Dual);
    if let Some((id, Kind::Active)) = between.filter(|_| sys::status_flags(fd) & libc::O_ASYNC != 0) {
        drive::land(*id, Reason::SignalDriven);
    }
}

pub(crate) unsafe fn fcntl64(fd: c_int, cmd: c_int, arg: usize) -> c_int {
    // SAFETY: fcntl and fcntl64 differ only where off_t is not 64 bits wide.
    unsafe { fcntl(fd, cmd, arg) }
}
