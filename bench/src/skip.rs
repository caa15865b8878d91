//! What cannot be measured here, as opposed to what went wrong.

use std::fmt;

/// An alternative or question that this machine does not have what it needs for.
#[derive(Debug)]
pub struct Skip(pub String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// The error that says so.
pub fn skip(why: impl Into<String>) -> anyhow::Error {
    Skip(why.into()).into()
}

/// Whether this error does.
pub fn is_skip(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Skip>().is_some()
}
