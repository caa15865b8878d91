//! Tables.

use crate::record::{Case, Results, Series};

/// Up to this many alternatives stand beside each other; more get a line each.
const WIDE: usize = 5;

/// All cases of a question: one table for each set of labels.
pub fn tables(results: &Results) -> String {
    let key = |c: &Case| c.labels.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
    let mut text = String::new();
    let mut rest: Vec<&Case> = results.cases.iter().collect();
    while let Some(first) = rest.first().map(|c| key(c)) {
        let (these, others): (Vec<&Case>, Vec<&Case>) = rest.into_iter().partition(|c| key(c) == first);
        rest = others;
        text += &one_table(&these);
        text.push('\n');
    }
    text
}

fn one_table(cases: &[&Case]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in cases.iter().flat_map(|c| &c.series).map(|s| s.name.as_str()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let metric = &cases[0].metric;
    let same = cases.iter().all(|c| c.metric == *metric);
    let unit = if metric.unit.is_empty() { String::new() } else { format!(", {}", metric.unit) };
    let title =
        if same { format!("{}{unit}", capital(&metric.what)) } else { "In the unit that the line names".into() };
    let p99 = cases.iter().flat_map(|c| &c.series).any(|s| s.p99_us.is_some());
    let p99 = if p99 { " / 99th percentile of the single times, µs" } else { "" };
    let body = if names.len() <= WIDE { wide(cases, &names, !same) } else { long(cases, !same) };
    format!("{title}{p99}\n\n{body}")
}

/// The first cells of a row, or their headings.
fn labels(case: &Case, head: bool, unit: bool) -> Vec<String> {
    let mut cells: Vec<String> = case.labels.iter().map(|(n, v)| if head { n } else { v }.clone()).collect();
    if unit {
        cells.push(if head { "unit".into() } else { case.metric.unit.clone() });
    }
    cells
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| c.to_uppercase().chain(chars).collect())
}

fn wide(cases: &[&Case], names: &[&str], unit: bool) -> String {
    let baseline = names[0];
    // The best that could be reached, beside what the shim reached.
    let best = names.iter().find(|n| n.starts_with("Unix socket")).filter(|_| names.contains(&"shim"));
    let mut heads = labels(cases[0], true, unit);
    heads.extend(names.iter().map(|n| (*n).to_owned()));
    heads.extend(names.iter().skip(1).map(|n| format!("{n} : {baseline}")));
    heads.extend(best.map(|n| format!("shim : {n}")));
    let mut text = header(&heads);
    for case in cases {
        let mut cells = labels(case, false, unit);
        cells.extend(names.iter().map(|n| case.series(n).map_or("–".into(), value)));
        let ratio = |one: &str, than: &str| case.better(one, than).map_or("–".into(), |r| r.to_string());
        cells.extend(names.iter().skip(1).map(|n| ratio(n, baseline)));
        cells.extend(best.map(|n| ratio("shim", n)));
        text += &row(&cells);
    }
    text
}

fn long(cases: &[&Case], unit: bool) -> String {
    let mut heads = labels(cases[0], true, unit);
    heads.extend(["alternative".into(), "value".into(), "better than the first".into()]);
    let mut text = header(&heads);
    for case in cases {
        for series in &case.series {
            let mut cells = labels(case, false, unit);
            let ratio = case.better(&series.name, &case.series[0].name).map_or("–".into(), |r| r.to_string());
            cells.extend([series.name.clone(), value(series), ratio]);
            text += &row(&cells);
        }
    }
    text
}

fn header(heads: &[String]) -> String {
    row(heads) + &"|---".repeat(heads.len()) + "|\n"
}

fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

fn value(series: &Series) -> String {
    let mut text = number(series.median());
    if series.values.len() > 1 {
        text += &format!(" ±{:.0}%", series.spread() * 100.0);
    }
    text + &series.p99_us.map_or(String::new(), |p| format!(" / {}", number(p)))
}

/// A number with three digits, or with all digits before the point, in groups of three.
pub fn number(v: f64) -> String {
    match v.abs() {
        a if a.is_nan() => "–".into(),
        a if a < 10.0 => format!("{v:.2}"),
        a if a < 100.0 => format!("{v:.1}"),
        _ => grouped(&format!("{v:.0}")),
    }
}

fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |d| ("-", d));
    let mut text = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(c);
    }
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers() {
        let written = [0.5, 12.34, 123.4, 1234.5, 1_234_567.0, -1234.0, f64::NAN].map(number);
        assert_eq!(written, ["0.50", "12.3", "123", "1,234", "1,234,567", "-1,234", "–"]);
    }
}
