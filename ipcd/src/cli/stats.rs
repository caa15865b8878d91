//! `ipcd stats`.

use std::collections::BTreeMap;

use matcher::wire::Query;

use super::SocketArg;
use crate::view::metrics::Times;
use crate::view::report::Stats;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    socket: SocketArg,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn main(args: &Args) -> Result<(), String> {
    let answer = super::ask(&args.socket.path(), Query::Stats)?;
    let stats: Stats = serde_json::from_slice(&answer).map_err(|e| format!("cannot read the answer: {e}"))?;
    if args.json {
        let json = serde_json::to_string_pretty(&stats).map_err(|e| e.to_string())?;
        return super::print(&(json + "\n"));
    }
    super::print(&text(&stats))
}

fn text(s: &Stats) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| out += &format!("{name:<24}{value}\n");
    line("uptime", format!("{:.0} s (pid {})", s.uptime_s, s.pid));
    line("prefix (N)", format!("{} bytes", s.prefix_bytes));
    line("patience", format!("{} changes of direction", s.patience));
    if s.small_writes > 0 {
        line("small writes", format!("fewer than {} bytes, in one direction, stay", s.small_writes));
    }
    line("sessions", format!("{} ({} in all)", s.sessions, s.sessions_total));
    let live: usize = s.endpoints.values().sum();
    line("endpoints", format!("{live} ({} in all){}", s.endpoints_total, list(&s.endpoints)));
    line("pairs", s.pairs.to_string());
    line("final streams", s.finals.to_string());
    line("refused by ipcd", format!("{}{}", s.refused.values().sum::<u64>(), list(&s.refused)));
    line("left on TCP", format!("{}{}", s.stayed.values().sum::<u64>(), list(&s.stayed)));
    line("malformed clients", s.malformed_clients.to_string());
    line("slow clients", s.slow_clients.to_string());
    line("over a limit", s.limited.to_string());
    line("stray reports", s.stray_reports.to_string());
    line("connect to final", times(&s.connect_to_final));
    line("N-th byte to grant", times(&s.prefix_to_grant));
    out
}

fn list<N: std::fmt::Display>(counts: &BTreeMap<String, N>) -> String {
    let parts: Vec<_> = counts.iter().map(|(word, n)| format!("{word} {n}")).collect();
    if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) }
}

fn times(t: &Times) -> String {
    if t.count == 0 {
        return "-".into();
    }
    format!("p50 {:.0} µs, p99 {:.0} µs, max {:.0} µs ({} measured)", t.p50_us, t.p99_us, t.max_us, t.count)
}
