//! What an event of epoll_wait(2) means for the program.

use core::sync::atomic::{AtomicU32, Ordering::*};

use libc::{c_int, epoll_event};

use super::masks::to_poll;
use super::moves::rearm;
use super::registrations::{MODE, ONESHOT, Registration, Table, low_of_tag, table};
use crate::endpoint::{Id, numbers};
use crate::host::fdinfo;
use crate::switch::{Phase, drive};
use crate::sys;

static BATCH: AtomicU32 = AtomicU32::new(0);

/// A number for the events of one epoll_wait.
pub(crate) fn batch() -> u32 {
    BATCH.fetch_add(1, Relaxed).wrapping_add(1)
}

/// What an event of epoll_wait means for the program.
pub(crate) enum Verdict {
    /// The event is not of an endpoint, or is right as it is.
    Keep,
    /// Nothing that the program asked for has happened.
    Drop,
    /// The program gets this event instead.
    Replace(epoll_event),
    /// The program gets this event instead, which was found after the kernel had reported what is ready.
    Found(epoll_event),
    /// The same, of a registration that this batch already has an event of.
    More(epoll_event),
}

/// Looks at one event that the kernel reported.
///
/// `batch` is a number that all events of one epoll_wait have in common and no others.
pub(crate) fn judge(epfd: c_int, event: &epoll_event, batch: u32) -> Verdict {
    if let Some(low) = low_of_tag(event.u64) {
        judge_dual(low, batch)
    } else if event.events & libc::EPOLLHUP as u32 != 0 {
        judge_hangup(epfd, *event)
    } else {
        Verdict::Keep
    }
}

fn entry_of_tag(t: &mut Table, low: u32) -> Option<(u32, Registration)> {
    let index = (low & 0x1ffff) + 1;
    let r = *t.at(index)?;
    (r.used && u32::from(r.generation) == low >> 17).then_some((index, r))
}

/// Claims an event of one of the two registrations that the kernel has for one of the program's. `None`: the registration
/// is gone or has fired, or another thread has claimed its event.
fn take_in_hand(low: u32) -> Option<Registration> {
    let mut t = table()?;
    let (index, r) = entry_of_tag(&mut t, low)?;
    if r.events & ONESHOT != 0 {
        if !r.armed || r.judged {
            return None;
        }
        t.at(index)?.judged = true;
    }
    Some(r)
}

fn judge_dual(low: u32, batch: u32) -> Verdict {
    let Some(r) = take_in_hand(low) else { return Verdict::Drop };
    let Some(id) = (Id { index: r.endpoint }).pin() else { return Verdict::Drop };
    let asked = to_poll(r.events);
    let ready = drive::readiness(*id, asked).unwrap_or_else(|| drive::settled_readiness(*id, r.fd, asked));
    let ready = ready as u16 as u32;
    let Some(mut t) = table() else { return Verdict::Drop };
    let Some((index, r)) = entry_of_tag(&mut t, low) else { return Verdict::Drop };
    if r.judged {
        let armed = ready == 0;
        if let Some(entry) = t.at(index) {
            (entry.armed, entry.judged) = (armed, false);
        }
        let tag = t.tag(index);
        let r = Registration { armed, ..r };
        match id.endpoint().phase() {
            Phase::Dual => drop(rearm(id.endpoint().sides(), &r, tag)),
            // Final, or back to TCP: it was made anew as one that has fired, and is armed now.
            _ if armed => drop(sys::epoll_modify(r.epfd, r.fd, r.events, r.data)),
            _ => {}
        }
    }
    let mut reported = || t.at(index).is_some_and(|r| core::mem::replace(&mut r.batch, batch) == batch);
    let event = epoll_event { events: ready, u64: r.data };
    match ready {
        0 => Verdict::Drop,
        _ if reported() => Verdict::More(event),
        _ => Verdict::Found(event),
    }
}

fn judge_hangup(epfd: c_int, event: epoll_event) -> Verdict {
    const HUP: u32 = libc::EPOLLHUP as u32;
    let data = event.u64;
    let Some(mut t) = table() else { return Verdict::Keep };
    let mut at = t.first_alike(epfd, data);
    while let Some(r) = t.at(at).copied() {
        let alike = r.epfd == epfd && r.data == data;
        at = r.next_alike;
        let id = Id { index: r.endpoint };
        if !alike {
            continue;
        }
        if r.events & ONESHOT != 0 && !r.armed {
            // It had fired before the endpoint moved; the kernel adds ERR and HUP to every registration by itself.
            return Verdict::Drop;
        }
        if id.endpoint().phase() != Phase::Final || !numbers::is_final_now(r.fd, id) {
            continue;
        }
        let events = drive::with_tcp_hangup(id, event.events as i16) as u16 as u32;
        if events & HUP != 0
            || events & !(MODE | libc::EPOLLERR as u32) & r.events != 0
            || r.events & ONESHOT != 0 && events != 0
        {
            return Verdict::Replace(epoll_event { events, u64: data });
        }
        // Only HUP, which TCP would not report: a level-triggered registration must not report it for ever.
        let now = if r.foreign { fdinfo::registration(epfd, r.fd).map_or(r.events, |now| now.mask) } else { r.events };
        sys::epoll_ctl(epfd, libc::EPOLL_CTL_MOD, r.fd, now | libc::EPOLLET as u32, data);
        return Verdict::Drop;
    }
    Verdict::Keep
}
