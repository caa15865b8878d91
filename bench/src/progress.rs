//! The progress of the measurements.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over the seconds that the questions are expected to take. Where standard error is no terminal it prints one
/// line for each question instead.
pub struct Progress {
    bar: ProgressBar,
    /// When the present question began, the seconds planned before it, and those planned for it.
    present: Cell<(Instant, u64, u64)>,
}

impl Progress {
    /// A bar that is shown.
    pub fn shown(seconds: u64) -> Progress {
        let progress = Progress::hidden();
        progress.bar.set_draw_target(ProgressDrawTarget::stderr());
        progress.bar.set_length(seconds);
        let style = "{elapsed_precise} [{bar:30}] {percent:>3}%, {eta} left  {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            progress.bar.set_style(style.progress_chars("=> "));
        }
        progress.bar.enable_steady_tick(Duration::from_secs(1));
        progress
    }

    /// No bar, for tests.
    pub fn hidden() -> Progress {
        Progress { bar: ProgressBar::hidden(), present: Cell::new((Instant::now(), 0, 0)) }
    }

    /// The next question begins.
    pub fn begin(&self, question: &str, seconds: u64) {
        let (_, before, last) = self.present.get();
        self.present.set((Instant::now(), before + last, seconds));
        self.bar.set_position(before + last);
        if self.bar.is_hidden() {
            eprintln!("{question} (about {seconds} s)");
        }
    }

    /// Shows what is measured at this moment.
    pub fn now(&self, question: &str, what: &str) {
        let (start, before, seconds) = self.present.get();
        self.bar.set_position(before + start.elapsed().as_secs().min(seconds));
        self.bar.set_message(format!("{question}: {what}"));
    }

    /// Prints a line above the bar.
    pub fn say(&self, line: &str) {
        match self.bar.is_hidden() {
            true => eprintln!("{line}"),
            false => self.bar.println(line),
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
