//! Socket options and ioctl. Before the move they reach TCP by themselves; after it TCP still answers, and options that act
//! on the data path are set on both sockets. [`settings`](crate::transport::settings) says what is done with which option.

use core::sync::atomic::Ordering::*;

use libc::{c_int, c_void, socklen_t};
use matcher::reason::Reason;

use super::connect::asked;
use crate::endpoint::{Id, numbers, tcp_fd};
use crate::fds::{self, Kind};
use crate::host::guard::{Errno, NoSignals, set_errno};
use crate::stream::ending::is_news;
use crate::switch::stay::stay;
use crate::switch::{Phase, open};
use crate::symbols::real;
use crate::sys;
use crate::transport::ancillary;
use crate::transport::settings::{After, Before, Usual, Value, class, is_usual, make_room};

pub(crate) mod ioctl;

/// getsockopt(2) with this option takes bytes from TCP's queue.
const TCP_ZEROCOPY_RECEIVE: c_int = 35;
const SO_PEEK_OFF: c_int = 42;
pub(crate) unsafe fn setsockopt(fd: c_int, level: c_int, number: c_int, value: *const c_void, len: socklen_t) -> c_int {
    // SAFETY: the program's own arguments.
    let set = |fd| unsafe { real::setsockopt()(fd, level, number, value, len) };
    let (id, tcp) = match numbers::lookup(fd) {
        Some((id, Kind::Active)) => {
            let tcp = tcp_fd(*id, fd);
            (id, tcp)
        }
        Some((id, Kind::Final)) if asked(fd) != fd => {
            let tcp = asked(fd);
            (id, tcp)
        }
        _ => return set(fd),
    };
    let (before, after) = class(level, number);
    let r = match before {
        Before::Moves => set(tcp),
        Before::Stays(usual) => set_on_tcp_only(*id, tcp, (level, number), (usual, after), set),
    };
    if r == 0 {
        let _errno = Errno::keep();
        if ancillary::is_about(level, number) {
            ancillary::note(*id, tcp);
        }
        follow(*id, fd, tcp, after, set);
    }
    r
}

/// Sets an option that a connection cannot move with. After the promise it is too late: the option is refused if the new
/// socket has nothing like it. TCP is asked first, because it may have an error of its own.
fn set_on_tcp_only(
    id: Id,
    tcp: c_int,
    (level, number): (c_int, c_int),
    (usual, after): (Usual, After),
    set: impl Fn(c_int) -> c_int,
) -> c_int {
    let phase = id.endpoint().phase();
    let promised = matches!(phase, Phase::Adopting | Phase::Dual | Phase::Final);
    if let (After::Refused(error), Usual::NoName, true) = (after, usual, promised) {
        // Once this option is set on TCP, there is no way to take it back.
        set_errno(error);
        return -1;
    }
    let old = Value::get(tcp, level, number);
    let r = set(tcp);
    if r != 0 || is_usual(tcp, level, number, usual) {
        return r;
    }
    // Not connected yet: the program may change the option once more, and it is looked at when the grant is taken up.
    let later = phase == Phase::Connecting && usual != Usual::Untold;
    if later || stay(id, Reason::Option) {
        return r;
    }
    let After::Refused(error) = after else { return r };
    match old {
        _ if usual == Usual::NoFilter => drop(sys::setsockopt(tcp, level, libc::SO_DETACH_FILTER, &0)),
        Ok(old) => old.set(tcp, level, number),
        Err(_) => {}
    }
    set_errno(error);
    -1
}

/// An option has been set on the TCP socket: sets it on the new socket, too, if there is one by now and the option acts
/// there.
fn follow(id: Id, fd: c_int, tcp: c_int, after: After, set: impl Fn(c_int) -> c_int) {
    let (e, l) = (id.endpoint(), id.local());
    if tcp == fd && fds::kind(fd) == Kind::Final {
        // The descriptor has been replaced meanwhile, so the option was set on the new socket.
        set(l.tcp.load(Acquire));
    }
    if matches!(after, After::Tcp | After::Refused(_)) || e.phase() < Phase::Adopting {
        return;
    }
    // Under the lock no step of the move comes between; a step before it has carried over what was set until then.
    let _no_signals = NoSignals::hold();
    let Some(_tx) = e.lock_tx() else { return };
    let act = |new| match after {
        After::Room => make_room(l.tcp.load(Acquire), new),
        _ => drop(set(new)),
    };
    match fds::kind(fd) {
        Kind::Final => act(fd),
        _ if l.unix.is_open() => l.unix.by_number(act),
        _ => {}
    }
}

pub(crate) unsafe fn getsockopt(
    fd: c_int,
    level: c_int,
    number: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    // SAFETY: the program's own call.
    let get = |fd| unsafe { real::getsockopt()(fd, level, number, value, len) };
    let option = (level, number);
    let active = match numbers::lookup(fd) {
        Some((id, Kind::Active)) => Some(id),
        Some((_, Kind::Final)) => None,
        _ => return get(fd),
    };
    if option == (libc::IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE) && fds::is_ours(fd) {
        let stays = active.as_ref().is_some_and(|id| stay(**id, Reason::Option));
        if !stays {
            // The error of a kernel without this option (before 4.18).
            set_errno(libc::ENOPROTOOPT);
            return -1;
        }
    }
    let pending = option == (libc::SOL_SOCKET, libc::SO_ERROR);
    if let Some(id) = active {
        let r = get(tcp_fd(*id, fd));
        // A program that asks after a non-blocking connect (connect(2)) has learnt that it is complete.
        if r == 0 && pending && id.endpoint().phase() == Phase::Connecting {
            open::completed(*id, fd);
        }
        return r;
    }
    let tcp = asked(fd);
    if option == (libc::SOL_SOCKET, SO_PEEK_OFF) || tcp == fd {
        return get(fd);
    }
    let r = get(tcp);
    if r == 0 && pending {
        // An error of the new socket counts, too, and is taken with TCP's: an error is reported only once.
        let own = sys::take_error(fd);
        let reset = || numbers::lookup(fd).is_some_and(|(id, _)| is_news(*id));
        if own != 0 && is_zero(value, len) && (own != libc::ECONNRESET || reset()) {
            // SAFETY: where the kernel has just put an int.
            unsafe { value.cast::<c_int>().write_unaligned(own) };
        }
    }
    r
}

/// Whether the kernel has answered with an int that is 0.
fn is_zero(value: *const c_void, len: *const socklen_t) -> bool {
    // SAFETY: where the kernel has just put its answer and the length of it.
    unsafe { *len as usize == size_of::<c_int>() && value.cast::<c_int>().read_unaligned() == 0 }
}
