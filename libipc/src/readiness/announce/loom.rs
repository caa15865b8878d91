//! Waiters and kicks, over every interleaving. The events are made of the model's words: a thread that sleeps on a phase
//! that is over is a deadlock, which loom reports.

use core::sync::atomic::AtomicI32;
use core::sync::atomic::Ordering::*;
use std::sync::Arc;

use ::loom::thread;
use libc::c_int;

use super::{Board, FREE};
use crate::endpoint::Id;
use crate::endpoint::phase::PhaseCell;
use crate::switch::Phase;
use crate::sync::loom::{Broken, explore};
use crate::sync::{AtomicU64, futex_wait, futex_wake};

/// eventfd(2), of a word that threads can sleep on.
struct Event(AtomicU64);

impl Event {
    fn new() -> Event {
        let count = AtomicU64::new(0);
        count.load(Relaxed);
        Event(count)
    }

    fn write(&self) {
        self.0.fetch_add(1, AcqRel);
        futex_wake(&self.0);
    }

    /// What poll(2) does: the event stays readable.
    fn sleep(&self) {
        while self.0.fetch_add(0, AcqRel) == 0 {
            futex_wait(&self.0, 0);
        }
    }

    fn empty(&self) {
        self.0.swap(0, AcqRel);
    }
}

/// What a waiter does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// Announces itself only after its last look at the phase.
    LooksFirst,
    /// Empties the event when the parker may be another thread's.
    EmptiesLate,
}

/// A process of two endpoints, both `Waiting`, with threads that wait for them to become `Adopting`.
struct Process<const PARKERS: usize> {
    phases: [PhaseCell; 2],
    board: Board<PARKERS>,
    /// Event i is descriptor i.
    events: [Event; PARKERS],
    made: AtomicI32,
}

const A: Id = Id { index: 0 };
const B: Id = Id { index: 1 };

impl<const PARKERS: usize> Process<PARKERS> {
    fn new() -> Arc<Self> {
        let process = Process {
            phases: [const { PhaseCell::at(Phase::Waiting) }; 2],
            board: Board::new(),
            events: [(); PARKERS].map(|()| Event::new()),
            made: AtomicI32::new(0),
        };
        // The model's words are made by their first use.
        process.phases.iter().for_each(|phase| assert!(phase.get() == Phase::Waiting));
        process.board.parkers.iter().for_each(|parker| parker.withdraw(|_| ()));
        process.board.forget(|_| ());
        Arc::new(process)
    }

    fn event(&self, event: c_int) -> &Event {
        &self.events[event as usize]
    }

    /// Whether what a thread waits for has happened.
    fn is_over(&self, on: Option<Id>) -> bool {
        let mut phases =
            self.phases.iter().enumerate().filter(|(index, _)| on.is_none_or(|id| id.index == *index as u32));
        phases.any(|(_, phase)| phase.get() != Phase::Waiting)
    }

    /// What a blocking call does on an endpoint, or poll(2) on both (`None`).
    fn wait(&self, on: Option<Id>, wrong: Wrong) {
        while !self.is_over(on) {
            let Some(parker) = self.board.announce(on, || Some(self.made.fetch_add(1, Relaxed))) else {
                thread::yield_now();
                continue;
            };
            if wrong == Wrong::LooksFirst || !self.is_over(on) {
                self.event(parker.event()).sleep();
            }
            if wrong == Wrong::EmptiesLate {
                parker.waits_for.store(FREE, SeqCst);
                self.event(parker.event()).empty();
            } else {
                parker.withdraw(|event| self.event(event).empty());
            }
        }
    }

    fn change(&self, id: Id) {
        assert!(self.phases[id.index as usize].advance(Phase::Waiting, Phase::Adopting));
        self.board.kick(Some(id), |event| self.event(event).write());
    }
}

/// Some threads wait, each for its endpoint, while this thread changes the phases of `changed`.
fn run<const PARKERS: usize>(waiters: &[Option<Id>], changed: &[Id], wrong: Wrong) {
    let process = Process::<PARKERS>::new();
    let waiters: Vec<_> = waiters
        .iter()
        .map(|on| {
            let (process, on) = (process.clone(), *on);
            thread::spawn(move || process.wait(on, wrong))
        })
        .collect();
    changed.iter().for_each(|id| process.change(*id));
    for waiter in waiters {
        waiter.join().unwrap();
    }
}

#[test]
fn a_waiter_sees_every_change() {
    explore(Broken::Nothing, None, || run::<1>(&[Some(A)], &[A], Wrong::Nothing));
    explore(Broken::Nothing, None, || run::<1>(&[None], &[B], Wrong::Nothing));
}

#[test]
fn two_waiters_see_every_change() {
    explore(Broken::Nothing, Some(3), || run::<2>(&[Some(A), Some(A)], &[A], Wrong::Nothing));
    explore(Broken::Nothing, Some(3), || run::<2>(&[Some(A), None], &[A], Wrong::Nothing));
}

#[test]
fn a_parker_that_changes_hands_loses_no_wake_up() {
    explore(Broken::Nothing, Some(3), || run::<1>(&[Some(A), Some(B)], &[A, B], Wrong::Nothing));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_fences_the_check_fails() {
    explore(Broken::Fence, None, || run::<1>(&[Some(A)], &[A], Wrong::Nothing));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_a_look_after_the_announcement_the_check_fails() {
    explore(Broken::Nothing, None, || run::<1>(&[Some(A)], &[A], Wrong::LooksFirst));
}

#[test]
#[should_panic(expected = "deadlock")]
fn with_the_event_emptied_late_the_check_fails() {
    explore(Broken::Nothing, Some(3), || run::<1>(&[Some(A), Some(B)], &[A, B], Wrong::EmptiesLate));
}
