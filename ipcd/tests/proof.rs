//! `ipcd serve --proof` where the kernel does not let it: what it says, and that the tests know it for the machine's
//! doing. What is taken away here is taken from one thread, and from what that thread starts.

use std::path::Path;

use libc::{c_long, c_ulong};
use tests::{needs, skipped};

fn no_proof() -> Option<String> {
    needs::no_proof(Path::new(env!("CARGO_BIN_EXE_ipcd")))
}

/// The answer of a thread that has done something to itself before.
fn no_proof_after(change: fn()) -> Option<String> {
    let thread = std::thread::spawn(move || {
        change();
        no_proof()
    });
    thread.join().unwrap()
}

fn prctl(option: i32, argument: c_ulong, more: *const libc::sock_fprog) -> i32 {
    let zero: c_long = 0;
    // SAFETY: `more` is null, or a program that outlives the call.
    unsafe { libc::prctl(option, argument, more, zero, zero) }
}

/// As a container engine does: bpf(2) fails with EPERM, whoever calls it.
fn refuse_bpf() {
    let op = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        // The number of the call is what struct seccomp_data begins with.
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_bpf as u32, 0, 1),
        op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0, 0),
        op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    assert_eq!(prctl(libc::PR_SET_NO_NEW_PRIVS, 1, std::ptr::null()), 0);
    assert_eq!(prctl(libc::PR_SET_SECCOMP, c_ulong::from(libc::SECCOMP_MODE_FILTER), &raw const program), 0);
}

/// What is executed from here on has neither right. Whoever may not take them away has none to give.
fn drop_rights() {
    const SYS_ADMIN: c_ulong = 21;
    const PERFMON: c_ulong = 38;
    const BPF: c_ulong = 39;
    for right in [SYS_ADMIN, PERFMON, BPF] {
        prctl(libc::PR_CAPBSET_DROP, right, std::ptr::null());
    }
}

#[test]
fn rights_that_are_missing_and_a_kernel_that_refuses_are_told_apart() {
    let as_it_is = no_proof();
    if let Some(why) = as_it_is.as_ref().filter(|why| !why.contains("missing: ") && !why.contains("refuses although")) {
        return skipped(why);
    }
    let without = no_proof_after(drop_rights).expect("a reason");
    assert!(without.contains("; missing: CAP_BPF and CAP_PERFMON."), "{without}");
    let refused = no_proof_after(refuse_bpf).expect("a reason");
    match as_it_is.is_some_and(|why| why.contains("missing: ")) {
        true => assert!(refused.contains("; missing: "), "{refused}"),
        false => {
            assert!(refused.contains("; the kernel refuses although CAP_BPF and CAP_PERFMON are both"), "{refused}")
        }
    }
}
