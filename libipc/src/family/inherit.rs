//! What a program is given on its way through exec or spawn: which endpoints its descriptors are.
//!
//! The state of an endpoint lies in the family's memory (`family`), whose file goes along. The rest was in private memory
//! of the program before. The hidden descriptors are written down ([`Carried`]); the program's numbers are found again
//! by the cookie of the socket behind each, whatever was closed or duplicated on the way.

use core::ffi::{CStr, c_char};
use core::sync::atomic::Ordering::*;

use libc::c_int;
use matcher::reason::Reason;

use super::{Carried, Entry, MOST};
use crate::endpoint::{self, Id, Pinned, numbers};
use crate::fds::{self, Kind};
use crate::host::fdinfo;
use crate::switch::stay::stay;
use crate::switch::{Phase, drive, land};
use crate::transport::ancillary;
use crate::{family, sys};

/// Whether the program's numbers may change on the way to the next program.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    Kept,
    Changed,
}

/// The environment variable that names the memory: layout, file, slot, nonce.
const VARIABLE: &[u8] = b"IPCD_STATE=";
/// Identifies the layout of the memory: a shim of another build does not touch memory of this one.
const LAYOUT: u32 = {
    let mut sum = size_of::<family::Family>() as u32;
    let mut version = env!("CARGO_PKG_VERSION").as_bytes();
    while let [byte, rest @ ..] = version {
        sum = sum.wrapping_mul(31).wrapping_add(*byte as u32);
        version = rest;
    }
    sum
};

fn carried(slot: usize) -> Option<&'static Carried> {
    family::family().and_then(|f| f.carried.get(slot))
}

/// Whether the endpoint has a number of this program that the next program will have, too.
pub(crate) fn is_inherited(id: Id) -> bool {
    numbers::numbers_of(id).any(|fd| sys::fcntl(fd, libc::F_GETFD, 0) & libc::FD_CLOEXEC as isize == 0)
}

/// The endpoints that a program executed now would inherit and has to know of: not those that stay on TCP.
pub(crate) fn inherited() -> impl Iterator<Item = Id> + Clone {
    endpoint::held().filter(|id| id.endpoint().phase() != Phase::Stay && is_inherited(*id))
}

/// Called when a program is about to be started that may write to the endpoints that it inherits, where no hook sees it. A
/// program without the shim may keep them, too.
pub(crate) fn goes_to_a_program(concerned: impl Fn(Id) -> bool, knows: bool) {
    for id in endpoint::held().filter(|id| concerned(*id)) {
        let e = id.endpoint();
        e.wrote.raise_if(e.phase() == Phase::Final);
        e.handed.raise_if(!knows);
    }
}

/// Called when a program is about to be started. It does not learn of the endpoints that stay on TCP, so no process can
/// know how long it has them.
pub(crate) fn stays_go_along(by_action: bool) {
    let lent = |id: &Id| id.endpoint().phase() == Phase::Stay && id.local().lent.load(Relaxed);
    for id in endpoint::held().filter(lent) {
        let goes = by_action && id.local().named.load(Relaxed) || is_inherited(id);
        id.endpoint().handed.raise_if(goes);
    }
}

/// Endpoints made ready for the next program of a slot, and the environment variable that tells the program of them.
pub(crate) struct Packed {
    slot: usize,
    variable: [u8; 64],
}

impl Packed {
    /// Writes down the hidden descriptors of `ids` and lets them through. If there are more endpoints than can be written
    /// down, the rest goes on over TCP; those that other processes hold, too, wait until this program has ended.
    pub(crate) fn new(slot: usize, mut ids: impl Iterator<Item = Id> + Clone, numbers: Numbers) -> Packed {
        if let Some(c) = carried(slot) {
            for entry in &c.entries {
                match ids.next() {
                    Some(id) => entry.write(id),
                    None => entry.endpoint.store(0, Relaxed),
                }
            }
            let more = ids.clone().next().is_some();
            c.more.lower();
            c.more.raise_if(more);
            if more {
                family::reclaim_dead();
                let goes_along = |id: Id| c.entries.iter().any(|e| e.endpoint.load(Relaxed) == id.index + 1);
                drive::land_all(|id| !goes_along(id) && is_inherited(id), Reason::TableFull);
                for id in ids.filter(|id| id.holders().is_sole()) {
                    stay(id, Reason::TableFull);
                }
            }
            c.renumbered.lower();
            c.renumbered.raise_if(numbers == Numbers::Changed);
        }
        keep_over_exec(family::file(), true);
        let mut text = Text { bytes: [0; 64], len: 0 };
        text.push(VARIABLE);
        for number in [LAYOUT, family::file() as u32, slot as u32, family::nonce(slot)] {
            text.number(number);
            text.push(b":");
        }
        Packed { slot, variable: text.bytes }
    }

    /// `IPCD_STATE=…`, terminated.
    pub(crate) fn variable(&self) -> *const c_char {
        self.variable.as_ptr().cast()
    }
}

impl Drop for Packed {
    /// exec has failed and this program goes on, or the child has its copies: no descriptor goes through any more.
    fn drop(&mut self) {
        for entry in carried(self.slot).iter().flat_map(|c| &c.entries) {
            for fd in [entry.tcp.load(Relaxed), entry.unix.load(Relaxed)] {
                keep_over_exec(fd, false);
            }
        }
        keep_over_exec(family::file(), false);
    }
}

