//! Lets alternatives take turns, and collects their samples.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;

use crate::machine::Machine;
use crate::neighbours::Neighbours;
use crate::progress::Progress;
use crate::record::{Case, Metric, Missing, Results, Series};
use crate::skip::is_skip;
use crate::statistics::median;

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Everything.
    Full,
    /// The most important cases, in two minutes.
    Quick,
    /// As little as shows that the measurement works.
    Smoke,
}

impl Scope {
    /// The value for one of the three.
    pub fn of<T>(self, full: T, quick: T, smoke: T) -> T {
        match self {
            Scope::Full => full,
            Scope::Quick => quick,
            Scope::Smoke => smoke,
        }
    }

    /// How often the alternatives take turns.
    pub fn rounds(self) -> usize {
        self.of(5, 3, 1)
    }
}

/// The result of one turn for one case.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// In the metric's unit.
    pub value: f64,
    /// Single times in nanoseconds, if there are any.
    pub times: Vec<u32>,
    /// The 99th percentile that the program itself reports, if it does not report single times.
    pub p99_us: Option<f64>,
}

impl From<f64> for Sample {
    fn from(value: f64) -> Sample {
        Sample { value, ..Sample::default() }
    }
}

/// The other load on the CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Load {
    /// None from the measurements.
    Idle,
    /// One spinning process for each CPU.
    Busy,
}

impl Load {
    /// Its value as a label.
    pub fn name(self) -> &'static str {
        match self {
            Load::Idle => "idle",
            Load::Busy => "busy neighbour",
        }
    }
}

/// Runs once, and returns a sample for each case of its group.
pub type Turn<'a> = Box<dyn Fn() -> Result<Vec<Sample>> + 'a>;

/// A name and how to take a turn.
pub struct Alternative<'a> {
    name: String,
    turn: Turn<'a>,
}

