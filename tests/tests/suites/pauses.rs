//! `pauses.c`: with a pause before each of the first calls on a socket many more streams move.

use std::path::{Path, PathBuf};

use tests::daemon::PrivateDir;
use tests::{Mode, Program, artifacts, case, run};

/// The library, built for one test.
pub(crate) struct Pauses(PrivateDir);

impl Pauses {
    /// Builds the library.
    pub(crate) fn new() -> Pauses {
        let pauses = Pauses(PrivateDir::new());
        let source = format!("{}/tests/suites/pauses.c", env!("CARGO_MANIFEST_DIR"));
        let output = pauses.path().display().to_string();
        let args = ["-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", &output, &source, "-ldl"];
        let compile = Program::new(artifacts::installed("cc"), &args);
        case::assert_passed(&run(&compile, Mode::Native, |_| Ok(())), &compile, Mode::Native);
        pauses
    }

    /// The library's path.
    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("pauses.so")
    }
}

/// Preloads a library, if there is one, before the shim.
pub(crate) fn before(library: Option<&Path>, program: Program, mode: Mode) -> Program {
    let Some(library) = library else { return program };
    let library = library.display().to_string();
    let all = match mode {
        Mode::Native => library,
        _ => format!("{library} {}", artifacts::libipc().display()),
    };
    program.env("LD_PRELOAD", &all)
}
