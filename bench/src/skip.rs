//! What cannot be measured on this machine, as opposed to errors.

use std::fmt;

/// An alternative or question whose requirements this machine does not meet.
#[derive(Debug)]
pub struct Skip(pub String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// The error that reports it.
pub fn skip(why: impl Into<String>) -> anyhow::Error {
    Skip(why.into()).into()
}

/// Whether an error reports such a case.
pub fn is_skip(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Skip>().is_some()
}
