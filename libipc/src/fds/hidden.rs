//! The numbers that the shim keeps for itself. They lie above the program's own limit, where the program does not look.

use core::sync::atomic::{AtomicBool, Ordering::*};

use libc::c_int;

use super::table::{self, FD_SLOTS, Kind, Word};
use crate::host::guard::NoSignals;
use crate::sys;

/// Moves a descriptor of the shim to a number the program does not see. The old number is closed.
pub(crate) fn hide(fd: c_int) -> Option<c_int> {
    let hidden = duplicate_hidden(fd);
    sys::close(fd);
    hidden
}

/// A hidden duplicate of a descriptor: at or above the program's own limit, which is lifted up to the hard one for just
/// this call. If there is no number between the two limits, the upper quarter of the numbers is used.
pub(crate) fn duplicate_hidden(fd: c_int) -> Option<c_int> {
    let turn = Turn::take();
    let (soft, hard) = sys::nofile(None).ok()?;
    let reachable = hard.min(FD_SLOTS as u64);
    let hidden = if reachable > soft && sys::nofile(Some((reachable, hard))).is_ok() {
        let hidden = sys::dup_above(fd, soft as c_int);
        let _ = sys::nofile(Some((soft, hard)));
        hidden
    } else {
        sys::dup_above(fd, (soft.min(reachable) / 4 * 3) as c_int)
    } as c_int;
    drop(turn);
    if hidden < 0 {
        return None;
    }
    if hidden as usize >= FD_SLOTS {
        sys::close(hidden);
        return None;
    }
    table::mark(hidden, Kind::Hidden);
    Some(hidden)
}

/// The turn to change the limit, which one thread has at a time, also for the program's own changes. Signals are held back
/// meanwhile.
pub(crate) struct Turn {
    _no_signals: NoSignals,
}

static CHANGING: AtomicBool = AtomicBool::new(false);

impl Turn {
    pub(crate) fn take() -> Turn {
        let signals = NoSignals::hold();
        while CHANGING.swap(true, SeqCst) {
            sys::yield_now();
        }
        Turn { _no_signals: signals }
    }

    /// In the child of a fork: the thread whose turn it was may not exist here.
    pub(crate) fn reset() {
        if CHANGING.load(Relaxed) {
            CHANGING.store(false, SeqCst);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        CHANGING.store(false, SeqCst);
    }
}

/// Closes a descriptor of the shim.
pub(crate) fn close_hidden(fd: c_int) {
    table::put(fd, Word::NONE);
    sys::close(fd);
}
