//! The ancillary data that the program has asked its TCP socket for, and the new socket does not have (`SO_TIMESTAMP` and
//! its kin, `TCP_INQ`).

use core::num::NonZeroU64;
use core::sync::atomic::Ordering::*;

use libc::c_int;

use crate::endpoint::Id;
use crate::sys;

/// `TCP_INQ`, and the kind of its ancillary data, `TCP_CM_INQ`.
pub(crate) const TCP_INQ: c_int = 36;
const MICROSECOND: NonZeroU64 = NonZeroU64::new(1000).unwrap();
const NANOSECOND: NonZeroU64 = NonZeroU64::new(1).unwrap();
/// `SO_TIMESTAMP`, `SO_TIMESTAMPNS`, and their forms that outlive 2038, each with its smaller unit in nanoseconds. The
/// kind of the ancillary data is the same number.
pub(crate) const TIMES: [(c_int, NonZeroU64); 4] =
    [(29, MICROSECOND), (35, NANOSECOND), (63, MICROSECOND), (64, NANOSECOND)];

pub(crate) fn is_set(tcp: c_int, level: c_int, number: c_int) -> bool {
    sys::getsockopt::<c_int>(tcp, level, number).is_ok_and(|value| value != 0)
}

/// Notes whether the program has asked its socket for ancillary data.
pub(crate) fn note(id: Id, tcp: c_int) {
    let times = TIMES.iter().any(|(number, _)| is_set(tcp, libc::SOL_SOCKET, *number));
    id.local().told_more.store(times || is_set(tcp, libc::IPPROTO_TCP, TCP_INQ), Relaxed);
}

/// Whether an option asks for ancillary data.
pub(crate) fn is_about(level: c_int, number: c_int) -> bool {
    (level, number) == (libc::IPPROTO_TCP, TCP_INQ)
        || level == libc::SOL_SOCKET && TIMES.iter().any(|(time, _)| *time == number)
}
