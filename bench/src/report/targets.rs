//! The targets, and whether this run has met them.

use crate::questions::{bystander, connect, costs, daemon, instructions, memcached, oneway, pgbench, pingpong};
use crate::questions::{redis, web};
use crate::record::{Case, Results};
use crate::report::table::number;
use crate::statistics::Ratio;

/// One case against its limit.
struct Check {
    case: String,
    /// At least 1 if it is met: the ratio to the limit, with its interval.
    margin: Ratio,
    shown: String,
}

/// Finds the cases of a target.
type Find = fn(&All) -> Vec<Check>;

struct Target {
    what: &'static str,
    wanted: &'static str,
    find: Find,
}

/// The raw results of a run.
struct All<'a>(&'a [Results]);

impl All<'_> {
    /// The cases of a question that satisfy this condition, each with its name.
    fn cases(&self, question: &str, which: impl Fn(&Case) -> bool) -> Vec<(String, &Case)> {
        let results = self.0.iter().filter(|r| r.question == question);
        let cases = results.flat_map(|r| r.cases.iter().map(|c| (format!("{}: {}", r.question, c.describe()), c)));
        cases.filter(|(_, c)| which(c)).collect()
    }

    /// One alternative must be at least `limit` times as good as another.
    fn ratios(&self, question: &str, one: &str, than: &str, limit: f64, which: impl Fn(&Case) -> bool) -> Vec<Check> {
        let found = self.cases(question, which);
        let check = |(case, c): (String, &Case)| {
            let r = c.better(one, than)?;
            let margin = Ratio { median: r.median / limit, low: r.low / limit, high: r.high / limit };
            Some(Check { case, margin, shown: r.to_string() })
        };
        found.into_iter().filter_map(check).collect()
    }

    /// One value must be at least, or at most, `limit`.
    fn values(&self, question: &str, name: &str, limit: f64, which: impl Fn(&Case) -> bool) -> Vec<Check> {
        let check = |(case, c): (String, &Case)| {
            let value = c.series(name)?.median();
            let share = match c.metric.better {
                crate::record::Better::Higher => value / limit,
                crate::record::Better::Lower => limit / value.max(1e-9),
            };
            let margin = Ratio { median: share, low: share, high: share };
            Some(Check { case, margin, shown: format!("{} {}", number(value), c.metric.unit) })
        };
        self.cases(question, which).into_iter().filter_map(check).collect()
    }
}

fn bytes(c: &Case) -> usize {
    c.label("bytes").and_then(|b| b.parse().ok()).unwrap_or(0)
}

fn is(c: &Case, label: &str, value: &str) -> bool {
    c.label(label) == Some(value)
}

const EQUAL: &str = "Unix socket, shim's buffers";

