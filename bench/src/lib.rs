//! Measurements. Alternatives take turns within one run (A B C A B C …): figures differ much between machines and from
//! hour to hour, ratios of neighbouring turns much less. A question (`questions/`) says what is compared with what; a
//! turn of an alternative gives a sample (`runner`); all samples and the machine's description are the raw results
//! (`record`); tables, plots and the list of targets are made from these (`report`).

pub mod artifacts;
pub mod daemon;
pub mod demo;
pub mod lab;
pub mod load;
pub mod machine;
pub mod namespaces;
pub mod neighbours;
pub mod peers;
pub mod pool;
pub mod process;
pub mod progress;
pub mod questions;
pub mod record;
pub mod report;
pub mod runner;
pub mod servers;
pub mod skip;
pub mod sockmap;
pub mod statistics;
pub mod way;
