//! The pure half of the pairing: it decides which two endpoints are the two ends of one stream, and defines the
//! messages that libipc and ipcd exchange for that. No clock, no descriptor, no async; `no_std`, so that libipc can use
//! [`wire`] inside any program.
#![no_std]

extern crate alloc;

pub mod addr;
pub mod candidate;
pub mod endpoint;
pub mod pairing;
pub mod policy;
pub mod reason;
pub mod registry;
pub mod wire;
