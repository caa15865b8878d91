//! Makes a program that shows a difference smaller.

use std::time::{Duration, Instant};

use super::program::Program;
use super::{Difference, Verdict, try_program};
use crate::Daemon;

/// Removes steps as long as some difference remains, for at most `limit`.
pub fn shrink(program: &Program, difference: &Difference, daemon: &Daemon, limit: Duration) -> (Program, Difference) {
    let start = Instant::now();
    let (mut best, mut shown) = (program.clone(), difference.clone());
    best.steps.truncate(difference.step + 1);
    let mut size = best.steps.len() / 2;
    while size > 0 && start.elapsed() < limit {
        let mut at = 0;
        let before = best.steps.len();
        while at < best.steps.len() && start.elapsed() < limit {
            let mut smaller = best.clone();
            smaller.steps.drain(at..(at + size).min(best.steps.len()));
            match try_program(&smaller, daemon) {
                Verdict::Differs(other) => {
                    smaller.steps.truncate(other.step + 1);
                    (best, shown) = (smaller, other);
                }
                _ => at += size,
            }
        }
        if size > 1 || best.steps.len() == before {
            size /= 2;
        }
    }
    (best, shown)
}
