//! Waiting on behalf of a blocking call, so that the program cannot tell: a waiting thread can be woken by another one
//! that adopts or finishes the endpoint, signals interrupt or restart the call as signal(7) says, timeouts are kept.

use core::sync::atomic::Ordering::*;

use libc::{c_int, pollfd};

use crate::endpoint::Id;
use crate::readiness::announce::{Board, Parker};
use crate::{fds, sys};

const PARKERS: usize = 4096;
/// Signals that libc keeps for itself (cancellation, setuid): their handlers restart calls, and they are never held back.
const LIBC_SIGNALS: u64 = 0b11 << 31;
const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;

/// How long a thread sleeps at a time if no descriptor number is left for an eventfd that would wake it, in nanoseconds.
const NAP_NS: u64 = 5_000_000;
const NONE: pollfd = pollfd { fd: -1, events: libc::POLLIN, revents: 0 };

static BOARD: Board<PARKERS> = Board::new();

/// A parker in use.
pub(crate) struct Parked(&'static Parker);

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    /// Something is ready, or the state of the endpoint changed: try again.
    Look,
    /// The time is over.
    TimedOut,
    /// A signal handler ran; `restarts` if the call goes on after it (SA_RESTART).
    Signal { restarts: bool },
}

/// Announces that the calling thread will wait for the endpoint (`None`: for several). Look at the state once more
/// after this and before waiting: a change from then on wakes the thread. `None` if there is no parker left.
pub(crate) fn announce(id: Option<Id>) -> Option<Parked> {
    let parker = BOARD.announce(id, || match sys::eventfd() as c_int {
        event if event < 0 => None,
        event => fds::hide(event),
    })?;
    Some(Parked(parker))
}

/// Wakes every thread of this process that waits for the endpoint.
pub(crate) fn kick(id: Id) {
    BOARD.kick(Some(id), wake);
}

/// Wakes every waiting thread of this process.
pub(crate) fn kick_all() {
    BOARD.kick(None, wake);
}

/// How long to sleep where nothing can wake the thread, and whether the wait is over after that.
pub(crate) fn nap(timeout: Option<u64>) -> (u64, bool) {
    match timeout {
        Some(left) if left <= NAP_NS => (left, true),
        _ => (NAP_NS, false),
    }
}

/// [`Parked::wait`] without a parker: the thread looks again soon.
pub(crate) fn doze(watched: &[pollfd], timeout: Option<u64>) -> Woken {
    let mut set = [NONE; 2];
    for (to, from) in set.iter_mut().zip(watched) {
        *to = *from;
    }
    let (time, last) = nap(timeout);
    match sys::ppoll(&mut set, Some(time), None) {
        0 if last => Woken::TimedOut,
        _ => Woken::Look,
    }
}

fn wake(event: c_int) {
    sys::write(event, &1u64.to_ne_bytes());
}

/// In the child of a fork: the parkers belong to threads of the parent.
pub(crate) fn forget_parkers() {
    BOARD.forget(fds::close_hidden);
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.0.withdraw(|event| {
            sys::read(event, &mut [0; 8]);
        });
    }
}

impl Parked {
    /// The entry to poll beside the others.
    pub(crate) fn pollfd(&self) -> pollfd {
        pollfd { fd: self.0.event(), events: libc::POLLIN, revents: 0 }
    }

    /// Waits in place of a call that signals with SA_RESTART resume: recv, send and their kin without a timeout.
    /// `watched` are the sockets; a timeout in nanoseconds makes every handled signal interrupt (signal(7)).
    pub(crate) fn wait(&self, watched: &[pollfd], timeout: Option<u64>) -> Woken {
        let mut set = [NONE; 4];
        for (to, from) in set.iter_mut().skip(2).zip(watched) {
            *to = *from;
        }
        set[0] = self.pollfd();
        let program = sys::set_sigmask(sys::ALL_SIGNALS & !LIBC_SIGNALS);
        set[1].fd = self.signals(!program & !LIBC_SIGNALS);
        let (time, last) = match set[1].fd {
            // Without a signalfd, signals would be held back as long as the call waits.
            -1 => {
                let (time, last) = nap(timeout);
                (Some(time), last)
            }
            _ => (timeout, true),
        };
        let mut woken = match sys::ppoll(&mut set, time, None) {
            0 if last => Woken::TimedOut,
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
