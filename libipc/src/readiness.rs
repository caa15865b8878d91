//! Which threads, in calls, and which registrations with epoll wait for which endpoint.

pub mod announce;
pub mod judge;
pub mod masks;
pub mod moves;
pub mod park;
pub mod register;
pub mod registrations;
pub mod waits;
