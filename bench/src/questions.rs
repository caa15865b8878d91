//! The questions. Each has a file of its own.

use anyhow::Result;

use crate::lab::Lab;
use crate::progress::Progress;
use crate::record::Results;
use crate::runner::{Recorder, Scope};

pub mod alternatives;
pub mod buffers;
pub mod bystander;
pub mod connect;
pub mod containers;
pub mod costs;
pub mod daemon;
pub mod distinct;
pub mod duplex;
pub mod echo;
pub mod instructions;
pub mod iperf;
pub mod memcached;
pub mod messages;
pub mod netpipe;
pub mod nginx;
pub mod oneway;
pub mod pgbench;
pub mod pingpong;
pub mod prefix;
pub mod redis;
pub mod streams;
pub mod web;

/// A question, and how it is answered.
pub struct Question {
    /// Its name on the command line and in the names of its files.
    pub name: &'static str,
    /// The question in words.
    pub title: &'static str,
    /// About how long it takes, in seconds.
    pub seconds: u64,
    /// The same for its short form; 0 if `--quick` leaves it out.
    pub quick: u64,
    /// Arguments of `ipcd serve`.
    pub daemon: &'static [&'static str],
    /// Measures.
    pub run: fn(&Lab, &mut Recorder) -> Result<()>,
}

/// All of them, in the order in which they are answered and shown.
pub const ALL: &[Question] = &[
    pingpong::QUESTION,
    oneway::QUESTION,
    buffers::QUESTION,
    alternatives::QUESTION,
    messages::QUESTION,
    duplex::QUESTION,
    streams::QUESTION,
    connect::QUESTION,
    bystander::QUESTION,
    netpipe::QUESTION,
    iperf::QUESTION,
    redis::QUESTION,
    memcached::QUESTION,
    pgbench::QUESTION,
    nginx::QUESTION,
    web::QUESTION,
    echo::QUESTION,
    costs::QUESTION,
    instructions::QUESTION,
    daemon::QUESTION,
    containers::QUESTION,
];

/// Their names.
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|q| q.name).collect()
}

impl Question {
    /// The seconds that it is expected to take.
    pub fn seconds(&self, scope: Scope) -> u64 {
        // A question that the short form leaves out can still be asked by name.
        let quick = if self.quick > 0 { self.quick } else { self.seconds / 3 };
        scope.of(self.seconds, quick, 1)
    }

    /// Its answer, which also lists what could not be measured.
    pub fn answer(&self, scope: Scope, rounds: usize, ipcd: &[String], progress: &Progress) -> Results {
        let mut recorder = Recorder::new(self.name, self.title, rounds, progress);
        progress.begin(self.name, self.seconds(scope));
        let daemon: Vec<&str> = self.daemon.iter().copied().chain(ipcd.iter().map(String::as_str)).collect();
        let done = Lab::new(scope, &daemon).and_then(|lab| (self.run)(&lab, &mut recorder));
        if let Err(e) = done {
            recorder.missing("everything".into(), &e);
        }
        recorder.finish()
    }
}
