//! What the processes of a family share: memory, and the knowledge which of them are alive.

mod carried;
mod flag;
pub(crate) mod fork;
mod holders;
pub(crate) mod inherit;
pub(crate) mod lock;
mod memory;
mod slot;
mod slots;

pub(crate) use carried::{Carried, Entry, MOST, was_just_executed};
pub(crate) use flag::Flag;
pub(crate) use holders::{Holders, SLOTS};
pub(crate) use memory::{Family, MAX_ENDPOINTS, Room, family, file, slot};
pub(crate) use slots::{child_is, expect_child, found, free, is_dead, join, leave, nonce, occupy, reclaim_dead};
