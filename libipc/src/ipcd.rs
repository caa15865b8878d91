//! The connection to ipcd: where it is, what is said, and what is heard.

pub(crate) mod inbox;
pub(crate) mod link;
pub(crate) mod path;
pub(crate) mod report;
pub(crate) mod terms;
