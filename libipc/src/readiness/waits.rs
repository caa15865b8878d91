//! How the program waits for an endpoint. Between the transports bytes come to two sockets, so a promise needs to know that
//! every wait passes through the hooks: a wait by a system call of the program's own would watch TCP alone.
//!
//! Seen are registrations with epoll, poll and select, and reads that found nothing and waited. What was registered with
//! epoll by a raw call or an io_uring is found in /proc and taken over, if the instance is waited for through the hooks.
//! A raw poll(2) shows in nothing but reads that find bytes whenever they are made, on every stream of the program.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};

use libc::c_int;

use crate::endpoint::{self, Id, numbers};
use crate::host::fdinfo::{self, Watcher};
use crate::host::rings;
use crate::readiness::moves;
use crate::switch::Phase;
use crate::{fds, sys};

/// Reads in a row that found nothing, after which they are the wait: the program turns in a circle.
const CIRCLES: u32 = 3;
/// Reads in a row that found bytes, without a sleep of the thread in between, after which there is a flow that is not waited
/// for.
const FLOW: u32 = 16;
/// How often it is asked whether a promise can be made, while nothing is known of the waits.
const LOOKS: u32 = 64;
/// Who has written so many bytes and read none does not wait for any.
const ONE_WAY: u64 = 16 << 10;
/// See [`Local::empty_reads`](endpoint::Local): the last read waited.
const WAITED: u32 = 1 << 16;

/// Something was registered past the hooks once: then every endpoint is looked for.
static PAST_THE_HOOKS: AtomicBool = AtomicBool::new(false);

/// The program has waited in a read, or has called poll or select: so it waits where it can be seen.
static WAITS_IN_SIGHT: AtomicBool = AtomicBool::new(false);

/// Whether it is known that the program waits where it can be seen.
fn are_in_sight() -> bool {
    WAITS_IN_SIGHT.load(Relaxed)
}

fn note_in_sight() {
    if !are_in_sight() {
        WAITS_IN_SIGHT.store(true, Relaxed);
    }
}

/// What is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waits {
    /// Every wait is seen.
    Seen,
    /// There is one that is not, or may be.
    Unseen,
    /// The program has not waited for it yet.
    NotYet,
}

/// A read found bytes, or the end, at once. Once a grant is there it is of interest whether the thread sleeps between two of
/// them: then it may have waited for the bytes past the hooks.
pub fn found(id: Id) {
    let l = id.local();
    if l.empty_reads.load(Relaxed) != 0 {
        l.empty_reads.store(0, Relaxed);
    }
    if l.grant.is_open() && !are_in_sight() {
        let sleeps = sys::sleeps_of_thread();
        let flows = l.slept.swap(sleeps, Relaxed) == sleeps;
        l.flow.store(if flows { l.flow.load(Relaxed) + 1 } else { 0 }, Relaxed);
    }
}

/// A read found nothing and returned.
pub fn found_nothing(id: Id) {
    let reads = &id.local().empty_reads;
    reads.store((reads.load(Relaxed) + 1).min(CIRCLES), Relaxed);
}

/// A read found nothing and waits.
pub fn waits_in_a_read(id: Id) {
    note_in_sight();
    id.local().empty_reads.store(WAITED, Relaxed);
}

/// The program waits for it with poll or select.
pub fn polls(id: Id) {
    note_in_sight();
    id.local().polled.store(true, Relaxed);
}

/// Whether the last read waited: then the next one will, too, and may do so at once.
fn waited(id: Id) -> bool {
    id.local().empty_reads.load(Relaxed) == WAITED
}

/// Whether nothing would be learned from how the next read goes: the last one waited, or the program is known to wait in sight
/// and there is no grant yet.
pub fn are_known(id: Id) -> bool {
    waited(id) || are_in_sight() && !id.local().grant.is_open()
}

/// Whether registrations were seen, and nothing is to be looked for. One poll says nothing of the next wait.
fn is_seen_waiting(id: Id) -> bool {
    id.local().registrations.load(Relaxed) != 0 && !PAST_THE_HOOKS.load(Relaxed)
}

/// Whether the way that reads and writes went says that the program waits in them, or not at all.
fn is_evident(id: Id) -> bool {
    let l = id.local();
    are_in_sight()
        || l.empty_reads.load(Relaxed) >= CIRCLES
        || l.flow.load(Relaxed) >= FLOW
        || id.endpoint().has_only_written(ONE_WAY)
}

/// Whether it makes sense to ask [`before_promise`], the n-th time that this is asked: less and less often, because an answer
/// costs many system calls.
pub fn are_to_be_looked_at(id: Id) -> bool {
    let looks = id.local().looks.fetch_add(1, Relaxed);
    looks < 4 || looks.is_power_of_two() || looks < LOOKS && waited(id)
}

