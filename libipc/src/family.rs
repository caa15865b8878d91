//! What the processes of a family share: memory, and the knowledge which of them are alive.

mod carried;
mod flag;
pub mod fork;
mod holders;
pub mod inherit;
pub mod lock;
mod memory;
mod slot;
mod slots;

pub use carried::{Carried, Entry, MOST, was_just_executed};
pub use flag::Flag;
pub use holders::{Holders, SLOTS};
pub use memory::{Family, MAX_ENDPOINTS, Room, family, file, slot};
pub use slots::{child_is, expect_child, found, free, is_dead, join, leave, nonce, occupy, reclaim_dead};
