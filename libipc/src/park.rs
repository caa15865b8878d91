//! Waiting on behalf of a blocking call, so that the program cannot tell: a waiting thread can be woken by another one
//! that adopts or finishes the endpoint, signals interrupt or restart the call as signal(7) says, timeouts are kept.

use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::*};

use libc::{c_int, pollfd};

use crate::endpoint::Id;
use crate::{fds, sys};

const PARKERS: usize = 4096;
const FREE: u32 = 0;
/// The parker's thread waits for several endpoints at once (poll, select).
const ANY: u32 = u32::MAX;
/// Signals that libc keeps for itself (cancellation, setuid): their handlers restart, they are never held back.
const LIBC_SIGNALS: u64 = 0b11 << 31;
const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;

/// Where a waiting thread can be woken.
struct Parker {
    /// FREE, an endpoint's index plus one, or ANY.
    waits_for: AtomicU32,
    /// Readable: look at the endpoint again. A number plus one; 0: not made yet (so that the pool is all zeroes).
    event: AtomicI32,
    /// Readable: a signal waits for the thread. As above.
    signals: AtomicI32,
    /// The mask that `signals` has.
    mask: AtomicU64,
}

impl Parker {
    fn event(&self) -> c_int {
        self.event.load(SeqCst) - 1
    }
}

static POOL: [Parker; PARKERS] = [const {
    Parker {
        waits_for: AtomicU32::new(FREE),
        event: AtomicI32::new(0),
        signals: AtomicI32::new(0),
        mask: AtomicU64::new(0),
    }
}; PARKERS];
/// One more than the highest parker ever used.
static USED: AtomicU32 = AtomicU32::new(0);

/// A parker in use.
pub struct Parked(&'static Parker);

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Woken {
    /// Something is ready, or the state of the endpoint changed: try again.
    Look,
    /// The time is over.
    TimedOut,
    /// A signal handler ran; `restarts` if the call goes on after it (SA_RESTART).
    Signal { restarts: bool },
}

/// Announces that the calling thread will wait for the endpoint (`None`: for several). Look at the state once more
/// after this and before waiting: a change from then on wakes the thread. `None` if there is no parker left.
pub fn announce(id: Option<Id>) -> Option<Parked> {
    let value = id.map_or(ANY, |id| id.index + 1);
    let taken = POOL.iter().position(|p| p.waits_for.compare_exchange(FREE, value, SeqCst, SeqCst).is_ok())?;
    USED.fetch_max(taken as u32 + 1, SeqCst);
    let parker = POOL.get(taken)?;
    let parked = Parked(parker);
    if parker.event() < 0 {
        let event = sys::eventfd() as c_int;
        if event < 0 {
            return None;
        }
        parker.event.store(fds::hide(event)? + 1, SeqCst);
    }
    Some(parked)
}

/// Wakes every thread of this process that waits for the endpoint.
pub fn kick(id: Id) {
    kick_where(|waits_for| waits_for == id.index + 1 || waits_for == ANY);
}

/// Wakes every waiting thread of this process.
pub fn kick_all() {
    kick_where(|waits_for| waits_for != FREE);
}

fn kick_where(concerned: impl Fn(u32) -> bool) {
    for parker in POOL.iter().take(USED.load(SeqCst) as usize) {
        if concerned(parker.waits_for.load(SeqCst)) {
            let event = parker.event();
            if event >= 0 {
                sys::write(event, &1u64.to_ne_bytes());
            }
        }
    }
}

/// In the child of a fork: the parkers belong to threads of the parent.
pub fn forget_parkers() {
    for parker in POOL.iter().take(USED.load(Relaxed) as usize) {
        for fd in [&parker.event, &parker.signals] {
            let fd = fd.swap(0, Relaxed) - 1;
            if fd >= 0 {
                fds::close_hidden(fd);
            }
        }
        parker.waits_for.store(FREE, Relaxed);
    }
    USED.store(0, Relaxed);
}

impl Drop for Parked {
    fn drop(&mut self) {
        let event = self.0.event();
        if event >= 0 {
            // A kick that nobody took must not wake the next user of the parker: empty the eventfd.
            sys::read(event, &mut [0; 8]);
        }
        self.0.waits_for.store(FREE, SeqCst);
    }
}

impl Parked {
    /// The descriptor to watch beside the others.
    pub fn pollfd(&self) -> pollfd {
        pollfd { fd: self.0.event(), events: libc::POLLIN, revents: 0 }
    }

    /// Waits in place of a call that signals with SA_RESTART resume: recv, send and their kin without a timeout.
    /// `watched` are the sockets; a timeout in nanoseconds makes every handled signal interrupt (signal(7)).
    pub fn wait(&self, watched: &[pollfd], timeout: Option<u64>) -> Woken {
        let mut set = [pollfd { fd: -1, events: libc::POLLIN, revents: 0 }; 4];
        for (to, from) in set.iter_mut().skip(2).zip(watched) {
            *to = *from;
        }
        set[0] = self.pollfd();
        let program = sys::set_sigmask(sys::ALL_SIGNALS & !LIBC_SIGNALS);
        set[1].fd = self.signals(!program & !LIBC_SIGNALS);
        let mut woken = match sys::ppoll(&mut set, timeout, None) {
            0 => Woken::TimedOut,
            _ => Woken::Look,
        };
        if set[1].revents != 0
            && let Some(restarts) = next_signal_restarts(!program & !LIBC_SIGNALS)
        {
            woken = Woken::Signal { restarts: restarts && timeout.is_none() };
        }
        sys::set_sigmask(program);
        woken
    }

    fn signals(&self, mask: u64) -> c_int {
        let fd = self.0.signals.load(Relaxed) - 1;
        if fd < 0 {
            let made = sys::signalfd(-1, mask) as c_int;
            let hidden = if made < 0 { -1 } else { fds::hide(made).unwrap_or(-1) };
            self.0.signals.store(hidden + 1, Relaxed);
            self.0.mask.store(mask, Relaxed);
            return hidden;
        }
        if self.0.mask.swap(mask, Relaxed) != mask {
            sys::signalfd(fd, mask);
        }
        fd
    }
}

/// Finds out which signal will be handled first when the mask is lifted, and puts it back in its place: `None` if no
/// handler will run, else whether the handler was installed with SA_RESTART.
fn next_signal_restarts(set: u64) -> Option<bool> {
    // SAFETY: siginfo_t is plain data, valid for any bit pattern.
    let mut info: libc::siginfo_t = unsafe { core::mem::zeroed() };
    let signo = sys::take_signal(set, &mut info) as c_int;
    if signo <= 0 {
        return None;
    }
    sys::requeue_signal(signo, &info);
    let (handler, flags) = sys::sigaction(signo)?;
    match handler {
        SIG_DFL | SIG_IGN => None,
        _ => Some(flags & libc::SA_RESTART as u64 != 0),
    }
}

/// The time left until a deadline, in nanoseconds; `None` for ever.
pub fn left_until(deadline: Option<u64>) -> Option<u64> {
    deadline.map(|d| d.saturating_sub(sys::now()))
}
