//! The connection to ipcd: where it is, what is said, and what is heard.

pub mod inbox;
pub mod link;
pub mod path;
pub mod report;
pub mod terms;
