//! The loop of a call on an endpoint that is not settled, the same for every call that moves bytes.
//!
//! ```text
//!                ┌────────── again ──────────┐
//!                ▼                           │
//!   prepare ─► attempt ─► judge ─► wait ─────┘
//!                │  │       └─► done
//!                │  └─► natively: the real call on TCP, which may wait; the direction stays there until it is back ─► done
//!                └─► settled: the real call on what the program's number is now ─► done
//! ```

use core::sync::atomic::Ordering::*;

use libc::{c_int, c_void};
use matcher::reason::Reason;

use super::side::Side;
use super::wait::{block, block_on, deadline, settled_socket};
use crate::endpoint::{Guard, Id, tcp_fd};
use crate::fds::Kind;
use crate::host::guard::NoSignals;
use crate::host::threads;
use crate::offsets;
use crate::switch::stay::stay;
use crate::switch::{Phase, adopt, drive, open};
use crate::sys::{self, Deadline, EAGAIN, EINTR};

/// One call of the program in progress.
pub(crate) struct Call {
    pub id: Id,
    pub fd: c_int,
    /// MSG_DONTWAIT: the call does not wait, whatever the descriptor says.
    pub dont_wait: bool,
    /// MSG_OOB: the call is about urgent data.
    pub is_urgent: bool,
    /// Bytes that have moved.
    pub done: usize,
    /// When the call times out, once that was asked.
    until: Option<Deadline>,
    /// Whether the descriptor was non-blocking when the call first asked.
    nonblocking: Option<bool>,
    /// The call has waited in the shim.
    waited: bool,
    /// The endpoint is settled, and the call goes on to wait in the shim.
    pub resumes: bool,
}

/// The outcome of an attempt, while its direction was locked.
pub(crate) enum Tried {
    /// The kernel's result.
    Gave(sys::Ret),
    /// The direction is on TCP, and the real call does all that is needed.
    Natively,
    /// The attempt must be made once more.
    Again,
}

/// What the result of an attempt means.
pub(crate) enum Judged {
    /// The call is over.
    Done(sys::Ret),
    /// The call goes on when it has waited.
    Blocked,
}

/// One kind of call: how it moves bytes once, and what it makes of the result.
pub(crate) trait Step {
    type Side: Side;

