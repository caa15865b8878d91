//! The control connection of this process to ipcd. Nothing here waits: a message that does not fit is not sent, an
//! answer is looked for only when the page shared with ipcd says that there is one.

use core::mem::{MaybeUninit, size_of};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, Ordering::*};

use libc::{c_int, c_void, iovec, msghdr, pollfd};
use matcher::wire::{GRANT_PAGE_LEN, MAX_MESSAGE, ToDaemon, ToShim, Transports, VERSION};

use super::{path, terms};
use crate::{family, fds, names, sys};

#[unsafe(link_section = ".data.fork")]
static SOCKET: AtomicI32 = AtomicI32::new(-1);
/// The number of the last connection, while there is none; -1: free.
#[unsafe(link_section = ".data.fork")]
static NUMBER: AtomicI32 = AtomicI32::new(-1);
/// Names the connection in [`Endpoint::told_on`](crate::endpoint::Endpoint): the process's slot and a count. 0: none.
#[unsafe(link_section = ".data.fork")]
static CONNECTION: AtomicU32 = AtomicU32::new(0);
/// Where the page of the latest ipcd is mapped; once mapped, the address never changes.
static PAGE: AtomicPtr<AtomicU32> = AtomicPtr::new(core::ptr::null_mut());
/// Whether the ipcd of this connection has said Welcome.
static WELCOMED: AtomicBool = AtomicBool::new(false);
/// Records taken since, to compare with the page.
static TAKEN: AtomicU32 = AtomicU32::new(0);
/// One thread connects or receives at a time; nobody waits for it.
static BUSY: AtomicBool = AtomicBool::new(false);

/// Room for some thousand reports, where the kernel's limit (net.core.wmem_max) allows it, in bytes.
const SEND_BUFFER: c_int = 2 << 20;

struct Turn;

fn turn() -> Option<Turn> {
    BUSY.compare_exchange(false, true, SeqCst, SeqCst).ok().map(|_| Turn)
}

impl Drop for Turn {
    fn drop(&mut self) {
        BUSY.store(false, SeqCst);
    }
}

/// Whether there is an ipcd to talk to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Up,
    /// Another thread is finding out.
    Unknown,
    Down,
}

/// Connects to ipcd if that has not been done, and says hello.
pub(crate) fn greet() -> Link {
    if SOCKET.load(Acquire) >= 0 {
        return Link::Up;
    }
    let Some(_turn) = turn() else { return Link::Unknown };
    if SOCKET.load(Acquire) >= 0 {
        return Link::Up;
    }
    let Some(mut fd) = connect() else { return Link::Down };
    let old = NUMBER.swap(-1, SeqCst);
    // The old number may be above the limit, where dup3 does not reach: then it stays what it is, an ended socket.
    if old >= 0 && sys::dup3(fd, old, libc::O_CLOEXEC) >= 0 {
        fds::close_hidden(fd);
        fd = old;
    }
    WELCOMED.store(false, Relaxed);
    let count = CONNECTION.load(Relaxed).wrapping_add(1) & 0xffff;
    CONNECTION.store((family::slot() as u32 + 1) << 16 | count, Relaxed);
    // Nobody else can send on the connection before Hello is on it.
    let transports = Transports::UNIX;
    send_on(fd, &ToDaemon::Hello { version: VERSION, name: names::program(), transports }, None);
    SOCKET.store(fd, SeqCst);
    Link::Up
}

/// The connection on which ipcd can be told something now.
pub(crate) fn connection() -> u32 {
    CONNECTION.load(Relaxed)
}

fn connect() -> Option<c_int> {
    let mut result = None;
    path::each_candidate(|path, owner| {
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let fd = sys::socket(libc::AF_UNIX, kind, 0) as c_int;
        if fd < 0 {
            return true;
        }
        sys::setsockopt(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &SEND_BUFFER);
        let addr = path.sockaddr();
        let connected = sys::connect(fd, (&raw const addr).cast(), size_of::<libc::sockaddr_un>() as u32) == 0;
        let trusted = connected
            && sys::getsockopt::<libc::ucred>(fd, libc::SOL_SOCKET, libc::SO_PEERCRED)
                .is_ok_and(|c| c.uid == owner || path::is_trusted(c.uid));
        result = if trusted { fds::hide(fd) } else { None };
        if !trusted {
            sys::close(fd);
        }
        result.is_some()
    });
    result
}

/// Sends a record, with a descriptor if one is given. False if there is no ipcd or it does not keep up.
pub(crate) fn send(message: &ToDaemon, fd: Option<c_int>) -> bool {
    let socket = SOCKET.load(Acquire);
    if socket < 0 {
        return false;
    }
    let r = send_on(socket, message, fd);
    if r < 0 && r != -(libc::EAGAIN as isize) {
        disconnect(socket);
    }
    r >= 0
}

