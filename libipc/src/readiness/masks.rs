//! Which events to wait for on which of the two sockets, between the transports.

use super::registrations::{MODE, ONESHOT, Registration};
use crate::endpoint::sides;

/// Events of poll(2) that concern reading.
pub(crate) const READING: i16 = libc::POLLIN | libc::POLLRDNORM | libc::POLLRDBAND | libc::POLLPRI | libc::POLLRDHUP;
/// Events of poll(2) that concern writing.
pub(crate) const WRITING: i16 = libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND;

/// Which events to wait for on (TCP, the new transport) when the program waits for `events`.
pub(crate) fn split_poll(side: u8, events: i16) -> (i16, i16) {
    let (mut tcp, mut unix) = (0, 0);
    *(if side & sides::RX_UNIX != 0 { &mut unix } else { &mut tcp }) |= events & READING;
    let writes_unix = side & sides::TX_UNIX != 0 && side & sides::ENDED == 0;
    *(if writes_unix { &mut unix } else { &mut tcp }) |= events & WRITING;
    if side & sides::CONTROL != 0 {
        unix |= libc::POLLIN;
    }
    (tcp, unix)
}

pub(crate) fn to_poll(events: u32) -> i16 {
    events as i16 & (READING | WRITING)
}

/// The masks for (TCP, the new transport) that stand for the program's mask.
pub(crate) fn split(side: u8, r: &Registration) -> (u32, u32) {
    if r.events & ONESHOT != 0 && !r.armed {
        return (ONESHOT, ONESHOT);
    }
    let (tcp, mut unix) = split_poll(side, to_poll(r.events));
    let mode = r.events & MODE;
    if r.events & libc::EPOLLET as u32 != 0 {
        // Bytes that arrive on the new transport make an edge, though the bytes on TCP are read first.
        unix |= to_poll(r.events) & READING;
    }
    (tcp as u16 as u32 | mode, unix as u16 as u32 | mode)
}
