//! Other work on every CPU.

use std::process::Command;

use anyhow::Result;

use crate::artifacts;
use crate::process::{Server, die_with_us};

/// One spinning process for each CPU, while it lives.
pub struct Neighbours {
    _all: Vec<Server>,
}

impl Neighbours {
    /// Starts them.
    pub fn start() -> Result<Neighbours> {
        let cpus = std::thread::available_parallelism()?.get();
        let start = |cpu: usize| {
            let mut command = Command::new(artifacts::SPIN);
            die_with_us(&mut command);
            Server::start(command.arg(cpu.to_string()))
        };
        Ok(Neighbours { _all: (0..cpus).map(start).collect::<Result<_>>()? })
    }
}
