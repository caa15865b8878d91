//! What ipcd asks of a connection before it is moved.

use core::sync::atomic::{AtomicU32, Ordering::*};

use matcher::wire::Terms;

/// N; 0 until ipcd has said it.
static PREFIX_BYTES: AtomicU32 = AtomicU32::new(0);
/// What a connection has to show before it is offered; see [`Terms`].
static PATIENCE: AtomicU32 = AtomicU32::new(0);
static SMALL_WRITES: AtomicU32 = AtomicU32::new(0);

/// ipcd has said them.
pub fn set(terms: Terms) {
    let Terms { prefix_bytes, patience, small_writes } = terms;
    PATIENCE.store(patience, Relaxed);
    SMALL_WRITES.store(small_writes, Relaxed);
    PREFIX_BYTES.store(prefix_bytes, Relaxed);
}

/// N, the prefix length in bytes; 0 while it is not known.
pub fn prefix_bytes() -> u32 {
    PREFIX_BYTES.load(Relaxed)
}

/// How many changes of direction make a connection worth moving, or times 16 KiB.
pub fn patience() -> u32 {
    PATIENCE.load(Relaxed)
}

/// Which writes, in bytes, are too small to move a connection that has nothing else; 0: none are.
pub fn small_writes() -> u32 {
    SMALL_WRITES.load(Relaxed)
}
