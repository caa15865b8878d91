//! Waiting → Dual: taking up a grant. Nothing has been promised before, so every doubt ends in Stay or in "later".

use core::sync::atomic::Ordering::*;

use libc::c_int;
use matcher::reason::Reason;

use super::drive;
use super::state::{Control, Phase};
use super::stay::{give_up, stay, stayed};
use crate::endpoint::{Id, numbers};
use crate::host::guard::NoSignals;
use crate::host::{process, threads};
use crate::ipcd::link::{self, Link};
use crate::ipcd::{inbox, report, terms};
use crate::offsets::{self, Answer};
use crate::readiness::waits::{self, Waits};
use crate::readiness::{moves, park};
use crate::transport::{ancillary, settings};
use crate::{family, fds, sys};

/// Does what is due on an endpoint before any call on it: reports complete prefixes to ipcd, takes up a grant. `fd` is the
/// program's descriptor. Cheap when nothing is due.
pub(crate) fn attend(id: Id, fd: c_int) {
    let e = id.endpoint();
    if threads::is_apart() && id.holders().is_sole() {
        stay(id, Reason::UnseenIo);
    }
    match e.phase() {
        Phase::Tracking => {
            if terms::prefix_bytes() == 0 {
                learn(id);
            }
            if terms::prefix_bytes() != 0 {
                e.settle_prefixes(terms::prefix_bytes());
            }
            tell(id, fd);
        }
        Phase::Waiting => {
            tell(id, fd);
            let granted = || id.local().grant.is_open();
            if !link::has_answered() && !granted() || is_cramped() {
                return;
            }
            inbox::collect();
            if granted() {
                take_up(id, fd);
            }
        }
        _ => {}
    }
}

/// The same after a call on the endpoint: next the program may wait, also in a way that the hooks do not see.
pub(crate) fn depart(id: Id, fd: c_int) {
    attend(id, fd);
    if id.endpoint().phase() == Phase::Dual {
        drive::pump(id);
        if waits::is_unseen(id) {
            drive::land(id, Reason::UnseenWait);
        }
    }
}

/// Whether [`attend`] would find nothing to do, on an endpoint whose waits are known. The endpoint need not be pinned: the
/// answer may be out of date by a moment in any case.
pub(crate) fn has_nothing_due(id: Id) -> bool {
    let e = id.endpoint();
    e.phase() == Phase::Tracking
        && e.prefix_complete.load(Relaxed) == 0
        && id.local().polled.load(Relaxed)
        && terms::prefix_bytes() != 0
}

/// Asks ipcd for N, which is not known yet, and looks whether the answer has come.
fn learn(id: Id) {
    if is_cramped() {
        return;
    }
    if link::greet() == Link::Down {
        stay(id, Reason::NoDaemon);
        return;
    }
    inbox::collect();
}

fn tell(id: Id, fd: c_int) {
    let e = id.endpoint();
    if e.is_unknowable() {
        stay(id, Reason::PrefixMissed);
        return;
    }
    if !e.has_news(link::connection()) || !e.is_worth_moving(terms::patience()) || is_cramped() {
        return;
    }
    if !process::is_announced() {
        stay(id, Reason::UnseenIo);
    } else if numbers::is_standard(id) {
        stay(id, Reason::Stdio);
    } else if e.writes_little(terms::patience(), terms::small_writes()) {
        stay(id, Reason::SmallWrites);
    } else if id.holders().is_sole() && !report::prefixes(id, fd) {
        stay(id, Reason::NoDaemon);
    }
}

/// Whether the stack may have no room for more than the program's own call: an alternate signal stack often has 8 KiB, and
/// the kernel takes most of it for the interrupted registers. What is due is then left to a later call.
fn is_cramped() -> bool {
    sys::is_on_alternate_stack()
}

