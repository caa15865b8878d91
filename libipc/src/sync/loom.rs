//! loom's atomics behind const constructors, a futex made of its park and unpark, and rules that a test can break to
//! see that its check would notice.
//!
//! To loom a SeqCst access is one that is acquire and release; only fences are SeqCst. So what holds here holds without
//! the total order of accesses, too.

use core::cell::Cell;
use core::hash::{Hash, Hasher};
use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::sync::{Mutex, OnceLock};

use ::loom::sync::atomic::{self, Ordering};
use ::loom::thread::{self as threads, Thread};

/// A rule that the model does not keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    Nothing,
    /// Accesses order nothing around them.
    Order,
    /// Reading and writing back are two steps.
    Atomicity,
    /// Fences do nothing.
    Fence,
    /// A futex does not look at its word before it sleeps.
    Compare,
    /// No thread is woken.
    Wake,
    /// The top bit is lost where a word that was zero is exchanged.
    Mark,
}

thread_local! {
    /// All threads of a model are coroutines of the test's thread.
    static BROKEN: Cell<Broken> = const { Cell::new(Broken::Nothing) };
}

fn is_broken(rule: Broken) -> bool {
    BROKEN.get() == rule
}

/// Explores every interleaving of `model` (of up to `preemptions` preemptions) with one rule broken.
pub fn explore(broken: Broken, preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    BROKEN.set(broken);
    let mut builder = ::loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(model);
    BROKEN.set(Broken::Nothing);
}

fn order(order: Ordering) -> Ordering {
    if is_broken(Broken::Order) { Ordering::Relaxed } else { order }
}

macro_rules! atomic {
    ($name:ident, $int:ty) => {
        /// Belongs to the model in which it is first used. The thread that made it uses it before other threads know of it.
        pub struct $name {
            initial: $int,
            model: OnceLock<atomic::$name>,
            sleepers: Mutex<VecDeque<Thread>>,
        }

        #[allow(dead_code, reason = "one set of methods for every width")]
        impl $name {
            pub const fn new(initial: $int) -> $name {
                $name { initial, model: OnceLock::new(), sleepers: Mutex::new(VecDeque::new()) }
            }

            fn atomic(&self) -> &atomic::$name {
                self.model.get_or_init(|| atomic::$name::new(self.initial))
            }

            pub fn load(&self, o: Ordering) -> $int {
                self.atomic().load(load_order(order(o)))
            }

            pub fn store(&self, new: $int, o: Ordering) {
                self.atomic().store(new, store_order(order(o)));
            }

            pub fn compare_exchange(&self, old: $int, new: $int, o: Ordering, failed: Ordering) -> Result<$int, $int> {
                // The top bit; of a word of which one half is a futex, the top bit of that half.
                let top: $int = 1 << (if <$int>::BITS == 64 { 31 } else { <$int>::BITS - 1 });
                let new = if old == 0 && is_broken(Broken::Mark) { new & !top } else { new };
                self.atomic().compare_exchange(old, new, order(o), order(failed))
            }

            pub fn fetch_update(
                &self,
                o: Ordering,
                failed: Ordering,
                mut f: impl FnMut($int) -> Option<$int>,
            ) -> Result<$int, $int> {
                if is_broken(Broken::Atomicity) {
                    let old = self.load(failed);
                    let new = f(old).ok_or(old)?;
                    self.store(new, o);
                    return Ok(old);
                }
                let mut old = self.load(failed);
                while let Some(new) = f(old) {
                    match self.compare_exchange(old, new, o, failed) {
                        Ok(_) => return Ok(old),
                        Err(now) => old = now,
                    }
                }
                Err(old)
            }

            pub fn swap(&self, new: $int, o: Ordering) -> $int {
                if std::thread::panicking() {
                    // A guard is dropped because the check failed: the model is gone.
                    return self.initial;
                }
                self.atomic().swap(new, order(o))
            }

            pub fn fetch_add(&self, n: $int, o: Ordering) -> $int {
                self.atomic().fetch_add(n, order(o))
            }

            pub fn fetch_sub(&self, n: $int, o: Ordering) -> $int {
                if is_broken(Broken::Atomicity) {
                    let old = self.load(o);
                    self.store(old - n, o);
                    return old;
                }
                self.atomic().fetch_sub(n, order(o))
            }

            pub fn fetch_max(&self, n: $int, o: Ordering) -> $int {
                self.atomic().fetch_max(n, order(o))
            }
        }
    };
}

atomic!(AtomicU8, u8);
atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);
atomic!(AtomicI32, i32);

fn load_order(order: Ordering) -> Ordering {
    if matches!(order, Ordering::AcqRel | Ordering::Release) { Ordering::Acquire } else { order }
}

fn store_order(order: Ordering) -> Ordering {
    if matches!(order, Ordering::AcqRel | Ordering::Acquire) { Ordering::Release } else { order }
}

pub fn fence(order: Ordering) {
    if !is_broken(Broken::Fence) {
        atomic::fence(order);
    }
}

/// futex(2): to the thread that wakes, the comparison and the falling asleep are one step, as loom changes threads only
/// where one of its own objects is used. The kernel reads the word itself, not an older value that a thread may still see.
///
/// Always false: there is no timeout.
pub fn futex_wait(word: &AtomicU64, expected: u32) -> bool {
    if word.atomic().fetch_or(0, Ordering::AcqRel) as u32 == expected || is_broken(Broken::Compare) {
        word.sleepers.lock().unwrap().push_back(threads::current());
        threads::park();
    }
    false
}

/// Wakes one thread.
pub fn futex_wake(word: &AtomicU64) {
    let sleeper = word.sleepers.lock().unwrap().pop_front();
    if let Some(sleeper) = sleeper
        && !is_broken(Broken::Wake)
    {
        sleeper.unpark();
    }
}

/// Something in place of a thread pointer, different for every thread of the model.
pub fn thread() -> usize {
    let mut hasher = DefaultHasher::new();
    threads::current().id().hash(&mut hasher);
    hasher.finish() as usize
}
