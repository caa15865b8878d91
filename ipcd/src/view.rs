//! What is shown of ipcd's state.

pub mod metrics;
pub mod report;
pub mod rows;
