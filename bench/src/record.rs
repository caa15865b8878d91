//! The raw results, as they are written to disk.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::statistics::{Ratio, median, ratio};

/// Which values are better.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Higher ones: a rate.
    Higher,
    /// Lower ones: a time, or a size.
    Lower,
}

/// The kind of values.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Metric {
    /// A description in words.
    pub what: String,
    /// The unit of the values, after [`Sample`]'s were scaled.
    pub unit: String,
    /// Which values are better.
    pub better: Better,
}

impl Metric {
    /// A time or size.
    pub fn lower(what: &str, unit: &str) -> Metric {
        Metric { what: what.into(), unit: unit.into(), better: Better::Lower }
    }

    /// A rate.
    pub fn higher(what: &str, unit: &str) -> Metric {
        Metric { what: what.into(), unit: unit.into(), better: Better::Higher }
    }
}

/// All rounds of one alternative.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Series {
    /// The alternative.
    pub name: String,
    /// One value for each round.
    pub values: Vec<f64>,
    /// The 99th percentile of the single times of all rounds together, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<f64>,
}

/// One measurement, with every alternative.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    /// The labels that distinguish it: name and value, such as bytes and 64.
    pub labels: Vec<(String, String)>,
    /// The kind of values.
    pub metric: Metric,
    /// The first is what the others are compared with.
    pub series: Vec<Series>,
}

impl Case {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The series of an alternative.
    pub fn series(&self, name: &str) -> Option<&Series> {
        self.series.iter().find(|s| s.name == name)
    }

    /// How many times better one alternative is than another: the ratio of neighbouring turns.
    pub fn better(&self, name: &str, than: &str) -> Option<Ratio> {
        let (one, other) = (&self.series(name)?.values, &self.series(than)?.values);
        Some(match self.metric.better {
            Better::Higher => ratio(one, other),
            Better::Lower => ratio(other, one),
        })
    }

    /// Its labels as text.
    pub fn describe(&self) -> String {
        let all: Vec<String> = self.labels.iter().map(|(name, value)| format!("{name} {value}")).collect();
        all.join(", ")
    }
}

/// A measurement that was not made, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Missing {
    /// The case and alternative.
    pub what: String,
    /// The reason.
    pub why: String,
}

/// The answer to one question.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// Its short name.
    pub question: String,
    /// The question in words.
    pub title: String,
    /// Anything a reader must know.
    pub notes: Vec<String>,
    /// The machine.
    pub machine: Machine,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The cases.
    pub cases: Vec<Case>,
    /// The cases that this machine cannot measure.
    pub skipped: Vec<Missing>,
    /// The errors.
    pub failed: Vec<Missing>,
}

impl Results {
    /// Writes DIR/QUESTION.json.
    pub fn write(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir)?;
        let path = dir.join(format!("{}.json", self.question));
        fs::write(&path, serde_json::to_string_pretty(self)? + "\n").with_context(|| path.display().to_string())
    }

    /// All answers in a directory, in this order of questions.
    pub fn read_all(dir: &Path, order: &[&str]) -> Result<Vec<Results>> {
        let mut all = Vec::new();
        for question in order {
            let path = dir.join(format!("{question}.json"));
            if path.exists() {
                let text = fs::read_to_string(&path)?;
                all.push(serde_json::from_str(&text).with_context(|| path.display().to_string())?);
            }
        }
        Ok(all)
    }
}

impl Series {
    /// The median of the rounds.
    pub fn median(&self) -> f64 {
        median(&self.values)
    }

    /// Half the distance between the quartiles, as a share of the median.
    pub fn spread(&self) -> f64 {
        crate::statistics::half_quartile_distance(&self.values) / self.median()
    }
}
