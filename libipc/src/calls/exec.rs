//! Executing another program in place of this one.

use core::ffi::c_char;

use libc::c_int;
use matcher::reason::Reason;

use crate::family::inherit::{self, Numbers, Packed};
use crate::family::{self};
use crate::host::guard::Errno;
use crate::host::process;
use crate::host::program::Program;
use crate::switch::drive;
use crate::switch::stay::stay;
use crate::symbols::real;
use crate::symbols::table::List;
use crate::sys;

unsafe extern "C" {
    static environ: List;
}

/// The program's environment as it is now.
pub(crate) fn environment() -> List {
    // SAFETY: libc's variable; the program's own threads change it at their own risk.
    unsafe { environ }
}

/// Whether this process has endpoints that the next program would inherit.
pub(crate) fn concerns_us() -> bool {
    family::family().is_some() && process::is_announced() && inherit::inherited().next().is_some()
}

/// Makes the endpoints that a program without the shim inherits go on over TCP, as far as they still can.
fn keep_on_tcp() {
    drive::land_all(inherit::is_inherited, Reason::Executed);
    for id in inherit::inherited() {
        stay(id, Reason::Executed);
    }
}

/// An environment with one string more.
pub(crate) struct Longer {
    list: *mut *const c_char,
    bytes: usize,
}

impl Longer {
    /// # Safety
    /// `list` is null or ends with a null.
    pub(crate) unsafe fn new(list: List, string: *const c_char) -> Option<Longer> {
        let mut count = 0;
        // SAFETY: the list ends with a null.
        while !list.is_null() && !unsafe { *list.add(count) }.is_null() {
            count += 1;
        }
        let bytes = (count + 2) * size_of::<*const c_char>();
        let copy = sys::map_memory(bytes, false).cast::<*const c_char>();
        if copy.is_null() {
            return None;
        }
        // SAFETY: mapped with room for the strings, one more, and the null that is there already.
        unsafe {
            (0..count).for_each(|i| *copy.add(i) = *list.add(i));
            *copy.add(count) = string;
        }
        Some(Longer { list: copy, bytes })
    }

    pub(crate) fn list(&self) -> List {
        self.list
    }
}

impl Drop for Longer {
    fn drop(&mut self) {
        sys::unmap(self.list.cast(), self.bytes);
    }
}

/// Executes with `call(environment)`. The code after the call is only reached if it fails.
unsafe fn execute(program: Program, list: List, call: impl Fn(List) -> c_int) -> c_int {
    let errno = Errno::keep();
    if family::family().is_some() && process::is_announced() {
        inherit::stays_go_along(false);
    }
    // SAFETY: the program's own arguments.
    let loads = if concerns_us() { unsafe { program.loads_shim(list) } } else { None };
    if let Some(knows) = loads {
        inherit::goes_to_a_program(inherit::is_inherited, knows);
    }
    if loads != Some(true) || family::file() < 0 {
        if loads.is_some() {
            keep_on_tcp();
        }
        drop(errno);
        return call(list);
    }
    let packed = Packed::new(family::slot(), inherit::inherited(), Numbers::Kept);
    // SAFETY: the program's own environment.
    let longer = unsafe { Longer::new(list, packed.variable()) };
    drop(errno);
    let r = call(longer.as_ref().map_or(list, Longer::list));
    let _errno = Errno::keep();
    drop((packed, longer));
    r
}

pub(crate) unsafe fn execve(path: *const c_char, argv: List, list: List) -> c_int {
    // SAFETY: the program's own call.
    unsafe { execute(Program::Path(path), list, |list| real::execve()(path, argv, list)) }
}

pub(crate) unsafe fn execv(path: *const c_char, argv: List) -> c_int {
    // SAFETY: execv is execve with the environment as it is (exec(3)).
    unsafe { execve(path, argv, environment()) }
}

pub(crate) unsafe fn execvpe(name: *const c_char, argv: List, list: List) -> c_int {
    // SAFETY: the program's own call.
    unsafe { execute(Program::Name(name), list, |list| real::execvpe()(name, argv, list)) }
}

pub(crate) unsafe fn execvp(name: *const c_char, argv: List) -> c_int {
    // SAFETY: execvp is execvpe with the environment as it is (exec(3)).
    unsafe { execvpe(name, argv, environment()) }
}

pub(crate) unsafe fn fexecve(fd: c_int, argv: List, list: List) -> c_int {
    // SAFETY: the program's own call.
    unsafe { execute(Program::Other, list, |list| real::fexecve()(fd, argv, list)) }
}

pub(crate) unsafe fn execveat(at: c_int, path: *const c_char, argv: List, list: List, flags: c_int) -> c_int {
    // SAFETY: the program's own call.
    unsafe { execute(Program::Other, list, |list| real::execveat()(at, path, argv, list, flags)) }
}

/// The three that take their arguments one by one: `arguments` is where they lie, one after the other.
pub(crate) unsafe extern "C" fn execl(path: *const c_char, arguments: List) -> c_int {
    // SAFETY: the arguments end with a null, so they are a list.
    unsafe { execv(path, arguments) }
}

pub(crate) unsafe extern "C" fn execlp(name: *const c_char, arguments: List) -> c_int {
    // SAFETY: as above.
    unsafe { execvp(name, arguments) }
}

pub(crate) unsafe extern "C" fn execle(path: *const c_char, arguments: List) -> c_int {
    let mut end = arguments;
    // SAFETY: the arguments end with a null; the environment comes after it (exec(3)).
    unsafe {
        while !(*end).is_null() {
            end = end.add(1);
        }
        execve(path, arguments, end.add(1).cast::<List>().read())
    }
}
