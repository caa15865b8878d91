//! What a stream is carried by.

pub mod ancillary;
pub mod settings;
