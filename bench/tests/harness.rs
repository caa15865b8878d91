//! That the measurements run. What they measure is not judged here: this machine may be busy.

use bench::peers::{self, Kind, Place};
use bench::{prefix, redis};

#[test]
fn peers() {
    let args =
        peers::Args { sizes: vec![8, 65_536], rounds: 2, millis: 20, place: Place::Two, buffer: None, json: false };
    for kind in [Kind::PingPong, Kind::Bulk] {
        let rows = peers::measure(kind, &args).unwrap_or_else(|e| panic!("{e:#}"));
        assert_eq!(rows.len(), 2);
        assert!(rows.iter().all(|r| r.tcp > 0.0 && r.shim > 0.0 && r.unix > 0.0), "{rows:#?}");
        assert_eq!(peers::table(kind, &rows).lines().count(), 3);
    }
}

#[test]
fn redis_benchmark() {
    let args = redis::Args { rounds: 1, requests: 20_000, clients: 10, json: false };
    let report = redis::measure(&args).unwrap_or_else(|e| panic!("{e:#}"));
    assert!(report.tcp[0] > 0.0 && report.shim[0] > 0.0 && report.unix[0] > 0.0, "{report:#?}");
    assert_eq!(report.streams, 10);
    assert!(redis::table(&report).contains("of 10 client streams"));
}

#[test]
fn prefix_lengths() {
    let args = prefix::Args { lengths: vec![1, 64], connections: 1, rounds: 1, json: false };
    let report = prefix::measure(&args).unwrap_or_else(|e| panic!("{e:#}"));
    assert_eq!(report.cells.len(), 2 * prefix::WORKLOADS.len());
    assert_eq!(report.costs.len(), 2);
    assert!(prefix::table(&report, &args.lengths).contains("| http, 100 |"));
}
