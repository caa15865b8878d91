//! Children made without fork: they may inherit endpoints, and until it is known whether they do they count as holders.

use core::ffi::c_char;
use core::sync::atomic::{AtomicUsize, Ordering::*};

use libc::{FILE, c_int, pid_t, posix_spawn_file_actions_t, posix_spawnattr_t};

use matcher::reason::Reason;

use super::exec::Longer;
use crate::endpoint::{self, Id, numbers};
use crate::family::inherit::{self, Numbers, Packed};
use crate::family::{self};
use crate::host::guard::Errno;
use crate::host::process;
use crate::host::program::Program;
use crate::readiness::moves;
use crate::switch::{Phase, drive};
use crate::symbols::real;
use crate::symbols::table::List;

/// The pipes of popen by the slot of their child.
static PIPES: [AtomicUsize; family::SLOTS] = [const { AtomicUsize::new(0) }; family::SLOTS];

/// The endpoints that a child inherits; `by_action`: those, too, that some list of file actions names.
fn given(by_action: bool) -> impl Iterator<Item = Id> + Clone {
    let named = move |id: &Id| by_action && id.local().named.load(Relaxed);
    endpoint::held().filter(move |id| id.endpoint().phase() != Phase::Stay && (inherit::is_inherited(*id) || named(id)))
}

/// Takes a slot for a child that this process is about to spawn, and puts it among the holders of the endpoints that the
/// child inherits. `None`: it inherits none. A child without the shim finds each endpoint on one transport.
fn expect(by_action: bool, knows: bool) -> Option<usize> {
    if family::family().is_none() || !process::is_announced() {
        return None;
    }
    inherit::stays_go_along(by_action);
    given(by_action).next()?;
    let slot = family::expect_child()?;
    // Before all else, so that no thread makes a promise for these endpoints meanwhile.
    given(by_action).for_each(|id| id.holders().add(slot));
    let concerned = |id: Id| given(by_action).any(|other| other == id);
    inherit::goes_to_a_program(concerned, knows);
    if !knows {
        moves::await_promises();
        drive::land_all(concerned, Reason::Executed);
    }
    Some(slot)
}

/// The same for a shell, which learns nothing of the endpoints.
fn expect_shell() -> Option<usize> {
    let _errno = Errno::keep();
    expect(false, false)
}

/// The child of a later spawn may be given the descriptor under another number.
pub(crate) unsafe fn adddup2(actions: *mut posix_spawn_file_actions_t, fd: c_int, new: c_int) -> c_int {
    if let Some((id, _)) = numbers::lookup(fd) {
        id.local().named.store(true, Relaxed);
    }
    // SAFETY: the program's own call.
    unsafe { real::posix_spawn_file_actions_adddup2()(actions, fd, new) }
}

unsafe fn spawn(
    pid: *mut pid_t,
    program: Program,
    actions: *const posix_spawn_file_actions_t,
    list: List,
    call: impl Fn(*mut pid_t, List) -> c_int,
) -> c_int {
    let errno = Errno::keep();
    let by_action = !actions.is_null();
    // SAFETY: the program's own arguments.
    let loads = || unsafe { program.loads_shim(list) } == Some(true);
    let knows = family::file() >= 0 && given(by_action).next().is_some() && loads();
    let Some(slot) = expect(by_action, knows) else {
        drop(errno);
        return call(pid, list);
    };
    let numbers = if by_action { Numbers::Changed } else { Numbers::Kept };
    let packed = knows.then(|| Packed::new(slot, given(by_action), numbers));
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

pub(crate) unsafe fn posix_spawn(
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

pub(crate) unsafe fn posix_spawnp(
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

pub(crate) unsafe fn system(command: *const c_char) -> c_int {
    let slot = expect_shell();
    // SAFETY: the program's own call.
    let r = unsafe { real::system()(command) };
    if let Some(slot) = slot {
        family::free(slot);
    }
    r
}

pub(crate) unsafe fn popen(command: *const c_char, mode: *const c_char) -> *mut FILE {
    let slot = expect_shell();
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

pub(crate) unsafe fn pclose(pipe: *mut FILE) -> c_int {
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
