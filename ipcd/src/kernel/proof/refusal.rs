//! Why the kernel does not do what it was asked for, in words that help: the rights that are missing, or who else may
//! have said no.

use std::io;

/// The rights that reading a tcp_sock takes, and the one that includes both (capabilities(7), linux/capability.h).
const SYS_ADMIN: u64 = 1 << 21;
const RIGHTS: [(u64, &str); 2] = [(1 << 39, "CAP_BPF"), (1 << 38, "CAP_PERFMON")];

/// An error of a step on the way, and what to do about it.
pub fn explain(what: &str, error: &io::Error) -> String {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
            format!("; {}", refused(&status, &map))
        }
        Some(libc::ENOSYS | libc::EINVAL) => "; it takes Linux 5.9".into(),
        _ => String::new(),
    };
    format!("cannot {what}: {error}{hint}")
}

/// Who refuses, by what /proc says of this process.
fn refused(status: &str, uid_map: &str) -> String {
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = held.and_then(|held| u64::from_str_radix(held.trim(), 16).ok()).unwrap_or(0);
    let missing = RIGHTS.iter().filter(|(right, _)| held & (right | SYS_ADMIN) == 0).map(|(_, name)| *name);
    let missing: Vec<_> = missing.collect();
    if !missing.is_empty() {
        return format!(
            "missing: {}. Start ipcd as root outside of a container, or give it both (AmbientCapabilities= of \
             systemd, --cap-add of docker, setcap)",
            missing.join(" and ")
        );
    }
    // The first line maps every number to itself, unless there is a user namespace in between.
    let in_namespace = uid_map.split_whitespace().ne(["0", "0", "4294967295"]);
    let who = match in_namespace {
        true => "they do not count inside a user namespace",
        false => "lockdown, a security module, or the container's seccomp filter",
    };
    format!(
        "the kernel refuses although CAP_BPF and CAP_PERFMON are both held ({who}). Allow bpf(2) to ipcd there, start \
         ipcd outside of the container, or leave --proof out (docs/security.md says what then stays on TCP)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "         0          0 4294967295\n";

    fn with(rights: u64) -> String {
        format!("Name:\tipcd\nCapEff:\t{rights:016x}\n")
    }

    #[test]
    fn a_right_that_is_missing_is_named() {
        assert!(refused(&with(0), HOST).starts_with("missing: CAP_BPF and CAP_PERFMON."));
        assert!(refused(&with(1 << 39), HOST).starts_with("missing: CAP_PERFMON."));
        assert!(refused(&with(1 << 38), HOST).starts_with("missing: CAP_BPF."));
        assert!(refused("", HOST).starts_with("missing: "));
    }

    #[test]
    fn a_kernel_that_refuses_all_the_same_is_not_taken_for_missing_rights() {
        for rights in [3 << 38, SYS_ADMIN, u64::MAX] {
            let why = refused(&with(rights), HOST);
            assert!(why.starts_with("the kernel refuses although") && why.contains("lockdown"), "{why}");
            let why = refused(&with(rights), "0 100000 65536\n");
            assert!(why.starts_with("the kernel refuses although") && why.contains("user namespace"), "{why}");
        }
    }
}