fn send_on(socket: c_int, message: &ToDaemon, fd: Option<c_int>) -> sys::Ret {
    let record = message.encode();
    let bytes = record.as_bytes();
    let mut iov = iovec { iov_base: bytes.as_ptr() as *mut c_void, iov_len: bytes.len() };
    let mut control = fd.map(RightsBuffer::with).unwrap_or_default();
    // SAFETY: msghdr is plain data, valid when zeroed.
    let mut msg: msghdr = unsafe { core::mem::zeroed() };
    msg.msg_iov = &raw mut iov;
    msg.msg_iovlen = 1;
    if fd.is_some() {
        msg.msg_control = (&raw mut control).cast();
        msg.msg_controllen = size_of::<RightsBuffer>() as _;
    }
    sys::sendmsg(socket, &msg, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
}

/// Room for one descriptor in a control message (cmsg(3)).
#[repr(C, align(8))]
#[derive(Clone, Copy, Default)]
struct RightsBuffer {
    len: usize,
    level: c_int,
    kind: c_int,
    fd: c_int,
    _pad: c_int,
}

impl RightsBuffer {
    const LEN: usize = 16 + size_of::<c_int>();

    fn with(fd: c_int) -> RightsBuffer {
        RightsBuffer { len: Self::LEN, level: libc::SOL_SOCKET, kind: libc::SCM_RIGHTS, fd, _pad: 0 }
    }
}

/// Whether ipcd is gone, as far as is known.
pub(crate) fn is_gone() -> bool {
    SOCKET.load(Relaxed) < 0
}

/// Ends the connection: ipcd forgets what this process said.
pub(crate) fn hang_up() {
    disconnect(SOCKET.load(Relaxed));
}

/// The number stays in use, so that a thread which has just read it does not send into a stranger's stream; the next
/// connection is put over it.
fn disconnect(socket: c_int) {
    if SOCKET.compare_exchange(socket, -1, SeqCst, SeqCst).is_ok() {
        sys::shutdown(socket, libc::SHUT_RDWR);
        NUMBER.store(socket, SeqCst);
    }
}

/// In the child of a fork: the connection is the parent's; the child makes its own.
pub(crate) fn forget_connection() {
    for socket in [SOCKET.swap(-1, SeqCst), NUMBER.swap(-1, SeqCst)] {
        if socket >= 0 {
            fds::close_hidden(socket);
        }
    }
    CONNECTION.store(0, SeqCst);
    if BUSY.load(Relaxed) {
        BUSY.store(false, SeqCst);
    }
}

/// Whether there may be a record to take. Those that the page does not count are left where they are: ipcd may still have
/// a copy of the descriptor that one carries.
pub(crate) fn has_answered() -> bool {
    // SAFETY: null, or mapped for ever; an ipcd cannot shrink the file behind it (it is sealed).
    let sent = unsafe { PAGE.load(Acquire).as_ref() }.map(|page| page.load(Acquire));
    !WELCOMED.load(Acquire) || sent != Some(TAKEN.load(Relaxed))
}

/// Waits until ipcd has sent something, or the time is over, in nanoseconds.
pub(crate) fn await_answer(time: u64) {
    let mut socket = [pollfd { fd: SOCKET.load(Acquire), events: libc::POLLIN, revents: 0 }];
    sys::ppoll(&mut socket, Some(time), None);
    if !has_answered() {
        // It is counted a moment after it was sent.
        sys::yield_now();
    }
}

/// Takes what ipcd has sent, and gives it to `heard`, which says whether it was in order. Costs two loads if that is nothing.
pub(crate) fn collect(heard: impl Fn(ToShim, Option<c_int>) -> bool) {
    if !has_answered() {
        return;
    }
    let socket = SOCKET.load(Acquire);
    if socket < 0 {
        return;
    }
    let Some(_turn) = turn() else { return };
    while has_answered() && receive(socket, &heard) {}
}

/// Takes one record; false if there was none.
fn receive(socket: c_int, heard: impl Fn(ToShim, Option<c_int>) -> bool) -> bool {
    let mut bytes = [0u8; MAX_MESSAGE];
    let mut control = RightsBuffer::default();
    let mut iov = iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr is plain data, valid when zeroed.
    let mut msg: msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    msg.msg_iov = &raw mut iov;
    msg.msg_iovlen = 1;
    msg.msg_control = (&raw mut control).cast();
    msg.msg_controllen = size_of::<RightsBuffer>() as _;
    let r = sys::recvmsg(socket, &raw mut msg, libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC);
    if r <= 0 {
        if r != -(libc::EAGAIN as isize) {
            disconnect(socket);
        }
        return false;
    }
    let has_fd = control.kind == libc::SCM_RIGHTS && control.len >= RightsBuffer::LEN && msg.msg_controllen > 0;
    let fd = has_fd.then_some(control.fd);
    if WELCOMED.load(Relaxed) {
        TAKEN.fetch_add(1, Relaxed);
    }
    let in_order = match (ToShim::decode(bytes.get(..r as usize).unwrap_or(&bytes)), fd) {
        (Ok(ToShim::Welcome(all)), Some(page)) => {
            welcomed(page);
            terms::set(all);
            true
        }
        (Ok(message), fd) => heard(message, fd),
        (Err(_), fd) => {
            fd.map(sys::close);
            false
        }
    };
    if !in_order {
        disconnect(socket);
    }
    true
}

/// ipcd has passed the page that says how many records it has sent.
fn welcomed(page: c_int) {
    let at = sys::map_readable(page, GRANT_PAGE_LEN, PAGE.load(Relaxed).cast());
    sys::close(page);
    TAKEN.store(0, Relaxed);
    if !at.is_null() {
        PAGE.store(at.cast(), Release);
        WELCOMED.store(true, Release);
    }
}
