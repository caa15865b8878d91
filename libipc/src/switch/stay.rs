//! Stay: the endpoint is on TCP for ever.

use matcher::reason::Reason;

use super::state::Phase;
use crate::endpoint::{self, Id, numbers};
use crate::fds::Kind;
use crate::ipcd::report;

/// Keeps an endpoint on TCP for ever, if it has not made its promise yet; false if it has.
pub(crate) fn stay(id: Id, reason: Reason) -> bool {
    let e = id.endpoint();
    loop {
        let phase = e.phase();
        match phase {
            Phase::Stay => return true,
            Phase::Adopting | Phase::Dual | Phase::Final => return false,
            _ => {}
        }
        if e.advance(phase, Phase::Stay) {
            stayed(id, reason, phase);
            return true;
        }
    }
}

/// What follows the step to Stay: calls on the numbers go to the real functions, the grant is closed, ipcd is told.
pub(crate) fn stayed(id: Id, reason: Reason, was: Phase) {
    id.endpoint().note_reason(reason);
    id.local().grant.close();
    numbers::turn(id, Kind::Active, Kind::Stay);
    if was > Phase::Connecting {
        report::stayed(id, reason);
    }
}

/// Closes both hidden descriptors: the peer sees the new transport end.
pub(crate) fn give_up(id: Id) {
    id.local().unix.close();
    endpoint::close_tcp(id);
}
