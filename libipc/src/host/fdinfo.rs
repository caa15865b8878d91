//! What /proc says of epoll instances and of io_urings.

use libc::c_int;

use crate::sys;

/// A registration as the kernel has it (proc_pid_fdinfo(5)). A one-shot registration that has fired has only mode bits left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub mask: u32,
    pub data: u64,
}

/// The registration of the file behind `fd`, under this number, in `epfd`. `None` if there is none, or no /proc.
pub(crate) fn registration(epfd: c_int, fd: c_int) -> Option<Entry> {
    let inode = sys::inode(fd)?;
    find(epfd, |line| parse(line, fd, inode))
}

/// How many requests an io_uring has room for. `None` if /proc does not tell.
pub(crate) fn slots(ring: c_int) -> Option<usize> {
    find(ring, |line| {
        let mask = core::str::from_utf8(line.strip_prefix(b"SqMask:\t0x")?).ok()?;
        usize::from_str_radix(mask, 16).ok().map(|mask| mask + 1)
    })
}

/// What `parse` makes of the first line that it knows.
fn find<T>(fd: c_int, parse: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    let mut path = *b"/proc/self/fdinfo/\0\0\0\0\0\0\0\0\0\0\0\0";
    write_number(path.get_mut(18..30)?, fd as u32);
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    let file =
        sys::forward(libc::SYS_openat, [libc::AT_FDCWD as usize, path.as_ptr() as usize, flags as usize, 0, 0, 0]);
    if file < 0 {
        return None;
    }
    let found = scan(file as c_int, parse);
    sys::close(file as c_int);
    found
}

/// A descriptor that can watch others past the hooks.
#[derive(Clone, Copy)]
pub(crate) enum Watcher {
    Epoll(c_int),
    Ring(c_int),
}

/// Calls `visit` with each epoll instance and io_uring of this process, of the numbers that `may_be` one: looking costs a
/// system call. `None` if /proc does not list them.
pub(crate) fn each_watcher(may_be: impl Fn(c_int) -> bool, mut visit: impl FnMut(Watcher)) -> Option<()> {
    each_entry(|list, number| {
        if may_be(number)
            && let Some(watcher) = watcher(list, number)
        {
            visit(watcher);
        }
    })
}

/// Calls `visit` with each descriptor of this process; `None` where /proc does not list them.
pub(crate) fn each_descriptor(mut visit: impl FnMut(c_int)) -> Option<()> {
    each_entry(|_, number| visit(number))
}

/// The same with /proc/self/fd itself, where each number is a link.
fn each_entry(mut visit: impl FnMut(c_int, c_int)) -> Option<()> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_DIRECTORY;
    let path = c"/proc/self/fd".as_ptr() as usize;
    let list = sys::forward(libc::SYS_openat, [libc::AT_FDCWD as usize, path, flags as usize, 0, 0, 0]) as c_int;
    if list < 0 {
        return None;
    }
    let failed = each_number(list, |number| {
        visit(list, number);
        false
    });
    sys::close(list);
    (!failed).then_some(())
}

/// Calls `test` for each numeric name in a directory until it is true.
fn each_number(directory: c_int, mut test: impl FnMut(c_int) -> bool) -> bool {
    let mut buf = [0u8; 512];
    loop {
        let n = sys::forward(libc::SYS_getdents64, [directory as usize, buf.as_mut_ptr() as usize, buf.len(), 0, 0, 0]);
        if n <= 0 {
            return n < 0;
        }
        let mut rest = buf.get(..n as usize).unwrap_or(&[]);
        // struct linux_dirent64 (getdents64(2)): inode and offset, 16 bytes; length, 2; kind, 1; the terminated name.
        while let Some((head, name)) = rest.split_first_chunk::<19>() {
            let len = usize::from(u16::from_ne_bytes([head[16], head[17]]));
            let name = name.split(|b| *b == 0).next().unwrap_or(&[]);
            let number = core::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
            if number.is_some_and(&mut test) {
                return true;
            }
            rest = rest.get(len.max(1)..).unwrap_or(&[]);
        }
    }
}

fn watcher(list: c_int, number: c_int) -> Option<Watcher> {
    let mut name = [0u8; 12];
    write_number(&mut name, number as u32);
    let mut target = [0u8; 32];
    let n = sys::readlink(list, name.as_ptr(), &mut target);
    match target.get(..n.max(0) as usize)? {
        b"anon_inode:[eventpoll]" => Some(Watcher::Epoll(number)),
        b"anon_inode:[io_uring]" => Some(Watcher::Ring(number)),
        _ => None,
    }
}

/// Reads the file in pieces and parses it line by line, without an allocation.
fn scan<T>(file: c_int, parse: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    let mut buf = [0u8; 256];
    let mut line = [0u8; 96];
    let mut len = 0;
    loop {
        let n = sys::read(file, &mut buf);
        if n <= 0 {
            return None;
        }
        for byte in buf.get(..n as usize)? {
            if *byte != b'\n' {
                if let Some(to) = line.get_mut(len) {
                    *to = *byte;
                    len += 1;
                }
                continue;
            }
            if let Some(found) = parse(line.get(..len)?) {
                return Some(found);
            }
            len = 0;
        }
    }
}

/// Lines are `tfd: N events: HEX data: HEX pos:N ino:HEX sdev:HEX`.
fn parse(line: &[u8], fd: c_int, inode: u64) -> Option<Entry> {
    let mut words = line.split(|b| b.is_ascii_whitespace()).filter(|w| !w.is_empty());
    let mut next = || core::str::from_utf8(words.next()?).ok();
    if next()? != "tfd:" || next()?.parse::<c_int>().ok()? != fd || next()? != "events:" {
        return None;
    }
    let mask = u32::from_str_radix(next()?, 16).ok()?;
    if next()? != "data:" {
        return None;
    }
    let data = u64::from_str_radix(next()?, 16).ok()?;
    let ino = words.find_map(|word| core::str::from_utf8(word.strip_prefix(b"ino:")?).ok())?;
    (u64::from_str_radix(ino, 16).ok()? == inode).then_some(Entry { mask, data })
}

fn write_number(to: &mut [u8], n: u32) {
    let mut digits = [0u8; 10];
    let mut rest = n;
    let mut len = 0;
    for digit in &mut digits {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        len += 1;
        if rest == 0 {
            break;
        }
    }
    for (to, digit) in to.iter_mut().zip(digits.iter().take(len).rev()) {
        *to = *digit;
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, parse};

    #[test]
    fn finds_the_registration_of_one_file_under_one_number() {
        let line = b"tfd:       12 events: 40000018 data:         9f00000007  pos:0 ino:a1 sdev:8";
        assert_eq!(parse(line, 12, 0xa1), Some(Entry { mask: 0x4000_0018, data: 0x9f_0000_0007 }));
        assert_eq!(parse(line, 12, 0xa2), None, "another file had the number when it was registered");
        assert_eq!(parse(line, 1, 0xa1), None);
        assert_eq!(parse(b"pos:\t0", 12, 0xa1), None);
    }
}
