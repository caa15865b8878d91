//! Counters of one ipcd's life.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use matcher::reason::Reason;
use serde::{Deserialize, Serialize};

/// Everything that is counted and is not a property of what is alive.
pub struct Metrics {
    /// CLOCK_MONOTONIC nanoseconds when ipcd started.
    pub started: u64,
    /// Sessions that said Hello.
    pub sessions: u64,
    /// Endpoints that were opened.
    pub endpoints: u64,
    /// Pairs that were granted.
    pub pairs: u64,
    /// Streams of which both ends are final.
    pub finals: u64,
    /// Endpoints that ipcd refused.
    pub refused: BTreeMap<Reason, u64>,
    /// Endpoints that their process left on TCP.
    pub stayed: BTreeMap<Reason, u64>,
    /// Clients dropped for a record that makes no sense, or not at that point.
    pub malformed: u64,
    /// Clients dropped because they did not read.
    pub slow: u64,
    /// Clients turned away, and endpoints refused, because of a limit.
    pub limited: u64,
    /// Reports of endpoints that the reporter does not have, or has no say about.
    pub stray: u64,
    connect_to_final: Histogram<u64>,
    prefix_to_grant: Histogram<u64>,
}

/// A distribution of times, in microseconds.
#[derive(Serialize, Deserialize, Debug)]
pub struct Times {
    /// How many were measured.
    pub count: u64,
    /// Half were faster.
    pub p50_us: f64,
    /// All but one in a hundred were faster.
    pub p99_us: f64,
    /// The slowest.
    pub max_us: f64,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new(started: u64) -> Metrics {
        let histogram = || {
            // One nanosecond to an hour, three digits: 40 KiB that never grow.
            let new = Histogram::new_with_bounds(1, 3_600_000_000_000, 3);
            new.unwrap_or_else(|_| unreachable!("the bounds are constants that satisfy the constructor"))
        };
        Metrics {
            started,
            sessions: 0,
            endpoints: 0,
            pairs: 0,
            finals: 0,
            refused: BTreeMap::new(),
            stayed: BTreeMap::new(),
            malformed: 0,
            slow: 0,
            limited: 0,
            stray: 0,
            connect_to_final: histogram(),
            prefix_to_grant: histogram(),
        }
    }

    /// A stream was final this long after its connect call began.
    pub fn became_final(&mut self, nanoseconds: u64) {
        self.finals += 1;
        self.connect_to_final.saturating_record(nanoseconds.max(1));
    }

    /// An endpoint was granted this long after its first N bytes were reported.
    pub fn granted(&mut self, nanoseconds: u64) {
        self.prefix_to_grant.saturating_record(nanoseconds.max(1));
    }

    /// The time from connect to final.
    pub fn connect_to_final(&self) -> Times {
        times(&self.connect_to_final)
    }

    /// The time from the N-th byte to the grant.
    pub fn prefix_to_grant(&self) -> Times {
        times(&self.prefix_to_grant)
    }
}

fn times(h: &Histogram<u64>) -> Times {
    let us = |ns: u64| ns as f64 / 1000.0;
    if h.is_empty() {
        return Times { count: 0, p50_us: 0.0, p99_us: 0.0, max_us: 0.0 };
    }
    Times {
        count: h.len(),
        p50_us: us(h.value_at_quantile(0.5)),
        p99_us: us(h.value_at_quantile(0.99)),
        max_us: us(h.max()),
    }
}
