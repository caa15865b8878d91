//! What threads synchronize by, in the modules that loom explores: the machine's atomics and the kernel's futex, or in
//! tests under `--cfg loom` a model of them (`RUSTFLAGS="--cfg loom" cargo test -p libipc --release loom`).

#[cfg(all(test, loom))]
pub mod loom;
#[cfg(all(test, loom))]
pub use self::loom::{AtomicI32, AtomicU8, AtomicU32, AtomicU64, fence, futex_wait, futex_wake, thread};

#[cfg(not(all(test, loom)))]
pub(crate) use core::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64, fence};

#[cfg(not(all(test, loom)))]
pub(crate) use crate::sys::{futex_wait, futex_wake, thread};
