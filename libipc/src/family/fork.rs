//! What happens around fork.
//!
//! Each page that the child writes to is copied. So the variables that it has to write lie together (section
//! `.data.fork`), and a value that is already right is not written.

use core::sync::atomic::{AtomicUsize, Ordering::*};

use libc::{c_int, c_void};

use crate::host::{confine, process};
use crate::ipcd::{link, report};
use crate::readiness::{park, registrations};
use crate::switch::stay::stay;
use crate::symbols::real::symbol;
use crate::{endpoint, family, fds};

/// The slot that this process's next child gets.
#[unsafe(link_section = ".data.fork")]
static CHILD_SLOT: AtomicUsize = AtomicUsize::new(NONE);
const NONE: usize = usize::MAX;
/// Before fork: the child will hold every endpoint that this process holds. From here on no process may adopt one alone.
pub(crate) extern "C" fn before_fork() {
    registrations::hold_over_fork();
    if family::family().is_none() {
        return;
    }
    if confine::is_confined() {
        // The child cannot have a slot: no other process would find out when it has ended.
        return endpoint::held().for_each(|id| id.endpoint().spoil());
    }
    let child = family::expect_child();
    CHILD_SLOT.store(child.unwrap_or(NONE), SeqCst);
    for id in endpoint::held() {
        match child {
            None => drop(stay(id, matcher::reason::Reason::TableFull)),
            Some(child) => id.holders().add(child),
        }
    }
}

/// After fork, in the parent.
pub(crate) extern "C" fn after_fork_in_parent() {
    registrations::release_after_fork();
}

/// After fork, in the child.
pub(crate) extern "C" fn after_fork_in_child() {
    registrations::release_after_fork();
    if confine::is_confined() {
        return fds::clear();
    }
    process::announce();
    fds::Turn::reset();
    link::forget_connection();
    report::forget();
    park::forget_parkers();
    if family::family().is_none() {
        return;
    }
    match CHILD_SLOT.swap(NONE, SeqCst) {
        NONE => endpoint::abandon(),
        slot if family::occupy(slot) => endpoint::adopt_in_child(),
        _ => endpoint::abandon(),
    }
}

/// fork has returned in the parent: notes which process the child is, or that there is none.
pub(crate) fn forked(pid: c_int) {
    let slot = CHILD_SLOT.swap(NONE, SeqCst);
    match slot {
        NONE => {}
        slot if pid < 0 => family::free(slot),
        slot => family::child_is(slot, pid),
    }
}

type RegisterAtfork = unsafe extern "C" fn(extern "C" fn(), extern "C" fn(), extern "C" fn(), *const c_void) -> c_int;

/// Asks libc to call the handlers around fork() and daemon(). False if this libc is not glibc: another libc ends the
/// program if it does not find a symbol that the object names, so the object looks this one up without naming it.
pub(crate) fn watch_forks() -> bool {
    process::announce();
    let register = symbol(libc::RTLD_DEFAULT, c"__register_atfork");
    // SAFETY: null, or glibc's function of this name; null is None.
    let register: Option<RegisterAtfork> = unsafe { core::mem::transmute(register) };
    let Some(register) = register else { return false };
    // SAFETY: the handlers are functions of this object, which is never unloaded (linked with -z nodelete).
    unsafe { register(before_fork, after_fork_in_parent, after_fork_in_child, core::ptr::null()) };
    true
}
