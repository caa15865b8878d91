//! Test suites of other projects, natively and under the shim: a test that passes natively must pass here
//! (docs/suites.md).
//!
//! The default run takes a part of them; IPC_LONG=1 takes them whole.

mod compare;
mod cpython;
mod libevent;
mod libuv;
mod pauses;
mod sources;
mod tokio;
mod tornado;
