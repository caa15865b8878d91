//! Programs of socket calls from a seed: the same natively and under the shim.
//!
//! `IPC_SEEDS=1000..2000` tries other seeds than the default ones; `IPC_PROGRAM='threads …'` runs a program that was
//! printed, `IPC_TIMES` times.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tests::Daemon;
use tests::differential::execute::execute;
use tests::differential::generate::generate;
use tests::differential::program::Program;
use tests::differential::shrink::shrink;
use tests::differential::{Difference, Verdict, try_program};

/// How long the seeds of a default run may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a program may be made smaller.
const SHRINKING: Duration = Duration::from_secs(20);
/// How often it is then run once more.
const REPEATS: usize = 4;

fn report(number: u64, program: &Program, difference: &Difference, daemon: &Daemon) -> String {
    let (small, shown) = shrink(program, difference, daemon, SHRINKING);
    let again = (0..REPEATS).filter(|_| matches!(try_program(&small, daemon), Verdict::Differs(_))).count();
    format!(
        "{number}: step {} of {}, differs again {again} times of {REPEATS}\n  native: {}\n  here:   {}\n  IPC_PROGRAM='{small}' cargo test -p tests --test differential one\n",
        shown.step,
        small.steps.len(),
        shown.native,
        shown.shim
    )
}

/// The seeds to try, and whether there is no time limit.
fn seeds() -> (Range<u64>, bool) {
    let Ok(text) = std::env::var("IPC_SEEDS") else { return (0..150, false) };
    let (from, to) = text.split_once("..").unwrap_or(("0", &text));
    let number = |n: &str| n.parse().unwrap_or_else(|e| panic!("IPC_SEEDS={text}: {e}"));
    (number(from)..number(to), true)
}

/// The results of the seeds.
#[derive(Default)]
struct Tally {
    same: usize,
    excused: BTreeMap<&'static str, usize>,
    unclear: Vec<String>,
    reports: Vec<String>,
}

fn try_one(number: u64, program: &Program, daemon: &Daemon, tally: &Mutex<Tally>) {
    let verdict = try_program(program, daemon);
    let text = match &verdict {
        Verdict::Differs(difference) => report(number, program, difference, daemon),
        _ => String::new(),
    };
    let mut tally = tally.lock().expect("no panic");
    match verdict {
        Verdict::Same(names) => {
            tally.same += 1;
            names.into_iter().for_each(|name| *tally.excused.entry(name).or_default() += 1);
        }
        Verdict::Unclear(why) => tally.unclear.push(format!("{number}: {why}")),
        Verdict::Differs(_) => {
            eprintln!("{text}");
            tally.reports.push(text);
        }
    }
}

/// Tries programs by number, until there are no more or, unless `patient`, the time is over.
fn try_all(numbers: Range<u64>, patient: bool, program: impl Fn(u64) -> Program + Sync) {
    let (start, next, tally) = (Instant::now(), AtomicU64::new(numbers.start), Mutex::new(Tally::default()));
    // They mostly wait, so several run at once, each with a daemon of its own.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let daemon = Daemon::eager();
                while patient || start.elapsed() < LIMIT {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= numbers.end {
                        return;
                    }
                    try_one(number, &program(number), &daemon, &tally);
                }
                eprintln!("stopped early: the machine is slow");
            });
        }
    });
    let tally = tally.into_inner().expect("no panic");
    eprintln!("{} programs are the same, {} say nothing, {:.1?}", tally.same, tally.unclear.len(), start.elapsed());
    tally.excused.iter().for_each(|(name, times)| eprintln!("  {times} times: {name}"));
    tally.unclear.iter().take(10).for_each(|why| eprintln!("  {why}"));
    assert!(tally.reports.is_empty(), "{} programs differ:\n{}", tally.reports.len(), tally.reports.join("\n"));
    assert!(tally.unclear.len() * 10 < tally.same, "most programs must say something");
}

#[test]
fn programs_from_seeds() {
    let (seeds, patient) = seeds();
    try_all(seeds, patient, generate);
}

/// Programs that differed once.
#[test]
fn mended_programs() {
    let read = |line: &str| line.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
    let programs: Vec<Program> = include_str!("../src/differential/mended.txt").lines().map(read).collect();
    try_all(0..programs.len() as u64, false, |number| programs[number as usize].clone());
}

#[test]
fn one_program() {
    let Ok(text) = std::env::var("IPC_PROGRAM") else { return };
    let program: Program = text.parse().unwrap_or_else(|e| panic!("IPC_PROGRAM: {e}"));
    let native = execute(&program, tests::Mode::Native, None).unwrap_or_else(|e| panic!("{e:?}"));
    for (step, entry) in program.steps.iter().zip(&native.trace) {
        eprintln!("{step:<40} {} {:?}", entry.own, entry.others);
    }
    let daemon = Daemon::eager();
    let times = std::env::var("IPC_TIMES").map_or(1, |text| text.parse().expect("IPC_TIMES is a number"));
    for time in 1..=times {
        let verdict = try_program(&program, &daemon);
        assert!(matches!(verdict, Verdict::Same(_)), "time {time}: {verdict:#?}");
    }
}
