//! Addresses and names in the forms that the kernel, ipcd and the program use.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use libc::{c_int, sockaddr, sockaddr_in, sockaddr_in6, sockaddr_storage, socklen_t};
use matcher::addr::{Addr, Tuple};
use matcher::wire::NAME_LEN;

use crate::sys;

/// The four-tuple of a connected socket.
pub(crate) fn tuple(tcp: c_int) -> Option<Tuple> {
    Some(Tuple { local: addr(&sys::name(tcp, false).ok()?), peer: addr(&sys::name(tcp, true).ok()?) })
}

/// The program's address; `None` if it is shorter than its family asks for, or of another family.
///
/// # Safety
/// `addr` points to `len` readable bytes.
pub(crate) unsafe fn copied(addr: *const sockaddr, len: socklen_t) -> Option<sockaddr_storage> {
    // SAFETY: sockaddr_storage is plain data, valid when zeroed.
    let mut copy: sockaddr_storage = unsafe { core::mem::zeroed() };
    let len = (len as usize).min(size_of::<sockaddr_storage>());
    // SAFETY: as the caller promises, and no longer than the copy.
    unsafe { core::ptr::copy_nonoverlapping(addr.cast::<u8>(), (&raw mut copy).cast(), len) };
    let whole = match i32::from(copy.ss_family) {
        libc::AF_INET => size_of::<sockaddr_in>(),
        libc::AF_INET6 => core::mem::offset_of!(sockaddr_in6, sin6_scope_id),
        _ => usize::MAX,
    };
    (len >= whole).then_some(copy)
}

/// Whether the address is one that no packet of another host, or namespace, has.
pub(crate) fn is_loopback(name: &sockaddr_storage) -> bool {
    addr(name).is_loopback()
}

fn addr(from: &sockaddr_storage) -> Addr {
    let at = &raw const *from;
    let ip_port = match i32::from(from.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says which of the address types this storage, large and aligned enough for all, holds.
            let v4 = unsafe { &*at.cast::<sockaddr_in>() };
            (IpAddr::V4(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr))), u16::from_be(v4.sin_port))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*at.cast::<sockaddr_in6>() };
            (IpAddr::V6(Ipv6Addr::from(v6.sin6_addr.s6_addr)), u16::from_be(v6.sin6_port))
        }
        _ => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    };
    Addr::from(SocketAddr::from(ip_port))
}

/// The name of the program as ps(1) shows it: that of its main thread (proc_pid_comm(5)).
pub(crate) fn program() -> [u8; NAME_LEN] {
    let mut name = [0u8; NAME_LEN];
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    let path = c"/proc/self/comm".as_ptr() as usize;
    let file = sys::forward(libc::SYS_openat, [libc::AT_FDCWD as usize, path, flags as usize, 0, 0, 0]);
    if file >= 0 {
        sys::read(file as c_int, &mut name);
        sys::close(file as c_int);
    }
    for byte in name.iter_mut().filter(|b| **b == b'\n') {
        *byte = 0;
    }
    name
}
