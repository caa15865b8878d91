//! Which threads, in calls, and which registrations with epoll wait for which endpoint.

pub(crate) mod announce;
pub(crate) mod judge;
pub(crate) mod masks;
pub(crate) mod moves;
pub(crate) mod park;
pub(crate) mod register;
pub(crate) mod registrations;
pub(crate) mod waits;
