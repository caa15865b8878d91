//! The lock, over every interleaving of few threads. Threads sleep on the word in the model (see `sync`): a wake-up that
//! is lost is a deadlock, which loom reports.

use std::sync::Arc;

use ::loom::cell::UnsafeCell;
use ::loom::thread;

use super::Lock;
use crate::sync::loom::{Broken, explore};

struct Guarded {
    lock: Lock,
    count: UnsafeCell<u32>,
}

// SAFETY: the lock guards the count, which is what these tests are to show.
unsafe impl Sync for Guarded {}

impl Guarded {
    fn new() -> Arc<Guarded> {
        let guarded = Guarded { lock: Lock::new(), count: UnsafeCell::new(0) };
        // The model's word is made by its first use.
        drop(guarded.lock.lock());
        Arc::new(guarded)
    }

    fn increment(&self) {
        let _held = self.lock.lock().expect("no other thread looks like this one");
        // SAFETY: the lock is held; loom checks that no other thread is here.
        self.count.with_mut(|count| unsafe { *count += 1 });
    }
}

fn contend(threads: u32) {
    let guarded = Guarded::new();
    let others: Vec<_> = (1..threads)
        .map(|_| {
            let guarded = guarded.clone();
            thread::spawn(move || guarded.increment())
        })
        .collect();
    guarded.increment();
    for other in others {
        other.join().unwrap();
    }
    // SAFETY: the other threads have ended.
    assert_eq!(guarded.count.with(|count| unsafe { *count }), threads);
}

#[test]
fn two_threads_exclude_each_other_and_neither_sleeps_for_ever() {
    explore(Broken::Nothing, None, || contend(2));
}

#[test]
fn three_threads_exclude_each_other_and_none_sleeps_for_ever() {
    explore(Broken::Nothing, Some(3), || contend(3));
}

#[test]
fn the_owner_is_told_so_whether_others_wait_or_not() {
    explore(Broken::Nothing, None, || {
        let guarded = Guarded::new();
        let other = {
            let guarded = guarded.clone();
            thread::spawn(move || guarded.increment())
        };
        let held = guarded.lock.lock().expect("not held by this thread");
        assert!(guarded.lock.lock().is_none(), "a second hold");
        thread::yield_now();
        assert!(guarded.lock.lock().is_none(), "a second hold, after others came");
        drop(held);
        guarded.increment();
        other.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_acquire_and_release_the_check_fails() {
    explore(Broken::Order, None, || contend(2));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_a_wake_up_the_check_fails() {
    explore(Broken::Wake, None, || contend(2));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_comparing_before_the_sleep_the_check_fails() {
    explore(Broken::Compare, None, || contend(2));
}

/// A thread that was woken does not know whether others still sleep: it must leave the mark for them.
#[test]
#[should_panic(expected = "deadlock")]
fn without_the_mark_for_the_successor_the_check_fails() {
    explore(Broken::Mark, Some(3), || contend(3));
}
