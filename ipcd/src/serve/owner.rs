//! Who is connected.

use matcher::wire::Transports;

/// Names a session; never used twice.
pub type SessionId = u64;

/// Who a session is, as the kernel says (SO_PEERCRED), but for the name.
#[derive(Debug)]
pub struct Owner {
    /// The program's name, as it says or as /proc says.
    pub program: String,
    /// Its process, 0 if it is in a place whose processes ipcd cannot see.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// What its shim can move a connection to.
    pub transports: Transports,
}
