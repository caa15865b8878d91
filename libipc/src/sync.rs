//! What threads meet on, for the modules whose meetings are explored: the machine's atomics and the kernel's futex, or
//! in tests under `--cfg loom` a model of them (`RUSTFLAGS="--cfg loom" cargo test -p libipc --release loom`).

#[cfg(all(test, loom))]
pub mod loom;
#[cfg(all(test, loom))]
pub use self::loom::{AtomicI32, AtomicU8, AtomicU32, fence, futex_wait, futex_wake, nap, thread};

#[cfg(not(all(test, loom)))]
pub use core::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, fence};

#[cfg(not(all(test, loom)))]
pub use crate::sys::{futex_wait, futex_wake, nap};

/// The calling thread's thread pointer, free to ask for.
#[cfg(not(all(test, loom)))]
pub fn thread() -> usize {
    let thread: usize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: on x86-64 the word at fs:0 is the thread control block's own address (System V ABI, TLS variant II).
    unsafe {
        core::arch::asm!("mov {}, fs:0", out(reg) thread, options(nostack, preserves_flags, readonly));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads the thread pointer register.
    unsafe {
        core::arch::asm!("mrs {}, tpidr_el0", out(reg) thread, options(nostack, nomem, preserves_flags));
    }
    thread
}
