//! What /proc says of epoll instances.

use libc::c_int;

use crate::sys;

/// The mask with which `fd` is registered in `epfd` now (proc_pid_fdinfo(5)): a one-shot registration that has fired
/// has only mode bits left. `None` if it is not registered, or /proc is not there.
pub fn epoll_mask(epfd: c_int, fd: c_int) -> Option<u32> {
    let mut path = *b"/proc/self/fdinfo/\0\0\0\0\0\0\0\0\0\0\0\0";
    write_number(path.get_mut(18..30)?, epfd as u32);
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    let file =
        sys::forward(libc::SYS_openat, [libc::AT_FDCWD as usize, path.as_ptr() as usize, flags as usize, 0, 0, 0]);
    if file < 0 {
        return None;
    }
    let found = scan(file as c_int, fd);
    sys::close(file as c_int);
    found
}

/// Whether some epoll instance of this process has `fd` registered, or an io_uring could be watching it: asked when the
/// program waits for the descriptor in no way that was seen. Also true if that cannot be found out.
pub fn is_watched_unseen(fd: c_int) -> bool {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_DIRECTORY;
    let path = c"/proc/self/fd".as_ptr() as usize;
    let list = sys::forward(libc::SYS_openat, [libc::AT_FDCWD as usize, path, flags as usize, 0, 0, 0]);
    if list < 0 {
        return true;
    }
    let found = each_number(list as c_int, |number| is_watcher(number, fd));
    sys::close(list as c_int);
    found
}

/// Calls `visit` with each descriptor of this process; `None` where /proc does not list them.
pub fn each_descriptor(visit: impl Fn(c_int)) -> Option<()> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_DIRECTORY;
    let path = c"/proc/self/fd".as_ptr() as usize;
    let list = sys::forward(libc::SYS_openat, [libc::AT_FDCWD as usize, path, flags as usize, 0, 0, 0]);
    if list < 0 {
        return None;
    }
    let failed = each_number(list as c_int, |number| {
        visit(number);
        false
    });
    sys::close(list as c_int);
    (!failed).then_some(())
}

/// Calls `test` for each numeric name in a directory until it is true.
fn each_number(directory: c_int, test: impl Fn(c_int) -> bool) -> bool {
    let mut buf = [0u8; 4096];
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
            if number.is_some_and(&test) {
                return true;
            }
            rest = rest.get(len.max(1)..).unwrap_or(&[]);
        }
    }
}

fn is_watcher(number: c_int, fd: c_int) -> bool {
    let mut path = *b"/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0\0";
    if let Some(to) = path.get_mut(14..26) {
        write_number(to, number as u32);
    }
    let mut target = [0u8; 32];
    let n = sys::readlink(path.as_ptr(), &mut target);
    match target.get(..n.max(0) as usize).unwrap_or(&[]) {
        b"anon_inode:[eventpoll]" => epoll_mask(number, fd).is_some(),
        b"anon_inode:[io_uring]" => true,
        _ => false,
    }
}

/// Lines are `tfd: N events: HEX data: …`. Read in pieces, parsed byte by byte: nothing to allocate.
fn scan(file: c_int, fd: c_int) -> Option<u32> {
    let mut buf = [0u8; 1024];
    let mut line = [0u8; 64];
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
            if let Some(mask) = parse(line.get(..len)?, fd) {
                return Some(mask);
            }
            len = 0;
        }
    }
}

fn parse(line: &[u8], fd: c_int) -> Option<u32> {
    let mut words = line.split(|b| b.is_ascii_whitespace()).filter(|w| !w.is_empty());
    let mut next = || core::str::from_utf8(words.next()?).ok();
    if next()? != "tfd:" || next()?.parse::<c_int>().ok()? != fd || next()? != "events:" {
        return None;
    }
    u32::from_str_radix(next()?, 16).ok()
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
    use super::parse;

    #[test]
    fn finds_the_mask_of_one_descriptor() {
        let line = b"tfd:       12 events: 40000018 data:               7  pos:0 ino:1 sdev:8";
        assert_eq!(parse(line, 12), Some(0x4000_0018));
        assert_eq!(parse(line, 1), None);
        assert_eq!(parse(b"pos:\t0", 12), None);
    }
}
