//! The pins of an entry that is released while other threads look it up.

use std::sync::Arc;

use ::loom::cell::UnsafeCell;
use ::loom::sync::atomic::{AtomicU32, Ordering::*};
use ::loom::thread;

use super::{AtomicU32 as Word, Pins};
use crate::sync::loom::{Broken, explore};

const LIVES: u32 = 1;
const RELEASED: u32 = 2;

struct Entry {
    pins: Pins,
    /// What users of the entry read and its releaser writes, with no other protection: loom reports both at a time.
    content: UnsafeCell<u32>,
    released: AtomicU32,
}

// SAFETY: the pins guard the content, which is what these tests are to show.
unsafe impl Sync for Entry {}

impl Entry {
    fn new() -> Arc<Entry> {
        let entry = Entry { pins: Pins(Word::new(0)), content: UnsafeCell::new(LIVES), released: AtomicU32::new(0) };
        entry.pins.hold();
        Arc::new(entry)
    }

    fn look(&self) {
        // SAFETY: the entry is pinned; loom checks that no thread writes.
        assert_eq!(self.content.with(|content| unsafe { *content }), LIVES, "used after its release");
    }

    fn unpin(&self) {
        if self.pins.unpin() {
            // SAFETY: no thread uses the entry any more; loom checks that.
            self.content.with_mut(|content| unsafe { *content = RELEASED });
            self.released.fetch_add(1, Relaxed);
        }
    }

    /// What a call does.
    fn call(&self, pin: fn(&Pins) -> bool) {
        if pin(&self.pins) {
            self.look();
            self.unpin();
        }
    }
}

fn let_go_during(calls: u32, pin: fn(&Pins) -> bool) {
    let entry = Entry::new();
    let callers: Vec<_> = (0..calls)
        .map(|_| {
            let entry = entry.clone();
            thread::spawn(move || entry.call(pin))
        })
        .collect();
    // The program closes its last descriptor.
    entry.unpin();
    for caller in callers {
        caller.join().unwrap();
    }
    assert_eq!(entry.released.load(Relaxed), 1, "releases");
    assert!(!entry.pins.pin(), "pinned after its release");
}

#[test]
fn an_entry_is_released_once_and_not_while_a_call_uses_it() {
    explore(Broken::Nothing, None, || let_go_during(1, Pins::pin));
    explore(Broken::Nothing, Some(4), || let_go_during(2, Pins::pin));
}

/// The thread that releases the entry makes it anew, for the next socket: a call sees either the old entry or the new one.
#[test]
fn an_entry_that_is_used_again_is_whole() {
    explore(Broken::Nothing, None, || {
        let entry = Entry::new();
        let caller = {
            let entry = entry.clone();
            thread::spawn(move || entry.call(Pins::pin))
        };
        if entry.pins.unpin() {
            // SAFETY: no thread uses the entry any more; loom checks that.
            entry.content.with_mut(|content| unsafe { *content = LIVES });
            entry.pins.hold();
            entry.look();
            entry.unpin();
        }
        caller.join().unwrap();
        assert_eq!(entry.released.load(Relaxed), 1, "releases");
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_looking_for_zero_the_check_fails() {
    explore(Broken::Nothing, None, || {
        let_go_during(1, |pins| {
            pins.0.fetch_add(1, SeqCst);
            true
        });
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn with_a_look_before_the_increment_the_check_fails() {
    explore(Broken::Atomicity, None, || let_go_during(1, Pins::pin));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_acquire_and_release_the_check_fails() {
    explore(Broken::Order, None, || let_go_during(1, Pins::pin));
}