impl Entry {
    fn write(&self, id: Id) {
        let l = id.local();
        self.generation.store(id.generation(), Relaxed);
        self.unix_cookie.store(l.unix_cookie.load(Relaxed), Relaxed);
        let single = l.fds.load(SeqCst) == 1;
        self.number.store(if single { l.fd.load(SeqCst) } else { -1 }, Relaxed);
        self.tcp.store(l.tcp.load(Acquire), Relaxed);
        l.unix.leave_to(&self.unix);
        for number in [&self.tcp, &self.unix] {
            keep_over_exec(number.load(Relaxed), true);
        }
        self.endpoint.store(id.index + 1, Release);
    }

    /// The endpoint, with its hidden descriptors, in the program that was given it.
    fn read(&self) -> Option<Pinned> {
        let index = self.endpoint.swap(0, AcqRel).checked_sub(1)?;
        let id = endpoint::resume(index, self.generation.load(Relaxed))?;
        id.local().unix_cookie.store(self.unix_cookie.load(Relaxed), Relaxed);
        let [tcp, unix] = [&self.tcp, &self.unix].map(|number| number.load(Relaxed));
        if keep_over_exec(tcp, false) {
            fds::mark(tcp, Kind::Hidden);
            id.local().tcp.store(tcp, SeqCst);
        }
        if keep_over_exec(unix, false) {
            id.local().unix.resume(unix);
        }
        ancillary::note(*id, id.local().tcp.load(Acquire));
        Some(id)
    }
}

fn keep_over_exec(fd: c_int, keep: bool) -> bool {
    fd >= 0 && sys::fcntl(fd, libc::F_SETFD, if keep { 0 } else { libc::FD_CLOEXEC as usize }) >= 0
}

struct Text {
    bytes: [u8; 64],
    len: usize,
}

impl Text {
    fn push(&mut self, part: &[u8]) {
        for byte in part {
            if let Some(to) = self.bytes.get_mut(self.len) {
                *to = *byte;
                self.len += 1;
            }
        }
    }

    fn number(&mut self, n: u32) {
        if n >= 10 {
            self.number(n / 10);
        }
        self.push(&[b'0' + (n % 10) as u8]);
    }
}

/// In the constructor: takes up what the program before this one left, and takes the variable out of `environment`.
///
/// # Safety
/// `environment` is the program's list of strings, null or ended by a null, which no other thread looks at.
pub(crate) unsafe fn take_up(environment: *mut *const c_char) {
    // SAFETY: as the caller promises.
    let Some(value) = (unsafe { remove(environment) }) else { return };
    let mut numbers = value.split(|b| *b == b':').map(|n| core::str::from_utf8(n).ok().and_then(|n| n.parse().ok()));
    let mut next = || numbers.next().flatten().unwrap_or(u32::MAX);
    let (layout, file, slot, nonce) = (next(), next() as c_int, next() as usize, next());
    if layout != LAYOUT || slot >= family::SLOTS || !sys::is_memory_file(file, size_of::<family::Family>()) {
        return;
    }
    if !family::join(file, slot, nonce) {
        sys::close(file);
        return;
    }
    keep_over_exec(file, false);
    fds::mark(file, Kind::Hidden);
    if endpoint::prepare(land::released) {
        resume(slot);
    }
}

fn resume(slot: usize) {
    super::carried::note_resumed();
    let Some(carried) = carried(slot) else { return };
    let mut kept = [const { None }; MOST];
    let mut all_found = !carried.renumbered.is_raised();
    for (to, entry) in kept.iter_mut().zip(&carried.entries) {
        *to = entry.read();
        if let Some(id) = to {
            all_found &= find(entry.number.load(Relaxed), core::iter::once(&*id));
        }
    }
    let search = |fd: c_int| {
        find(fd, kept.iter().flatten());
    };
    if !all_found && fdinfo::each_descriptor(search).is_none() {
        // Without /proc: the numbers that a program is likely to be given.
        (0..1024).for_each(search);
    }
    if carried.more.take() {
        // This program holds the endpoints that it does not know of until it ends.
        return;
    }
    // An endpoint that came along without a number is released at the end of this function. Of those that did not come
    // along, only the holder's bit is left: it is removed.
    for id in endpoint::held() {
        if !kept.iter().flatten().any(|k| **k == id) {
            land::never_had(id);
        }
    }
}

/// Whether the number is one of these endpoints; then it is put into the table.
fn find<'a>(fd: c_int, ids: impl Iterator<Item = &'a Pinned>) -> bool {
    let cookie = sys::getsockopt::<u64>(fd, libc::SOL_SOCKET, libc::SO_COOKIE).unwrap_or(0);
    for id in ids.filter(|_| cookie != 0 && fds::kind(fd) == Kind::Other) {
        let kind = match cookie {
            c if c == id.endpoint().birth().cookie => Kind::Active,
            c if c == id.local().unix_cookie.load(Relaxed) => Kind::Final,
            _ => continue,
        };
        return numbers::bind(fd, **id, kind);
    }
    false
}

/// Takes the variable out of the environment and returns its value.
unsafe fn remove(environment: *mut *const c_char) -> Option<&'static [u8]> {
    let mut at = environment;
    let mut found = None;
    // SAFETY: the list ends with a null.
    while !at.is_null() && !unsafe { *at }.is_null() {
        // SAFETY: each entry is a terminated string, which lives as long as the process.
        let text: &'static [u8] = unsafe { CStr::from_ptr(*at) }.to_bytes();
        if let Some(value) = text.strip_prefix(VARIABLE) {
            found = Some(value);
            let mut from = at;
            // SAFETY: the list ends with a null, which is moved, too.
            unsafe {
                while !(*from).is_null() {
                    *from = *from.add(1);
                    from = from.add(1);
                }
            }
        } else {
            // SAFETY: the list has not ended.
            at = unsafe { at.add(1) };
        }
    }
    found
}
