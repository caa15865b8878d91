//! Tests that the measurements run. The figures are not judged here: this machine may be busy.

use std::fs;
use std::io::Write;

use bench::progress::Progress;
use bench::questions::{self, prefix};
use bench::record::Results;
use bench::report::{self, targets};
use bench::runner::Scope;

/// Answers a question with the smallest measurement; nothing may fail, and what is missing here is printed.
fn answers(name: &str) {
    let question = questions::ALL.iter().find(|q| q.name == name).expect("a question");
    let results = question.answer(Scope::Smoke, 1, &[], &Progress::hidden());
    for skipped in &results.skipped {
        // Written around the output that the test harness captures.
        let _ = writeln!(std::io::stderr(), "SKIPPED  {name}, {}: {}", skipped.what, skipped.why);
    }
    assert_eq!(results.failed, [], "{name}");
    assert!(!results.cases.is_empty() || !results.skipped.is_empty(), "{name} measured nothing");
    let values = results.cases.iter().flat_map(|c| &c.series).flat_map(|s| &s.values);
    assert!(values.clone().all(|v| *v >= 0.0), "{results:#?}");
    is_reported(&results);
}

/// The raw results can be read back, and each question has a table and a picture.
fn is_reported(results: &Results) {
    let dir = tempfile::tempdir().expect("a directory");
    results.write(dir.path()).expect("raw results");
    let all = Results::read_all(dir.path(), &questions::names()).expect("what was written");
    assert_eq!(all.len(), 1);
    report::write(dir.path(), &all).unwrap_or_else(|e| panic!("{e:#}"));
    let read = |end: &str| fs::read_to_string(dir.path().join(format!("{}.{end}", results.question))).expect("a file");
    let (page, picture) = (read("md"), read("svg"));
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    for series in results.cases.iter().flat_map(|c| &c.series) {
        assert!(page.contains(&series.name), "{} is not in\n{page}", series.name);
    }
    let index = fs::read_to_string(dir.path().join("README.md")).expect("an index");
    assert!(index.contains(&results.title) && index.contains(&results.machine.kernel), "{index}");
    assert!(targets::text(&all).lines().all(|l| !l.contains("NaN")));
}

macro_rules! questions {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            answers(stringify!($name));
        })*

        #[test]
        fn every_question_is_tested() {
            assert_eq!(questions::names(), [$(stringify!($name)),*]);
        }
    };
}

questions! {
    pingpong oneway buffers alternatives messages duplex streams connect bystander netpipe iperf redis memcached pgbench
    nginx web echo costs instructions daemon containers
}

#[test]
fn prefix_lengths() {
    let args = prefix::Args { lengths: vec![1, 64], connections: 1, rounds: 1, json: false };
    let report = prefix::measure(&args).unwrap_or_else(|e| panic!("{e:#}"));
    assert_eq!(report.cells.len(), 2 * prefix::WORKLOADS.len());
    assert_eq!(report.costs.len(), 2);
    assert!(prefix::table(&report, &args.lengths).contains("| http, 100 |"));
}
