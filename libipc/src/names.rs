//! Addresses and names in the forms that the kernel, ipcd and the program use.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use libc::{sockaddr_in, sockaddr_in6, sockaddr_storage};
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

/// The last path component of the running program.
pub fn program() -> [u8; NAME_LEN] {
    let mut path = [0u8; 4096];
    let mut name = [0u8; NAME_LEN];
    let r = sys::readlink(c"/proc/self/exe".as_ptr().cast(), &mut path);
    let whole = path.get(..r.max(0) as usize).unwrap_or(&[]);
    let last = whole.rsplit(|b| *b == b'/').next().unwrap_or(&[]);
    for (to, from) in name.iter_mut().zip(last) {
        *to = *from;
    }
    name
}