impl<'a> Alternative<'a> {
    /// An alternative that gives one sample.
    pub fn new(name: impl Into<String>, turn: impl Fn() -> Result<Sample> + 'a) -> Alternative<'a> {
        Alternative::several(name, move || Ok(vec![turn()?]))
    }

    /// An alternative that gives a sample for each case.
    pub fn several(name: impl Into<String>, turn: impl Fn() -> Result<Vec<Sample>> + 'a) -> Alternative<'a> {
        Alternative { name: name.into(), turn: Box::new(turn) }
    }
}

/// The labels that distinguish a case, and the kind of its values.
pub struct Head {
    labels: Vec<(String, String)>,
    metric: Metric,
}

impl Head {
    /// Labels in the order in which they are shown.
    pub fn new(labels: &[(&str, &str)], metric: Metric) -> Head {
        Head { labels: labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(), metric }
    }
}

/// Collects the results of one question.
pub struct Recorder<'a> {
    rounds: usize,
    progress: &'a Progress,
    results: Results,
    started: Instant,
}

impl<'a> Recorder<'a> {
    /// Nothing measured yet.
    pub fn new(question: &str, title: &str, rounds: usize, progress: &'a Progress) -> Recorder<'a> {
        let results = Results {
            question: question.into(),
            title: title.into(),
            notes: Vec::new(),
            machine: Machine::describe(),
            seconds: 0.0,
            cases: Vec::new(),
            skipped: Vec::new(),
            failed: Vec::new(),
        };
        Recorder { rounds, progress, results, started: Instant::now() }
    }

    /// Adds a note that a reader must know.
    pub fn note(&mut self, text: impl Into<String>) {
        self.results.notes.push(text.into());
    }

    /// For figures that are counted and the same every time.
    pub fn only_once(&mut self) {
        self.rounds = 1;
    }

    /// Measures one case beside this load.
    pub fn case(&mut self, load: Load, labels: &[(&str, &str)], metric: Metric, alternatives: Vec<Alternative>) {
        self.group(load, vec![Head::new(labels, metric)], alternatives);
    }

    /// Measures cases for which each turn gives all samples.
    pub fn group(&mut self, load: Load, heads: Vec<Head>, alternatives: Vec<Alternative>) {
        let neighbours = match load {
            Load::Idle => Ok(None),
            Load::Busy => Neighbours::start().map(Some),
        };
        let what = heads.first().map_or(String::new(), |h| {
            h.labels.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
        });
        if let Err(e) = &neighbours {
            return self.missing(what, &anyhow::anyhow!("{e:#}"));
        }
        let mut taken: Vec<Vec<Vec<Sample>>> = alternatives.iter().map(|_| Vec::new()).collect();
        let mut out: Vec<bool> = alternatives.iter().map(|_| false).collect();
        for _ in 0..self.rounds {
            for (i, alternative) in alternatives.iter().enumerate().filter(|(i, _)| !out[*i]).collect::<Vec<_>>() {
                self.progress.now(&self.results.question, &format!("{what}: {}", alternative.name));
                let turn = (alternative.turn)().and_then(|samples| {
                    ensure!(samples.len() == heads.len(), "{} samples for {} cases", samples.len(), heads.len());
                    Ok(samples)
                });
                match turn.with_context(|| alternative.name.clone()) {
                    Ok(samples) => taken[i].push(samples),
                    Err(e) => {
                        out[i] = true;
                        self.missing(format!("{what}: {}", alternative.name), &e);
                    }
                }
            }
        }
        for (c, head) in heads.into_iter().enumerate() {
            let kept = alternatives.iter().zip(&taken).zip(&out).filter(|(_, out)| !**out);
            let series = kept.map(|((a, turns), _)| series(&a.name, turns.iter().map(|samples| &samples[c])));
            let series: Vec<Series> = series.collect();
            if !series.is_empty() {
                self.results.cases.push(Case { labels: head.labels, metric: head.metric, series });
            }
        }
    }

    /// Records what was not measured, and prints it at once.
    pub fn missing(&mut self, what: String, error: &anyhow::Error) {
        let skipped = is_skip(error);
        let why = format!("{:#}", error).replacen(&format!("{}: ", what.rsplit(": ").next().unwrap_or("")), "", 1);
        let (list, verb) = match skipped {
            true => (&mut self.results.skipped, "SKIPPED"),
            false => (&mut self.results.failed, "FAILED"),
        };
        if !list.iter().any(|m| m.why == why && skipped) {
            self.progress.say(&format!("{verb}  {}, {what}: {why}", self.results.question));
        }
        list.push(Missing { what, why });
    }

    /// Returns the answer.
    pub fn finish(mut self) -> Results {
        self.results.seconds = self.started.elapsed().as_secs_f64();
        self.results.machine.load_after = crate::machine::load();
        self.results
    }
}

fn series<'a>(name: &str, samples: impl Iterator<Item = &'a Sample>) -> Series {
    let (mut values, mut said) = (Vec::new(), Vec::new());
    let mut times = histogram();
    for sample in samples {
        values.push(sample.value);
        said.extend(sample.p99_us);
        for t in &sample.times {
            times.saturating_record(u64::from(*t).max(1));
        }
    }
    let counted = (!times.is_empty()).then(|| times.value_at_quantile(0.99) as f64 / 1000.0);
    let p99_us = counted.or_else(|| (!said.is_empty()).then(|| median(&said)));
    Series { name: name.into(), values, p99_us }
}

/// The range of a histogram: a nanosecond to ten seconds, three digits.
fn histogram() -> Histogram<u64> {
    let new = Histogram::new_with_bounds(1, 10_000_000_000, 3);
    new.unwrap_or_else(|_| unreachable!("the bounds are constants that satisfy the constructor"))
}

/// The median of single times.
pub fn median_of(times: &[u32]) -> f64 {
    let mut sorted = times.to_vec();
    let middle = sorted.len() / 2;
    if sorted.is_empty() {
        return f64::NAN;
    }
    f64::from(*sorted.select_nth_unstable(middle).1)
}
