//! The words that results consist of.

/// The result of a call that waits.
pub const BLOCKED: &str = "blocked";
/// Stands before the result of a call that ended only when nothing lay unread any more.
pub const LATE: &str = "late ";

/// The part of a result that is compared.
pub fn compared(result: &str) -> &str {
    result.split(" | ").next().unwrap_or_default()
}

/// The number at `index` of the part that is not compared.
pub fn told(result: &str, index: usize) -> Option<u64> {
    result.split(" | ").nth(1)?.split(' ').nth(index)?.parse().ok()
}

/// The number in a result: the return value of the call.
pub fn number(result: &str) -> Option<i64> {
    result.split("= ").nth(1)?.split(' ').next()?.parse().ok()
}

/// Whether a result has a word.
pub fn says(result: &str, word: &str) -> bool {
    result.split([' ', '|', ':']).any(|w| w == word)
}