    /// One attempt that does not wait, with the direction locked. What has moved is counted when it returns.
    fn attempt(&mut self, call: &mut Call, half: &mut Guard<'_, Self::Side>) -> Tried;

    /// Whether the call is over with this result of an attempt. Nothing is locked.
    fn judge(&mut self, call: &mut Call, r: sys::Ret) -> Judged;

    /// The real call on the TCP socket, for what has not moved yet. It may wait.
    fn natively(&mut self, call: &Call) -> sys::Ret;

    /// Counts what [`Step::natively`] moved.
    fn count(&mut self, call: &Call, half: &mut Guard<'_, Self::Side>, n: usize);

    /// The real call, for what has not moved yet, on a descriptor that is settled. It does not wait if [`Step::resumes`].
    fn settled(&mut self, call: &Call, fd: c_int, kind: Kind) -> sys::Ret;

    /// Waits until another attempt makes sense. `Err` is how the call ends if nothing has moved.
    fn wait(&mut self, call: &mut Call) -> Result<(), sys::Ret> {
        call.wait::<Self::Side>()
    }

    /// Whether the call goes on to wait in the shim where [`Call::resumes`] asks for that.
    fn resumes(&self, _: &Call) -> bool {
        false
    }

    /// How many bytes a look has found that goes on looking for more: they are the result if it ends with an error.
    fn peeked(&self) -> usize {
        0
    }
}

/// Where the loop goes after an attempt.
enum Next {
    Judge(sys::Ret),
    Return(sys::Ret),
    Again,
    Settled,
}

impl Call {
    pub(crate) fn new(id: Id, fd: c_int, flags: c_int) -> Call {
        let (dont_wait, is_urgent) = (flags & libc::MSG_DONTWAIT != 0, flags & libc::MSG_OOB != 0);
        Call { id, fd, dont_wait, is_urgent, done: 0, until: None, nonblocking: None, waited: false, resumes: false }
    }

    /// Makes the call; the kernel's convention for the result.
    pub(crate) fn run<S: Step>(&mut self, step: &mut S) -> sys::Ret {
        let r = self.go(step);
        adopt::depart(self.id, self.fd);
        r
    }

    fn go<S: Step>(&mut self, step: &mut S) -> sys::Ret {
        loop {
            let phase = self.prepare();
            let r = match self.attempt(step, phase) {
                Next::Again => continue,
                Next::Settled => return self.settled(step),
                Next::Return(r) => return self.end(step, r),
                Next::Judge(r) => r,
            };
            if let Judged::Done(r) = step.judge(self, r) {
                if !self.waited {
                    S::Side::found(self.id);
                }
                return self.end(step, r);
            }
            if let Err(r) = step.wait(self) {
                return self.end(step, r);
            }
        }
    }

    /// The result of a call whose last attempt or wait gave `r`: how many bytes have moved, if any have.
    fn end<S: Step>(&self, step: &S, r: sys::Ret) -> sys::Ret {
        match (self.done, step.peeked()) {
            (0, peeked) if r < 0 && peeked > 0 => peeked as sys::Ret,
            (0, _) => r,
            (done, _) => done as sys::Ret + r.max(0),
        }
    }

    /// Brings the switch as far as it can go now.
    fn prepare(&self) -> Phase {
        adopt::attend(self.id, self.fd);
        if self.id.endpoint().phase() >= Phase::Dual {
            drive::pump(self.id);
        }
        self.id.endpoint().phase()
    }

    fn attempt<S: Step>(&mut self, step: &mut S, phase: Phase) -> Next {
        let no_signals = (phase == Phase::Dual).then(NoSignals::hold);
        let (id, e) = (self.id, self.id.endpoint());
        if self.is_urgent && stay(id, Reason::Urgent) {
            return Next::Settled;
        }
        let Some(mut half) = S::Side::lock(e) else {
            // A signal handler interrupted a call in this direction and now makes another: no hash can be trusted now.
            let settled = stay(id, Reason::Reentered) || e.phase() > Phase::Dual;
            return if settled { Next::Settled } else { Next::Return(EINTR) };
        };
        // The phase may have changed before this thread got the lock. Adopting is not seen: the adopter holds this lock.
        let now = e.phase();
        match now {
            Phase::Connecting => {}
            Phase::Stay => return Next::Settled,
            Phase::Final if half.state.on().is_native() => return Next::Settled,
            Phase::Dual if phase != Phase::Dual => return Next::Again,
            _ if half.damaged => S::Side::mend(id, self.fd, &mut half),
            _ => {}
        }
        let tried = if now == Phase::Connecting { Tried::Natively } else { step.attempt(self, &mut half) };
        match tried {
            Tried::Gave(r) => Next::Judge(r),
            Tried::Again => Next::Again,
            Tried::Natively => {
                // Counted before the lock is free: from then on another thread may see the connection, and adopt.
                S::Side::deaf(id).fetch_add(1, SeqCst);
                drop((half, no_signals));
                let next = self.natively(step, now);
                S::Side::deaf(id).fetch_sub(1, SeqCst);
                next
            }
        }
    }

    /// The real, blocking call on TCP, counted as deaf: the direction cannot leave TCP until the call has returned.
    fn natively<S: Step>(&mut self, step: &mut S, phase: Phase) -> Next {
        let (id, fd) = (self.id, self.fd);
        match phase {
            Phase::Connecting if offsets::is_connected(fd) => {
                open::completed(id, fd);
                return Next::Again;
            }
            Phase::Connecting => {}
            _ => S::Side::goes_natively(id, tcp_fd(id, fd), self.dont_wait),
        }
        let r = threads::cancellable(cancelled::<S::Side>, id.index as *mut c_void, || step.natively(self));
        if r > 0
            && let Some(mut half) = S::Side::lock(id.endpoint())
        {
            step.count(self, &mut half, r as usize);
        }
        Next::Return(r)
    }

    /// The endpoint is final or stays on TCP: the real function does the rest.
    fn settled<S: Step>(&mut self, step: &mut S) -> sys::Ret {
        // Another thread may have taken the step; it is complete only when the descriptors are replaced.
        drive::pump(self.id);
        loop {
            let (fd, kind) = settled_socket(self.id, self.fd);
            self.resumes = self.waited && self.differs_now::<S::Side>(fd);
            let r = step.settled(self, fd, kind);
            if !step.resumes(self) {
                return self.end(step, r);
            }
            if let Judged::Done(r) = step.judge(self, r) {
                return self.end(step, r);
            }
            let until = self.until::<S::Side>();
            if let Err(r) = block_on(self.id, fd, S::Side::READY, until, self.done > 0) {
                return self.end(step, r);
            }
        }
    }

    /// Whether the kernel would not let a call that has waited go on as it began: the call has used up a part of its time, or
    /// another thread has set a timeout since, or has made the descriptor non-blocking. Otherwise the rest is the kernel's, which
    /// keeps the file also where another thread closes the number.
    fn differs_now<S: Side>(&mut self, fd: c_int) -> bool {
        self.until::<S>() != Deadline::NEVER || deadline(fd, S::TIMEOUT) != Deadline::NEVER || sys::is_nonblocking(fd)
    }

    /// Whether the real call is made in place of an attempt: the endpoint is on TCP alone, and no other thread has to wake
    /// this one.
    pub(crate) fn may_go_natively(&self) -> bool {
        let on_tcp = matches!(self.id.endpoint().phase(), Phase::Tracking | Phase::Waiting);
        on_tcp && !self.is_urgent && threads::blocks_natively()
    }

    /// When the call times out.
    pub(crate) fn until<S: Side>(&mut self) -> Deadline {
        let tcp = tcp_fd(self.id, self.fd);
        *self.until.get_or_insert_with(|| deadline(tcp, S::TIMEOUT))
    }

    /// Notes that the call is about to wait for its socket. `Err` if it must not wait.
    pub(crate) fn may_wait<S: Side>(&mut self) -> Result<(), sys::Ret> {
        let asked = || sys::is_nonblocking(tcp_fd(self.id, self.fd));
        if self.dont_wait || *self.nonblocking.get_or_insert_with(asked) {
            S::found_nothing(self.id);
            return Err(EAGAIN);
        }
        S::will_wait(self.id);
        self.waited = true;
        Ok(())
    }

    /// Waits for the transport that the direction is on.
    pub(crate) fn wait<S: Side>(&mut self) -> Result<(), sys::Ret> {
        self.may_wait::<S>()?;
        let until = self.until::<S>();
        block(self.id, self.fd, S::READY, until, self.done > 0)
    }
}

/// Called when the thread is cancelled in a real call: releases what the call held.
extern "C" fn cancelled<S: Side>(index: *mut c_void) {
    let id = Id { index: index as usize as u32 };
    S::deaf(id).fetch_sub(1, SeqCst);
    id.unpin();
}
