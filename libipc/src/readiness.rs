//! Who waits for what: threads in calls, and registrations with epoll.

pub mod announce;
pub mod judge;
pub mod masks;
pub mod moves;
pub mod park;
pub mod register;
pub mod registrations;
pub mod waits;