const TARGETS: &[Target] = &[
    Target {
        what: "a stream that has moved against a Unix socket with its buffers: round trip",
        wanted: "≥ 0.98",
        find: |all| all.ratios(pingpong::QUESTION.name, "shim", EQUAL, 0.98, |_| true),
    },
    Target {
        what: "the same: throughput",
        wanted: "≥ 0.98",
        find: |all| all.ratios(oneway::QUESTION.name, "shim", EQUAL, 0.98, |_| true),
    },
    Target {
        what: "round trip against TCP, 8 B to 64 KiB",
        wanted: "> 1",
        find: |all| all.ratios(pingpong::QUESTION.name, "shim", "TCP", 1.0, |c| bytes(c) <= 65_536),
    },
    Target {
        what: "throughput against TCP, writes of 4 KiB and more",
        wanted: "≥ 1",
        find: |all| all.ratios(oneway::QUESTION.name, "shim", "TCP", 1.0, |c| bytes(c) >= 4096),
    },
    Target {
        what: "throughput against TCP, left to the scheduler, 64 KiB and more",
        wanted: "≥ 1.5",
        find: |all| {
            let free = |c: &Case| bytes(c) >= 65_536 && is(c, "CPUs", "free") && is(c, "beside", "idle");
            all.ratios(oneway::QUESTION.name, "shim", "TCP", 1.5, free)
        },
    },
    Target {
        what: "streams of small writes in one direction, from the first byte on, against TCP",
        wanted: "≥ 0.95",
        find: |all| all.ratios(oneway::QUESTION.name, oneway::FROM_THE_START, "TCP", 0.95, |_| true),
    },
    Target {
        what: "read and write on a file, a pipe, a stream that stays: instructions more",
        wanted: "≤ 15",
        find: more_instructions,
    },
    Target {
        what: "open and close; select over 100 sockets",
        wanted: "≥ 0.99",
        find: |all| costs(all, 0.99, &["open+close", "select-100"]),
    },
    Target { what: "start of /bin/true", wanted: "≥ 0.95", find: |all| costs(all, 0.95, &["start"]) },
    Target { what: "fork, fork and exec", wanted: "≥ 0.95", find: |all| costs(all, 0.95, &["fork", "fork+exec"]) },
    Target {
        what: "connect, one byte, close: rate against TCP",
        wanted: "≥ 0.95",
        find: |all| {
            let shortest = |case: &Case| case.label(connect::EXCHANGES) == Some(connect::ONE);
            all.ratios(connect::QUESTION.name, "shim", "TCP", 0.95, shortest)
        },
    },
    Target { what: "only one end has the shim", wanted: "≥ 0.99", find: one_end },
    Target {
        what: "redis, 50 clients and pipeline 16, against its own Unix socket",
        wanted: "≥ 0.95",
        find: |all| all.ratios(redis::QUESTION.name, "shim", "Unix socket", 0.95, |c| is(c, "clients", "50")),
    },
    Target {
        what: "memcached against its own Unix socket",
        wanted: "≥ 0.95",
        find: |all| all.ratios(memcached::QUESTION.name, "shim", "Unix socket", 0.95, |_| true),
    },
    Target {
        what: "pgbench against PostgreSQL's own Unix socket",
        wanted: "≥ 0.95",
        find: |all| all.ratios(pgbench::QUESTION.name, "shim", "Unix socket", 0.95, |_| true),
    },
    Target {
        what: "nginx → php-fpm against php-fpm's own Unix socket",
        wanted: "≥ 0.95",
        find: |all| {
            all.ratios(web::QUESTION.name, "shim", "Unix socket", 0.95, |c| is(c, web::DATABASE, web::PHP_ALONE))
        },
    },
    Target {
        what: "redis, memcached, pgbench against TCP: of the gain of the program's own Unix socket",
        wanted: "≥ 0.95",
        find: |all| {
            let programs = [redis::QUESTION.name, memcached::QUESTION.name, pgbench::QUESTION.name];
            programs.iter().flat_map(|p| share_of_gain(all, p)).collect()
        },
    },
    Target {
        what: "pairs per second of ipcd's CPU time",
        wanted: "≥ 20,000",
        find: |all| all.values(daemon::QUESTION.name, "shim", 20_000.0, |c| c.metric.what == daemon::PAIRS),
    },
    Target {
        what: "from the N-th byte until the stream has moved, 99th percentile",
        wanted: "≤ 1 ms",
        find: time_to_move,
    },
    Target {
        what: "streams held by one ipcd",
        wanted: "≥ 50,000",
        find: |all| {
            let most = |c: &Case| c.metric.what == daemon::HELD && is(c, "live streams", "50000");
            all.values(daemon::QUESTION.name, "shim", 50_000.0, most)
        },
    },
    Target {
        what: "memory of ipcd for each endpoint",
        wanted: "≤ 1 KiB",
        find: |all| {
            let many = |c: &Case| c.metric.what == daemon::MEMORY && !is(c, "live streams", "1000");
            all.values(daemon::QUESTION.name, "shim", 1024.0, many)
        },
    },
];

/// Whether (shim : TCP) is at least 0.95 of (Unix socket : TCP), each the ratio of neighbouring turns.
fn share_of_gain(all: &All, question: &str) -> Vec<Check> {
    let check = |(case, c): (String, &Case)| {
        let (shim, unix) = (c.better("shim", "TCP")?, c.better("Unix socket", "TCP")?);
        let share = |of: f64| of / unix.median / 0.95;
        let margin = Ratio { median: share(shim.median), low: share(shim.low), high: share(shim.high) };
        Some(Check { case, margin, shown: format!("{:.2} of {:.2}", shim.median, unix.median) })
    };
    all.cases(question, |_| true).into_iter().filter_map(check).collect()
}

fn time_to_move(all: &All) -> Vec<Check> {
    let check = |(case, c): (String, &Case)| {
        let p99 = c.series.first()?.p99_us?;
        let share = 1000.0 / p99.max(0.001);
        Some(Check {
            case,
            margin: Ratio { median: share, low: share, high: share },
            shown: format!("{} µs", number(p99)),
        })
    };
    all.cases(daemon::QUESTION.name, |c| c.metric.what == daemon::TO_MOVE).into_iter().filter_map(check).collect()
}

fn costs(all: &All, limit: f64, calls: &[&str]) -> Vec<Check> {
    let asked = |c: &Case| c.label("call").is_some_and(|call| calls.contains(&call));
    all.ratios(costs::QUESTION.name, "shim", "no shim", limit, asked)
}

