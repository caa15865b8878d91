//! How the program waits for an endpoint. Between the transports bytes come to two sockets, so a promise needs to know that
//! every wait passes through the hooks: a wait by a system call of the program's own would watch TCP alone.
//!
//! The hooks see registrations with epoll, poll and select, and reads that found nothing and waited. A registration with
//! epoll that a raw call or an io_uring made is found in /proc and taken over, if the program waits for the instance
//! through the hooks. A raw poll(2) shows only in this: every read finds bytes, on every stream of the program.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};

use libc::c_int;

use crate::endpoint::{self, Id, numbers};
use crate::host::fdinfo::{self, Watcher};
use crate::host::rings;
use crate::readiness::moves;
use crate::switch::Phase;
use crate::{fds, sys};

/// After so many reads in a row that found nothing, the reads are the wait: the program tries again and again.
const CIRCLES: u32 = 3;
/// After so many reads in a row that found bytes, without a sleep of the thread in between, the bytes flow and the program
/// does not wait for them.
const FLOW: u32 = 16;
/// How often it is asked whether a promise can be made, while nothing is known of the waits.
const LOOKS: u32 = 64;
/// A program that has written so many bytes and read none does not wait for bytes.
const ONE_WAY: u64 = 16 << 10;
/// See [`Local::empty_reads`](endpoint::Local): the last read waited.
const WAITED: u32 = 1 << 16;

/// A registration was once made past the hooks: from then on such registrations are looked for, for every endpoint.
static PAST_THE_HOOKS: AtomicBool = AtomicBool::new(false);

/// The program has waited in a read, or has called poll or select: so it waits where the hooks see it.
static WAITS_IN_SIGHT: AtomicBool = AtomicBool::new(false);

/// Whether it is known that the program waits where the hooks see it.
fn are_in_sight() -> bool {
    WAITS_IN_SIGHT.load(Relaxed)
}

fn note_in_sight() {
    if !are_in_sight() {
        WAITS_IN_SIGHT.store(true, Relaxed);
    }
}

/// What is known of the program's waits for an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waits {
    /// Every wait is seen.
    Seen,
    /// There is a wait that the hooks do not see, or there may be one.
    Unseen,
    /// The program has not waited for the endpoint yet.
    NotYet,
}

/// A read found bytes, or the end, at once. Once a grant is there it matters whether the thread sleeps between two such
/// reads: then it may have waited for the bytes past the hooks.
pub(crate) fn found(id: Id) {
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
pub(crate) fn found_nothing(id: Id) {
    let reads = &id.local().empty_reads;
    reads.store((reads.load(Relaxed) + 1).min(CIRCLES), Relaxed);
}

/// A read found nothing and waits.
pub(crate) fn waits_in_a_read(id: Id) {
    note_in_sight();
    id.local().empty_reads.store(WAITED, Relaxed);
}

/// The program waits for the endpoint with poll or select.
pub(crate) fn polls(id: Id) {
    note_in_sight();
    id.local().polled.store(true, Relaxed);
}

/// Whether the last read waited: then the next one will, too, and may do so at once.
fn waited(id: Id) -> bool {
    id.local().empty_reads.load(Relaxed) == WAITED
}

/// Whether the next read would teach nothing about the waits: the last one waited, or the program is known to wait where
/// the hooks see it and there is no grant yet.
pub(crate) fn are_known(id: Id) -> bool {
    waited(id) || are_in_sight() && !id.local().grant.is_open()
}

/// Whether registrations were seen, and none has to be looked for. That the program has polled once says nothing of its
/// next wait.
fn is_seen_waiting(id: Id) -> bool {
    id.local().registrations.load(Relaxed) != 0 && !PAST_THE_HOOKS.load(Relaxed)
}

/// Whether the reads and writes so far show that the program waits in them, or does not wait at all.
fn is_evident(id: Id) -> bool {
    let l = id.local();
    are_in_sight()
        || l.empty_reads.load(Relaxed) >= CIRCLES
        || l.flow.load(Relaxed) >= FLOW
        || id.endpoint().has_only_written(ONE_WAY)
}

/// Whether it makes sense to ask [`before_promise`], the n-th time that this is asked: less and less often, because an
/// answer costs many system calls.
pub(crate) fn are_to_be_looked_at(id: Id) -> bool {
    let looks = id.local().looks.fetch_add(1, Relaxed);
    looks < 4 || looks.is_power_of_two() || looks < LOOKS && waited(id)
}

/// What is known of the waits before the promise.
pub(crate) fn before_promise(id: Id) -> Waits {
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
        // The program may wait by requests to the io_uring, unless it was seen to wait otherwise; one poll is not enough.
        Look::Ring if waited(id) || registered => Waits::Seen,
        _ if l.looks.load(Relaxed) < LOOKS => Waits::NotYet,
        _ => Waits::Unseen,
    }
}

/// After a call between the transports: takes over the registrations that were made past the hooks since the promise. True
/// if there is one that cannot be taken over.
pub(crate) fn is_unseen(id: Id) -> bool {
    id.endpoint().phase() == Phase::Dual
        && !is_seen_waiting(id)
        && are_to_be_looked_at(id)
        && look(id) == Look::Unseen
        && id.endpoint().phase() == Phase::Dual
}

/// Endpoints that this process has brought between the transports, and that are there still.
static BETWEEN: AtomicU32 = AtomicU32::new(0);

/// Notes that the promise was given.
pub(crate) fn promised(id: Id) {
    if !id.local().between.swap(true, Relaxed) {
        BETWEEN.fetch_add(1, Relaxed);
    }
}

/// Notes that the endpoint is no longer between the transports, or no longer this process's.
pub(crate) fn left_between(id: Id) {
    if id.local().between.swap(false, Relaxed) {
        BETWEEN.fetch_sub(1, Relaxed);
    }
}

/// Before the program waits for an instance: takes over the registrations there that were made past the hooks since the
/// promise.
pub(crate) fn before_wait(epfd: c_int) {
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

/// Before the program's numbers are replaced: takes over the registrations made past the hooks, so that they move with the
/// others.
pub(crate) fn before_replacement(id: Id) {
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

/// Looks for registrations of the endpoint's numbers that are not in the table. `all`: takes over those, too, of instances
/// that the program was not seen to wait for.
fn look_for_all(id: Id, all: bool) -> Look {
    let mut worst = Look::Nothing;
    let mut note = |found: Look| worst = worst.max(found);
    let listed = fdinfo::each_watcher(may_watch, |watcher| match watcher {
        Watcher::Ring(ring) if rings::is_for_files(ring, |number| fds::kind(number) != fds::Kind::Other) => {}
        Watcher::Ring(_) => note(Look::Ring),
        Watcher::Epoll(epfd) => {
            for fd in numbers::numbers_of(id) {
                // It is quicker to ask by a trial registration, where the hooks see the events that it might cause.
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

/// Whether a number may be an epoll instance or an io_uring that the program made: the table knows it as nothing else.
fn may_watch(fd: c_int) -> bool {
    matches!(fds::kind(fd), fds::Kind::Other | fds::Kind::Epoll)
}
