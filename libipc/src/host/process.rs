//! Which process this is.

use core::sync::atomic::{AtomicI32, Ordering::*};

use super::confine;
use crate::sys;

/// The process that the statics describe; a calling process with another id is a child that no hook announced.
#[unsafe(link_section = ".data.fork")]
static OWNER: AtomicI32 = AtomicI32::new(0);

/// Whether the statics describe the calling process. Not so in the child of a raw clone or of `_Fork`: what it closes,
/// its parent still has.
pub(crate) fn is_announced() -> bool {
    confine::is_confined() || OWNER.load(Relaxed) == sys::getpid()
}

/// The statics describe the calling process from now on.
pub(crate) fn announce() {
    OWNER.store(sys::getpid(), SeqCst);
}
