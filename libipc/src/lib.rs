//! libipc: preloaded into a program, it moves the program's TCP streams to other programs of the same host onto
//! Unix-domain sockets, in mid-stream, at an exact byte.
//!
//! A call enters through [`symbols`]; [`fds`] tells whether its descriptor is an endpoint's; [`calls`] does what the call is
//! for, and on the way drives the [`switch`]. `docs/architecture.md` shows the floors that the modules are on,
//! `docs/switch.md` explains the protocol, `docs/signal-safety.md` the rules for all code here.
#![cfg_attr(not(test), no_std)]
// Under test nothing is exported, so much of the table looks unused.
#![cfg_attr(test, allow(dead_code))]
#![allow(missing_docs, reason = "nothing of this is a Rust API; what needs words has them")]

mod calls;
mod endpoint;
mod family;
mod fds;
mod host;
mod ipcd;
mod names;
mod offsets;
mod pins;
mod prefix;
mod readiness;
mod scratch;
mod stream;
mod switch;
mod symbols;
mod sync;
mod sys;
mod transport;

/// There is no allocator: an allocation would fail, and no code here makes one.
#[cfg(not(test))]
mod no_heap {
    struct NoHeap;

    // SAFETY: never hands out memory.
    unsafe impl core::alloc::GlobalAlloc for NoHeap {
        unsafe fn alloc(&self, _: core::alloc::Layout) -> *mut u8 {
            core::ptr::null_mut()
        }
        unsafe fn dealloc(&self, _: *mut u8, _: core::alloc::Layout) {}
    }

    #[global_allocator]
    static NO_HEAP: NoHeap = NoHeap;
}

/// No code here panics (docs/signal-safety.md says how that is kept); the language requires a handler all the same.
#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        sys::yield_now();
    }
}

/// Runs when the loader has mapped the program, before main. Hooks may have been called already.
#[cfg(not(test))]
extern "C" fn constructor(
    _: core::ffi::c_int,
    _: *const *const core::ffi::c_char,
    environment: *mut *const core::ffi::c_char,
) {
    let _errno = host::guard::Errno::keep();
    // Without this, no ipcd is looked for, and every connection stays on TCP.
    if !family::fork::watch_forks() {
        return;
    }
    ipcd::path::remember_environment();
    host::threads::remember_threads();
    // SAFETY: the loader passes the program's environment, and no other code of the program runs yet.
    unsafe { family::inherit::take_up(environment) };
}

#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn(core::ffi::c_int, *const *const core::ffi::c_char, *mut *const core::ffi::c_char) =
    constructor;
