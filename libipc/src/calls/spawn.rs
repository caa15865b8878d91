//! Children made without fork: they may inherit endpoints, and until it is known whether they do they count as holders.

use core::ffi::c_char;
use core::sync::atomic::{AtomicUsize, Ordering::*};

use libc::{FILE, c_int, pid_t, posix_spawn_file_actions_t, posix_spawnattr_t};

use super::exec::{List, Longer, concerns_us};
use crate::family;
use crate::guard::Errno;
use crate::hooks::real;
use crate::inherit::{self, Numbers, Packed};
use crate::program::Program;

/// The pipes of popen by the slot of their child.
static PIPES: [AtomicUsize; family::SLOTS] = [const { AtomicUsize::new(0) }; family::SLOTS];

/// A slot for a child that this process is about to spawn, among the holders of whatever it inherits. `None`: it
/// inherits nothing.
fn expect() -> Option<usize> {
    if !concerns_us() {
        return None;
    }
    let slot = family::expect_child()?;
    for id in inherit::inherited() {
        id.holders().add(slot);
    }
    inherit::goes_to_a_program(inherit::is_inherited);
    Some(slot)
}

fn expect_quietly() -> Option<usize> {
    let _errno = Errno::keep();
    expect()
}

unsafe fn spawn(
    pid: *mut pid_t,
    program: Program,
    actions: *const posix_spawn_file_actions_t,
    list: List,
    call: impl Fn(*mut pid_t, List) -> c_int,
) -> c_int {
    let errno = Errno::keep();
    if !actions.is_null() && family::family().is_some() {
        // They may give it numbers that would not go along by themselves.
        inherit::goes_to_a_program(|_| true);
    }
    let Some(slot) = expect() else {
        drop(errno);
        return call(pid, list);
    };
    // SAFETY: the program's own arguments.
    let knows = family::file() >= 0 && unsafe { program.loads_shim(list) } == Some(true);
    let numbers = if actions.is_null() { Numbers::Kept } else { Numbers::Changed };
    let packed = knows.then(|| Packed::new(slot, inherit::inherited(), numbers));
    // SAFETY: the program's own environment.
    let longer = packed.as_ref().and_then(|p| unsafe { Longer::new(list, p.variable()) });
    let mut own = 0;
    drop(errno);
    let r = call(&raw mut own, longer.as_ref().map_or(list, Longer::list));
    let _errno = Errno::keep();
    drop((longer, packed));
    if r != 0 {
        family::free(slot);
        return r;
    }
    family::child_is(slot, own);
    // SAFETY: null or the program's place for the pid.
    if let Some(pid) = unsafe { pid.as_mut() } {
        *pid = own;
    }
    r
}

pub unsafe fn posix_spawn(
    pid: *mut pid_t,
    path: *const c_char,
    actions: *const posix_spawn_file_actions_t,
    attributes: *const posix_spawnattr_t,
    argv: List,
    list: List,
) -> c_int {
    // SAFETY: the program's own call.
    unsafe {
        spawn(pid, Program::Path(path), actions, list, |pid, list| {
            real::posix_spawn()(pid, path, actions, attributes, argv, list)
        })
    }
}

pub unsafe fn posix_spawnp(
    pid: *mut pid_t,
    name: *const c_char,
    actions: *const posix_spawn_file_actions_t,
    attributes: *const posix_spawnattr_t,
    argv: List,
    list: List,
) -> c_int {
    // SAFETY: the program's own call.
    unsafe {
        spawn(pid, Program::Name(name), actions, list, |pid, list| {
            real::posix_spawnp()(pid, name, actions, attributes, argv, list)
        })
    }
}

pub unsafe fn system(command: *const c_char) -> c_int {
    let slot = expect_quietly();
    // SAFETY: the program's own call.
    let r = unsafe { real::system()(command) };
    if let Some(slot) = slot {
        family::free(slot);
    }
    r
}

pub unsafe fn popen(command: *const c_char, mode: *const c_char) -> *mut FILE {
    let slot = expect_quietly();
    // SAFETY: the program's own call.
    let pipe = unsafe { real::popen()(command, mode) };
    if let Some(slot) = slot {
        match PIPES.get(slot) {
            Some(place) if !pipe.is_null() => place.store(pipe as usize, Release),
            _ => family::free(slot),
        }
    }
    pipe
}

pub unsafe fn pclose(pipe: *mut FILE) -> c_int {
    let slot = PIPES
        .iter()
        .position(|place| place.compare_exchange(pipe as usize, 0, AcqRel, Relaxed).is_ok() && !pipe.is_null());
    // SAFETY: the program's own call.
    let r = unsafe { real::pclose()(pipe) };
    if let Some(slot) = slot {
        family::free(slot);
    }
    r
}