fn take_up(id: Id, fd: c_int) {
    let e = id.endpoint();
    if id.local().deaf_readers.load(SeqCst) > 0
        || !process::is_announced()
        || !id.holders().is_sole()
        || family::was_just_executed(e.birth().at)
        || !waits::are_to_be_looked_at(id)
    {
        return;
    }
    let _no_signals = NoSignals::hold();
    let (Some(mut rx), Some(mut tx)) = (e.lock_rx(), e.lock_tx()) else { return };
    drive::mend(id, fd, Some(&mut rx), Some(&mut tx));
    if !e.advance(Phase::Waiting, Phase::Adopting) {
        return;
    }
    // A reader that announces itself from here on sees Adopting and waits for the locks instead.
    if id.local().deaf_readers.load(SeqCst) > 0 {
        e.advance(Phase::Adopting, Phase::Waiting);
        return;
    }
    let outcome = promise(id, fd, rx.state.read, tx.state.written);
    drop((rx, tx));
    match outcome {
        Ok(()) => {
            waits::promised(id);
            park::kick(id);
            drive::pump(id);
        }
        Err(Not::Yet) => drop(e.advance(Phase::Adopting, Phase::Waiting)),
        Err(Not::Ever(reason)) => {
            e.advance(Phase::Adopting, Phase::Stay);
            stayed(id, reason, Phase::Waiting);
        }
    }
}

/// Why no promise is given.
enum Not {
    /// There is a reason against the promise at the moment.
    Yet,
    /// The endpoint stays on TCP.
    Ever(Reason),
}

/// Checks that no byte moved unseen, makes the transports known to this process and says HELLO.
fn promise(id: Id, fd: c_int, read: u64, written: u64) -> Result<(), Not> {
    let e = id.endpoint();
    if numbers::is_standard(id) {
        return Err(Not::Ever(Reason::Stdio));
    }
    let known = sys::getsockopt::<u64>(fd, libc::SOL_SOCKET, libc::SO_COOKIE).ok();
    if known != Some(e.birth().cookie) {
        return Err(Not::Ever(Reason::UnseenIo));
    }
    if sys::fcntl(fd, libc::F_GETFL, 0) & libc::O_ASYNC as sys::Ret != 0 {
        return Err(Not::Ever(Reason::SignalDriven));
    }
    if settings::keep_on_tcp(fd) {
        return Err(Not::Ever(Reason::Option));
    }
    let kernel = match offsets::read(fd, e.birth().role) {
        Answer::Exact(offsets) => offsets,
        Answer::Moving => return Err(Not::Yet),
        Answer::Over => return Err(Not::Ever(Reason::Closed)),
    };
    let writer_in_flight = e.deaf_writers.load(SeqCst) > 0;
    if kernel.read != read || (kernel.written != written && !writer_in_flight) {
        return Err(Not::Ever(Reason::UnseenIo));
    }
    match waits::before_promise(id) {
        Waits::Seen => {}
        Waits::Unseen => return Err(Not::Ever(Reason::UnseenWait)),
        Waits::NotYet => return Err(Not::Yet),
    }
    // Under a lock that fork takes, too: a child is made before all of this or after all of it.
    let mut said = Err(Not::Ever(Reason::UnseenWait));
    let entered = moves::enter_dual(id, || {
        said = say_hello(id, fd);
        said.is_ok()
    });
    if said.is_ok() && !entered {
        give_up(id);
        return Err(Not::Ever(Reason::UnseenWait));
    }
    said
}

/// Makes both sockets known to the process and gives the promise.
fn say_hello(id: Id, fd: c_int) -> Result<(), Not> {
    let l = id.local();
    if !id.holders().is_sole() {
        return Err(Not::Yet);
    }
    // A seccomp filter that the program was started with may refuse dup3, and in the last step dup3 must not fail. So it
    // is tried here, with the same number twice, which the kernel itself refuses with this error (dup(2)).
    if sys::dup3(fd, fd, 0) != -(libc::EINVAL as sys::Ret) {
        return Err(Not::Ever(Reason::Kernel));
    }
    if l.tcp.load(Acquire) < 0 {
        let Some(tcp) = fds::duplicate_hidden(fd) else { return Err(Not::Ever(Reason::NoDescriptors)) };
        l.tcp.store(tcp, SeqCst);
    }
    l.unix.take_from(&l.grant);
    settings::carry_over(fd, &l.unix);
    ancillary::note(id, fd);
    if !l.unix.say(Control::Hello) {
        give_up(id);
        return Err(Not::Ever(Reason::PeerDeclined));
    }
    Ok(())
}
