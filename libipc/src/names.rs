//! Addresses and names in the forms that the kernel, ipcd and the program use.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use libc::{c_int, sockaddr_in, sockaddr_in6, sockaddr_storage};
use matcher::addr::{Addr, Tuple};
use matcher::wire::NAME_LEN;

use crate::endpoint::Birth;
use crate::sys;

/// The four-tuple of an endpoint.
pub fn tuple(birth: &Birth) -> Tuple {
    Tuple { local: addr(&birth.local), peer: addr(&birth.peer) }
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
pub fn program() -> [u8; NAME_LEN] {
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
