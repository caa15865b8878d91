//! Whatever the kernel gives is right, and it may give different results at different times: where one native run
//! differs from the run under the shim, more native runs show which other results are right. The run under the shim is
//! not repeated.

use std::fmt::Write as _;

/// How many native runs there are at most.
pub const RUNS: usize = 5;

/// Compares lines with those of one native run, and if they differ, with those of more runs: each line must be one that
/// the kernel gave in the same place. The error shows the lines that the kernel never gave.
pub fn compare(native: &[String], here: &[String], mut again: impl FnMut() -> Vec<String>) -> Result<(), String> {
    let mut natives = vec![native.to_vec()];
    loop {
        let wrong = wrong(&natives, here);
        if wrong.is_empty() {
            return Ok(());
        }
        if natives.len() >= RUNS {
            return Err(wrong);
        }
        natives.push(again());
    }
}

/// The lines that differ from all of these runs. Runs with a different number of lines prove nothing about single
/// lines, and are used only if there are no others.
fn wrong(natives: &[Vec<String>], here: &[String]) -> String {
    let alike: Vec<_> = natives.iter().filter(|native| native.len() == here.len()).collect();
    let alike = if alike.is_empty() { natives.iter().collect() } else { alike };
    let lines = alike.iter().map(|native| native.len()).max().unwrap_or(0).max(here.len());
    let none = String::from("(nothing)");
    let mut text = String::new();
    for i in 0..lines {
        let right: Vec<_> = alike.iter().map(|native| native.get(i)).collect();
        if !right.contains(&here.get(i)) {
            let native = right.first().copied().flatten();
            let _ = writeln!(text, "  native: {}\n  here:   {}", native.unwrap_or(&none), here.get(i).unwrap_or(&none));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    /// The verdict, and how many native runs it took.
    fn verdict(here: &str, natives: &[&str]) -> (bool, usize) {
        let mut runs = 1;
        let result = compare(&lines(natives[0]), &lines(here), || {
            runs += 1;
            lines(natives[(runs - 1) % natives.len()])
        });
        (result.is_ok(), runs)
    }

    #[test]
    fn what_the_kernel_gave_once_is_right() {
        assert_eq!(verdict("a b", &["a b"]), (true, 1));
        assert_eq!(verdict("a b", &["a c", "a c", "a b"]), (true, 3));
        assert_eq!(verdict("a b c", &["a x c", "x b c"]), (true, 2));
    }

    #[test]
    fn what_it_never_gave_is_wrong() {
        assert_eq!(verdict("a b", &["a c"]), (false, RUNS));
        assert_eq!(verdict("a b", &["a b c"]), (false, RUNS));
        assert_eq!(verdict("a b c", &["a b"]), (false, RUNS));
        assert_eq!(verdict("c b", &["a b", "b b", "a c"]), (false, RUNS));
        // The lines of a longer run do not count.
        assert_eq!(verdict("a b", &["a c", "a b c"]), (false, RUNS));
    }
}
