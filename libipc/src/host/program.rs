//! Whether a program that is about to be executed will load this shim, as far as that can be told beforehand. In doubt
//! the answer is no: then the connections that the program inherits stay on TCP.

use core::ffi::{CStr, c_char};

use libc::c_int;

use crate::sys;

const PATH_MAX: usize = 4096;
/// How many bytes of a file are looked at.
const HEAD: usize = 1024;
/// The longest first line of a script that the kernel reads (execve(2)).
const LINE: usize = 256;
/// Interpreters of interpreters that the kernel follows (execve(2)).
const NESTED: usize = 4;
/// Where execvp(3) looks when there is no PATH.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// What names a program.
#[derive(Clone, Copy)]
pub(crate) enum Program {
    Path(*const c_char),
    /// Looked for in PATH, unless there is a slash in it.
    Name(*const c_char),
    /// An open file (fexecve), or one relative to a directory: not looked at.
    Other,
}

impl Program {
    /// Whether `environment` makes the dynamic loader load the shim, and the program has a dynamic loader that does.
    /// `None` if there is nothing to execute (callers try one place after another).
    ///
    /// # Safety
    /// The name is null or terminated; the environment is null or a list of terminated strings that ends with a null.
    pub(crate) unsafe fn loads_shim(self, environment: *const *const c_char) -> Option<bool> {
        let Some(mut found) = Page::new() else { return Some(false) };
        // SAFETY: as the caller promises.
        unsafe {
            match self {
                Program::Other => return Some(false),
                Program::Path(path) => find(bytes(path), false, found.room())?,
                Program::Name(name) => find(bytes(name), true, found.room())?,
            }
        }
        // SAFETY: as the caller promises.
        let list = unsafe { variable(environment, b"LD_PRELOAD=") };
        Some(list.is_some_and(|list| contains(list, b"libipc")) && is_dynamic(found.room()))
    }
}

/// Memory for a path: the stack that the program executes from may be small.
struct Page(*mut [u8; PATH_MAX]);

impl Page {
    fn new() -> Option<Page> {
        let at = sys::map_memory(PATH_MAX, false).cast::<[u8; PATH_MAX]>();
        (!at.is_null()).then_some(Page(at))
    }

    fn room(&mut self) -> &mut [u8; PATH_MAX] {
        // SAFETY: mapped by `new`, zeroed, and owned by this value.
        unsafe { &mut *self.0 }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        sys::unmap(self.0.cast(), PATH_MAX);
    }
}

unsafe fn bytes(text: *const c_char) -> &'static [u8] {
    // SAFETY: the caller passes null or a terminated string; the result is used before the call is over.
    if text.is_null() { &[] } else { unsafe { CStr::from_ptr(text) }.to_bytes() }
}

unsafe fn variable(mut list: *const *const c_char, name: &[u8]) -> Option<&'static [u8]> {
    // SAFETY: the list ends with a null and its strings are terminated.
    unsafe {
        while !list.is_null() && !(*list).is_null() {
            if let Some(value) = CStr::from_ptr(*list).to_bytes().strip_prefix(name) {
                return Some(value);
            }
            list = list.add(1);
        }
    }
    None
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|w| w == part)
}

/// Puts the path of the program that would be executed into `found`, terminated. A name without a slash is `searched` for
/// in the PATH of the process that executes (execvp(3)).
fn find(name: &[u8], searched: bool, found: &mut [u8; PATH_MAX]) -> Option<()> {
    if !searched || name.contains(&b'/') {
        return try_path(&[name], found);
    }
    // SAFETY: a terminated name; the value is read at once.
    let path = unsafe { libc::getenv(c"PATH".as_ptr()) };
    // SAFETY: null, or a terminated string.
    let path = if path.is_null() { DEFAULT_PATH } else { unsafe { CStr::from_ptr(path) }.to_bytes() };
    path.split(|b| *b == b':').find_map(|directory| match directory {
        [] => try_path(&[name], found),
        _ => try_path(&[directory, b"/", name], found),
    })
}

fn try_path(parts: &[&[u8]], found: &mut [u8; PATH_MAX]) -> Option<()> {
    let len: usize = parts.iter().map(|p| p.len()).sum();
    if len == 0 || len >= PATH_MAX {
        return None;
    }
    put(parts.iter().copied().flatten().copied(), found);
    sys::is_executable(found.as_ptr()).then_some(())
}

/// Writes a path, terminated, and cut off where it does not fit.
fn put(path: impl Iterator<Item = u8>, to: &mut [u8]) {
    let room = to.len() - 1;
    for (to, from) in to.iter_mut().zip(path.take(room).chain(core::iter::once(0))) {
        *to = from;
    }
}

/// Whether the file, whose path is terminated, is a program of this machine with glibc's loader, and executing it changes
/// no privilege (ld.so(8) ignores a preload then); or a script of such a program.
fn is_dynamic(path: &[u8]) -> bool {
    let mut head = [0u8; HEAD];
    let mut next = [0u8; LINE];
    let mut at = path.as_ptr();
    for _ in 0..NESTED {
        let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as usize;
        let file = sys::forward(libc::SYS_openat, [libc::AT_FDCWD as usize, at as usize, flags, 0, 0, 0]) as c_int;
        if file < 0 {
            return false;
        }
        let n = if sys::changes_privilege(file) { 0 } else { sys::read(file, &mut head) };
        sys::close(file);
        let read = head.get(..n.max(0) as usize).unwrap_or(&[]);
        let Some(line) = read.strip_prefix(b"#!") else { return has_loader(read) };
        put(interpreter(line).iter().copied(), &mut next);
        at = next.as_ptr();
    }
    false
}

/// The path in the first line of a script.
fn interpreter(line: &[u8]) -> &[u8] {
    let blank = |b: &u8| matches!(*b, b' ' | b'\t' | b'\n');
    let start = line.iter().position(|b| !matches!(*b, b' ' | b'\t')).unwrap_or(0);
    let line = line.get(start..).unwrap_or(&[]);
    line.split(blank).next().unwrap_or(&[])
}

/// Whether the head of a file is that of a 64-bit ELF object for this machine that names glibc's dynamic loader
/// (elf(5)).
fn has_loader(head: &[u8]) -> bool {
    const MACHINE: u64 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    const PT_INTERP: u64 = 3;
    let number = |at: usize, len: usize| {
        let bytes = head.get(at..at + len)?;
        Some(bytes.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b)))
    };
    let check = || {
        let elf = head.starts_with(b"\x7fELF\x02\x01") && number(18, 2)? == MACHINE;
        let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        let entry = (0..count).map(|i| (table + i * size) as usize).find(|at| number(*at, 4) == Some(PT_INTERP))?;
        let (offset, len) = (number(entry + 8, 8)? as usize, number(entry + 32, 8)? as usize);
        let loader = head.get(offset..offset.checked_add(len)?)?;
        Some(elf && contains(loader, b"/ld-linux"))
    };
    check().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_script_names_its_interpreter() {
        assert_eq!(interpreter(b" /bin/sh -e\nrest"), b"/bin/sh");
        assert_eq!(interpreter(b"/usr/bin/env python3\n"), b"/usr/bin/env");
        assert_eq!(interpreter(b""), b"");
    }

    #[test]
    fn a_dynamic_program_is_told_from_what_is_none() {
        assert!(is_dynamic(b"/bin/sh\0"));
        assert!(!is_dynamic(b"/etc/passwd\0"));
        assert!(!is_dynamic(b"/bin/none-of-this-name\0"));
        assert!(!is_dynamic(b"/bin/su\0"), "setuid");
    }
}