/// What is known before the promise.
pub fn before_promise(id: Id) -> Waits {
    let l = id.local();
    let evident = is_evident(id);
    if is_seen_waiting(id) {
        // A program that never waits for an instance through the hooks may wait for it past them.
        return if evident || moves::are_waited_for(id) { Waits::Seen } else { Waits::NotYet };
    }
    let registered = l.registrations.load(Relaxed) != 0;
    match look(id) {
        Look::TakenOver => Waits::Seen,
        Look::Nothing if evident || registered => Waits::Seen,
        // By its requests the program may wait for the endpoint, unless it was seen to wait otherwise; one poll is not enough.
        Look::Ring if waited(id) || registered => Waits::Seen,
        _ if l.looks.load(Relaxed) < LOOKS => Waits::NotYet,
        _ => Waits::Unseen,
    }
}

/// After a call between the transports: what was registered past the hooks since the promise is taken over. True if there is
/// something that cannot be.
pub fn is_unseen(id: Id) -> bool {
    id.endpoint().phase() == Phase::Dual
        && !is_seen_waiting(id)
        && are_to_be_looked_at(id)
        && look(id) == Look::Unseen
        && id.endpoint().phase() == Phase::Dual
}

/// Endpoints that this process has brought between the transports, and that are there still.
static BETWEEN: AtomicU32 = AtomicU32::new(0);

/// The promise was given.
pub fn promised(id: Id) {
    if !id.local().between.swap(true, Relaxed) {
        BETWEEN.fetch_add(1, Relaxed);
    }
}

/// The endpoint is between the transports no more, or not this process's.
pub fn left_between(id: Id) {
    if id.local().between.swap(false, Relaxed) {
        BETWEEN.fetch_sub(1, Relaxed);
    }
}

/// The program is about to wait for an instance: what was registered there past the hooks since the promise is taken over.
pub fn before_wait(epfd: c_int) {
    if BETWEEN.load(Relaxed) == 0 || fds::is_registered_with(epfd) && !PAST_THE_HOOKS.load(Relaxed) {
        return;
    }
    let between = |id: &Id| id.local().between.load(Relaxed) && id.endpoint().phase() == Phase::Dual;
    for id in endpoint::held().filter(between) {
        for fd in numbers::numbers_of(id) {
            if !moves::knows(id, epfd, fd)
                && moves::is_registered(epfd, fd)
                && let Some(entry) = fdinfo::registration(epfd, fd)
            {
                PAST_THE_HOOKS.store(true, Relaxed);
                moves::take_over(id, epfd, fd, entry);
            }
        }
    }
}

/// Before the program's numbers are replaced: what was registered past the hooks moves with the rest.
pub fn before_replacement(id: Id) {
    if !is_seen_waiting(id) {
        look_for_all(id, true);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Look {
    Nothing,
    Ring,
    TakenOver,
    Unseen,
}

fn look(id: Id) -> Look {
    look_for_all(id, false)
}

/// Looks for registrations of the endpoint's numbers that are not in the table. `all`: also in instances that nobody was
/// seen to wait for.
fn look_for_all(id: Id, all: bool) -> Look {
    let mut worst = Look::Nothing;
    let mut note = |found: Look| worst = worst.max(found);
    let listed = fdinfo::each_watcher(may_watch, |watcher| match watcher {
        Watcher::Ring(ring) if rings::is_for_files(ring, |number| fds::kind(number) != fds::Kind::Other) => {}
        Watcher::Ring(_) => note(Look::Ring),
        Watcher::Epoll(epfd) => {
            for fd in numbers::numbers_of(id) {
                // To ask by a registration is quicker, where the hooks see what it might tell.
                if moves::knows(id, epfd, fd) || fds::is_waited_for(epfd) && !moves::is_registered(epfd, fd) {
                    continue;
                }
                let Some(entry) = fdinfo::registration(epfd, fd) else { continue };
                PAST_THE_HOOKS.store(true, Relaxed);
                let taken = (all || fds::is_waited_for(epfd)) && moves::take_over(id, epfd, fd, entry);
                note(if taken { Look::TakenOver } else { Look::Unseen });
            }
        }
    });
    if listed.is_none() { Look::Unseen } else { worst }
}

/// Whether a number may be an epoll instance or an io_uring that the program made: it is none of what is known.
fn may_watch(fd: c_int) -> bool {
    matches!(fds::kind(fd), fds::Kind::Other | fds::Kind::Epoll)
}
