//! What `ipcd ls` and `ipcd stats` show.

use std::collections::BTreeMap;

use matcher::reason::Reason;
use matcher::wire::Role;
use serde::{Deserialize, Serialize};

use crate::broker::Broker;
use crate::broker::endpoint::Endpoint;
use crate::kernel;
use crate::view::metrics::Times;
use crate::view::rows::Row;

/// Every live stream and endpoint, oldest first, then those that ended.
pub fn rows(broker: &Broker) -> Vec<Row> {
    let now = kernel::now();
    let mut live: Vec<(&u64, &Endpoint)> = broker.endpoints.iter().map(|(c, e)| (c, e.as_ref())).collect();
    live.sort_by_key(|(cookie, e)| (e.began, **cookie));
    let row = |(cookie, e): (&u64, &Endpoint)| {
        let peer = e.peer.and_then(|p| broker.endpoints.get_key_value(&p)).map(|(c, e)| (*c, e.as_ref()));
        // The end that connected stands for both.
        (peer.is_none() || e.role == Role::Connected).then(|| Row::new((*cookie, e), peer, now))
    };
    live.into_iter().filter_map(row).chain(broker.ended.iter().cloned()).collect()
}

/// The counters.
#[derive(Serialize, Deserialize, Debug)]
pub struct Stats {
    /// Seconds since ipcd started.
    pub uptime_s: f64,
    /// ipcd's process.
    pub pid: u32,
    /// N: how many bytes of each direction are hashed.
    pub prefix_bytes: u32,
    /// Changes of direction, or times 16 KiB, before a connection is offered.
    pub patience: u32,
    /// Streams of smaller writes in one direction stay on TCP; 0: none.
    pub small_writes: u32,
    /// Clients that are connected.
    pub sessions: usize,
    /// Endpoints that are alive, by state.
    pub endpoints: BTreeMap<String, usize>,
    /// Clients, since ipcd started.
    pub sessions_total: u64,
    /// Endpoints, since ipcd started.
    pub endpoints_total: u64,
    /// Pairs that were granted.
    pub pairs: u64,
    /// Streams of which both ends became final.
    pub finals: u64,
    /// Endpoints that ipcd refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Endpoints that their process left on TCP, by reason.
    pub stayed: BTreeMap<String, u64>,
    /// Clients dropped for a record that makes no sense, or not at that point.
    pub malformed_clients: u64,
    /// Clients dropped because they did not read.
    pub slow_clients: u64,
    /// Clients and endpoints turned away because of a limit.
    pub limited: u64,
    /// Reports about endpoints that the reporter has no say about.
    pub stray_reports: u64,
    /// From the call of connect until both ends were final.
    pub connect_to_final: Times,
    /// From the report of an endpoint's N-th byte until its grant.
    pub prefix_to_grant: Times,
}

/// Counts everything.
pub fn stats(broker: &Broker) -> Stats {
    let m = &broker.metrics;
    let mut endpoints = BTreeMap::new();
    for e in broker.endpoints.values() {
        let word = if e.ended.is_some() { "closed" } else { e.state.word() };
        *endpoints.entry(word.to_owned()).or_default() += 1;
    }
    let words = |counts: &BTreeMap<Reason, u64>| counts.iter().map(|(r, n)| (r.word().to_owned(), *n)).collect();
    Stats {
        uptime_s: kernel::now().saturating_sub(m.started) as f64 / 1e9,
        pid: std::process::id(),
        prefix_bytes: broker.config.terms.prefix_bytes,
        patience: broker.config.terms.patience,
        small_writes: broker.config.terms.small_writes,
        sessions: broker.sessions.len(),
        endpoints,
        sessions_total: m.sessions,
        endpoints_total: m.endpoints,
        pairs: m.pairs,
        finals: m.finals,
        refused: words(&m.refused),
        stayed: words(&m.stayed),
        malformed_clients: m.malformed,
        slow_clients: m.slow,
        limited: m.limited,
        stray_reports: m.stray,
        connect_to_final: m.connect_to_final(),
        prefix_to_grant: m.prefix_to_grant(),
    }
}
