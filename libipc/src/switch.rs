//! The switch: the rules (`state`, pure), and the modules that carry them out.

pub(crate) mod adopt;
pub(crate) mod drive;
pub(crate) mod land;
pub(crate) mod open;
mod state;
pub(crate) mod stay;

pub(crate) use state::*;
