//! The messages between libipc and ipcd, one per SOCK_SEQPACKET record, little-endian, fixed sizes.
//!
//! Every record starts with a one-byte tag. Decoding is total: any byte string gives a message or an [`Error`], and
//! bytes left over are an error too. Nothing here allocates, so the same code runs inside a host program.
//!
//! Endpoints are named by their socket cookie (`SO_COOKIE`, socket(7)): unique on the host until reboot, and checked
//! by ipcd against the socket itself. The `token` is the sender's own handle, echoed and never interpreted.

mod codec;
mod message;

pub use codec::Record;
pub use message::*;
