//! The switch: the rules (`state`, pure), and the modules that carry them out.

pub mod adopt;
pub mod drive;
pub mod land;
pub mod open;
mod state;
pub mod stay;

pub use state::*;
