//! What tests need and not every machine has. The tests ask the kernel instead of looking at the user's number: a
//! container's root may do little, and a kernel may refuse root.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The reason why `ipcd serve --proof` cannot work here, if it lies in the machine: ipcd tries to load its program.
/// Panics if the reason lies in ipcd.
pub fn no_proof(ipcd: &Path) -> Option<String> {
    // No socket can be made there, so ipcd ends at once in either case; it asks the kernel first.
    let mut command = Command::new(ipcd);
    command.args(["serve", "--proof", "--socket", "/dev/null/ipcd.sock"]).env_remove("LD_PRELOAD");
    let output = command.output().expect("ipcd serve");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "ipcd listens in /dev/null");
    let (_, why) = error.split_once("--proof: ")?;
    assert!(is_the_machines(why), "ipcd cannot prove anything, and not because of this machine: {error}");
    Some(why.to_owned())
}

/// Whether an error of `ipcd serve --proof` is about the machine, and not about ipcd.
pub fn is_the_machines(why: &str) -> bool {
    let all = ["missing: ", "the kernel refuses", "the types of the kernel", "cannot iterate", "it takes Linux"];
    all.iter().any(|about| why.contains(about))
}

/// Whether network namespaces can be made, by unshare(1), and set up, by ip(8).
pub fn network_namespaces() -> bool {
    let made = Command::new("unshare").args(["--net", "ip", "link", "set", "lo", "up"]).stderr(Stdio::null()).status();
    made.is_ok_and(|status| status.success())
}

/// Whether this process may change its root directory, and become another user there: root can, unless that was
/// forbidden.
pub fn another_root_and_user() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        // The program lies in a directory that is not on every user's path.
        let tried = Command::new("/usr/sbin/chroot")
            .args(["--userspec=65534:65534", "/", "true"])
            .stderr(Stdio::null())
            .status();
        tried.is_ok_and(|status| status.success())
    })
}

/// The reason why io_uring cannot be used here, if it cannot: the kernel may lack it, or refuse it to this process.
pub fn no_io_uring() -> Option<String> {
    let mut params = [0u64; 15];
    // SAFETY: struct io_uring_params has 120 bytes, which the kernel reads and writes; they outlive the call.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 8, params.as_mut_ptr()) };
    if ring < 0 {
        return Some(format!("this takes io_uring: {}", io::Error::last_os_error()));
    }
    // SAFETY: the kernel has just made this descriptor for us.
    unsafe { libc::close(ring as i32) };
    None
}

/// Whether this process can have so many descriptors.
pub fn descriptors(count: u64) -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is written to, and outlives the call.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && limit.rlim_max >= count }
}
