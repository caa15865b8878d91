//! Test suites of other projects, natively and under the shim: what passes natively must pass here (docs/suites.md).
//!
//! Every run takes a part of them; IPC_LONG=1 takes them whole, in about 25 minutes.

mod compare;
mod cpython;
mod tokio;
mod tornado;
