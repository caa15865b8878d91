//! Tests that a machine cannot run print so, and are counted: .ci/totals counts the lines that this module prints.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// Reports that the calling test is skipped, also where only the output of failed tests is shown. One test prints one
/// line, however often it calls this.
pub fn skipped(why: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    // With --test-threads=1 all tests have the name of one thread.
    if said.insert(test.to_owned()) || test == "main" {
        // In one write, because other tests print, too.
        let line = format!("\nSKIPPED: {test}: {}\n", why.trim_end().replace('\n', " "));
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}
