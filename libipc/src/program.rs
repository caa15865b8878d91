//! Whether a program that is about to be executed will load this shim, as far as that can be told beforehand. In doubt
//! it will not: then what it inherits stays on TCP.

use core::ffi::{CStr, c_char};

use libc::c_int;

use crate::sys;

const PATH_MAX: usize = 4096;
/// Interpreters of interpreters that the kernel follows (execve(2)).
const NESTED: usize = 4;
/// Where execvp(3) looks when there is no PATH.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// What names a program.
#[derive(Clone, Copy)]
pub enum Program {
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
    pub unsafe fn loads_shim(self, environment: *const *const c_char) -> Option<bool> {
        let mut found = [0u8; PATH_MAX];
        // SAFETY: as the caller promises.
        let len = unsafe {
            match self {
                Program::Other => return Some(false),
                Program::Path(path) => find(bytes(path), false, &mut found)?,
                Program::Name(name) => find(bytes(name), true, &mut found)?,
            }
        };
        // SAFETY: as the caller promises.
        let list = unsafe { variable(environment, b"LD_PRELOAD=") };
        let path = found.get(..len).unwrap_or(&[]);
        Some(list.is_some_and(|list| contains(list, b"libipc")) && is_dynamic(path, NESTED))
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

/// Puts the path of the program that would be executed into `found`, terminated; its length. A name without a slash
/// is `searched` for in the PATH of the process that executes (execvp(3)).
fn find(name: &[u8], searched: bool, found: &mut [u8; PATH_MAX]) -> Option<usize> {
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

fn try_path(parts: &[&[u8]], found: &mut [u8; PATH_MAX]) -> Option<usize> {
    let len: usize = parts.iter().map(|p| p.len()).sum();
    if len == 0 || len >= PATH_MAX {
        return None;
    }
    *found = [0; PATH_MAX];
    for (to, from) in found.iter_mut().zip(parts.iter().copied().flatten()) {
        *to = *from;
    }
    sys::is_executable(found.as_ptr()).then_some(len)
}

/// Whether the file is a program of this machine with glibc's loader, and executing it changes no privilege (ld.so(8)
/// ignores a preload then); or a script of such a program.
fn is_dynamic(path: &[u8], depth: usize) -> bool {
    let mut terminated = [0u8; PATH_MAX];
    if path.len() >= PATH_MAX || depth == 0 {
        return false;
    }
    for (to, from) in terminated.iter_mut().zip(path) {
        *to = *from;
    }
    let at = terminated.as_ptr();
    let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as usize;
    let file = sys::forward(libc::SYS_openat, [libc::AT_FDCWD as usize, at as usize, flags, 0, 0, 0]) as c_int;
    if file < 0 {
        return false;
    }
    let mut head = [0u8; 1024];
    let n = if sys::changes_privilege(file) { 0 } else { sys::read(file, &mut head) };
    sys::close(file);
    let head = head.get(..n.max(0) as usize).unwrap_or(&[]);
    match head.strip_prefix(b"#!") {
        Some(line) => is_dynamic(interpreter(line), depth - 1),
        None => has_loader(head),
    }
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
        assert!(is_dynamic(b"/bin/sh", NESTED));
        assert!(!is_dynamic(b"/etc/passwd", NESTED));
        assert!(!is_dynamic(b"/bin/none-of-this-name", NESTED));
        assert!(!is_dynamic(b"/bin/su", NESTED), "setuid");
    }
}
