//! Tables, plots and the list of targets, made from the raw results.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::record::{Missing, Results};

pub mod plot;
pub mod table;
pub mod targets;

/// Writes QUESTION.md and QUESTION.svg for each, and README.md, into a directory.
pub fn write(dir: &Path, all: &[Results]) -> Result<()> {
    fs::create_dir_all(dir)?;
    for results in all {
        plot::write(&dir.join(format!("{}.svg", results.question)), results)?;
        fs::write(dir.join(format!("{}.md", results.question)), page(results))?;
    }
    Ok(fs::write(dir.join("README.md"), index(all))?)
}

fn page(results: &Results) -> String {
    let mut text = format!("# {}\n\n{}\n\n", results.title, conditions(results));
    for note in &results.notes {
        text += &format!("{note}\n\n");
    }
    text += &format!("{}\n", table::tables(results));
    text += &format!("![ratios]({}.svg)\n\n", results.question);
    text += &missing("Skipped", &results.skipped);
    text += &missing("Failed", &results.failed);
    text.trim_end().to_owned() + "\n"
}

fn conditions(results: &Results) -> String {
    let m = &results.machine;
    let rounds = results.cases.iter().flat_map(|c| &c.series).map(|s| s.values.len()).max().unwrap_or(0);
    let (before, after) = (m.load_before, m.load_after);
    let rounds = format!("{rounds} {}", if rounds == 1 { "round" } else { "rounds" });
    format!("{}; load {before:.1} before, {after:.1} after; {rounds}; commit {}.", m.hardware(), m.commit)
}

fn missing(title: &str, all: &[Missing]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let lines: String = all.iter().map(|m| format!("- {}: {}\n", m.what, m.why)).collect();
    format!("{title}:\n\n{lines}\n")
}

fn index(all: &[Results]) -> String {
    let mut text = String::from(
        "# Results\n\nMade by `make bench` from the JSON files here; [performance.md](../performance.md) ",
    );
    text += "explains them. Values are medians of the rounds ± half the distance between their quartiles. ";
    text += "A ratio above 1 is ";
    text += "better, whether the value is a rate or a time; it is the median of the rounds' ratios, with the 95% ";
    text += "interval of its bootstrap.\n\n## Targets\n\n";
    text += &targets::markdown(all);
    text += "\n## Questions\n\n| question | | took |\n|---|---|---|\n";
    for r in all {
        text += &format!("| [{0}]({0}.md) | {1} | {2:.0} s |\n", r.question, r.title, r.seconds);
    }
    if let Some(m) = all.iter().map(|r| &r.machine).next_back() {
        text += &format!("\n## Machine\n\n{}\n", m.markdown());
    }
    text
}