fn one_end(all: &All) -> Vec<Check> {
    let settled = ["shim, client only", "shim, server only", bystander::FROM_THE_START];
    settled.iter().flat_map(|way| all.ratios(bystander::QUESTION.name, way, "TCP", 0.99, |_| true)).collect()
}

fn more_instructions(all: &All) -> Vec<Check> {
    let limited = |c: &Case| {
        let on = ["file", "pipe", "stream that stays on TCP"];
        c.label("on").is_some_and(|o| on.contains(&o)) && (is(c, "call", "read") || is(c, "call", "write"))
    };
    let check = |(case, c): (String, &Case)| {
        let more = c.series(instructions::SHIM)?.median() - c.series.first()?.median();
        let share = if more <= instructions::LIMIT { 1.0 } else { instructions::LIMIT / more };
        Some(Check { case, margin: Ratio { median: share, low: share, high: share }, shown: format!("{more:+.0}") })
    };
    all.cases(instructions::QUESTION.name, limited).into_iter().filter_map(check).collect()
}

/// The result of a target.
struct Outcome {
    target: &'static Target,
    verdict: &'static str,
    worst: String,
}

fn outcome(target: &'static Target, all: &All) -> Outcome {
    let mut checks = (target.find)(all);
    checks.sort_by(|a, b| a.margin.median.total_cmp(&b.margin.median));
    let good = checks.iter().filter(|c| c.margin.median >= 1.0).count();
    let verdict = match checks.first() {
        None => "not measured",
        Some(worst) if worst.margin.median >= 1.0 => "met",
        Some(_) if checks.iter().any(|c| c.margin.high < 1.0) => "NOT MET",
        Some(_) => "not met, within the noise",
    };
    let worst =
        checks.first().map_or(String::new(), |c| format!("{good} of {}; worst {} ({})", checks.len(), c.shown, c.case));
    Outcome { target, verdict, worst }
}

fn outcomes(all: &[Results]) -> Vec<Outcome> {
    TARGETS.iter().map(|t| outcome(t, &All(all))).collect()
}

/// A row for docs/results.
pub fn markdown(all: &[Results]) -> String {
    let mut text = String::from("| target | wanted | | cases |\n|---|---|---|---|\n");
    for o in outcomes(all) {
        text += &format!("| {} | {} | {} | {} |\n", o.target.what, o.target.wanted, o.verdict, o.worst);
    }
    text + "\n*Within the noise*: the median misses the limit, and the interval of no case lies wholly below it.\n"
}

/// A line for the terminal.
pub fn text(all: &[Results]) -> String {
    let line = |o: Outcome| format!("{:<26}{} ({})\n{:26}{}\n", o.verdict, o.target.what, o.target.wanted, "", o.worst);
    outcomes(all).into_iter().filter(|o| o.verdict != "not measured").map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{All, TARGETS, outcome};
    use crate::machine::Machine;
    use crate::questions::pingpong;
    use crate::record::{Case, Metric, Results, Series};

    /// Round trips of one case, TCP and the shim.
    fn measured(tcp: &[f64], shim: &[f64]) -> [Results; 1] {
        let series = |name: &str, values: &[f64]| Series { name: name.into(), values: values.into(), p99_us: None };
        let labels = vec![("bytes".to_owned(), "64".to_owned())];
        let series = vec![series("TCP", tcp), series("shim", shim)];
        let case = Case { labels, metric: Metric::lower("round trip", "µs"), series };
        let (question, title) = (pingpong::QUESTION.name.into(), String::new());
        let (machine, cases, seconds) = (Machine::describe(), vec![case], 0.0);
        [Results { question, title, machine, cases, seconds, notes: vec![], skipped: vec![], failed: vec![] }]
    }

    fn verdict(results: &[Results]) -> &'static str {
        let target = TARGETS.iter().find(|t| t.what.starts_with("round trip against TCP")).expect("the target");
        outcome(target, &All(results)).verdict
    }

    #[test]
    fn verdicts() {
        assert_eq!(verdict(&measured(&[20.0, 21.0, 22.0], &[10.0, 10.0, 10.0])), "met");
        assert_eq!(verdict(&measured(&[10.0, 10.0, 10.0], &[20.0, 21.0, 22.0])), "NOT MET");
        assert_eq!(verdict(&measured(&[10.0, 10.0, 10.0], &[11.0, 12.0, 5.0])), "not met, within the noise");
        assert_eq!(verdict(&[]), "not measured");
    }
}
