//! The switch: the rules (`state`, pure), and what carries them out.

pub mod adopt;
pub mod drive;
pub mod land;
pub mod open;
mod state;
pub mod stay;

pub use state::*;
