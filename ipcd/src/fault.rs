//! Fault injection for tests: the environment variable `IPCD_TEST_CRASH` names a point, and ipcd ends there at once and
//! without tidying up, as if it had been killed.

/// A point at which ipcd can be made to die.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// `after-prefix`: a prefix was taken in.
    AfterPrefix,
    /// `between-grants`: one side has its grant, the other has not.
    BetweenGrants,
    /// `after-grants`: both sides have theirs.
    AfterGrants,
}

impl Fault {
    /// The fault that the environment asks for.
    pub fn from_env() -> Option<Fault> {
        match std::env::var("IPCD_TEST_CRASH").ok()?.as_str() {
            "after-prefix" => Some(Fault::AfterPrefix),
            "between-grants" => Some(Fault::BetweenGrants),
            "after-grants" => Some(Fault::AfterGrants),
            _ => None,
        }
    }
}

/// Dies if this is the point that was asked for.
pub fn point(asked: Option<Fault>, here: Fault) {
    if asked == Some(here) {
        // SAFETY: _exit only ends the process; that nothing is flushed, dropped or unlinked is what it is for.
        unsafe { libc::_exit(86) }
    }
}
