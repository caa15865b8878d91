//! What ipcd requires of a connection before the connection is moved.

use core::sync::atomic::{AtomicU32, Ordering::*};

use matcher::wire::Terms;

/// N; 0 until ipcd has said it.
static PREFIX_BYTES: AtomicU32 = AtomicU32::new(0);
/// What a connection has to show before it is offered; see [`Terms`].
static PATIENCE: AtomicU32 = AtomicU32::new(0);
static SMALL_WRITES: AtomicU32 = AtomicU32::new(0);

/// Takes over the terms that ipcd has sent.
pub(crate) fn set(terms: Terms) {
    let Terms { prefix_bytes, patience, small_writes } = terms;
    PATIENCE.store(patience, Relaxed);
    SMALL_WRITES.store(small_writes, Relaxed);
    PREFIX_BYTES.store(prefix_bytes, Relaxed);
}

/// N, the prefix length in bytes; 0 while it is not known.
pub(crate) fn prefix_bytes() -> u32 {
    PREFIX_BYTES.load(Relaxed)
}

/// How many changes of direction, or how many times 16 KiB, make a connection worth moving.
pub(crate) fn patience() -> u32 {
    PATIENCE.load(Relaxed)
}

/// Below how many bytes writes are too small to move a connection that has no others; 0: none are.
pub(crate) fn small_writes() -> u32 {
    SMALL_WRITES.load(Relaxed)
}
