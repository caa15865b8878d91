//! Counts and hashes the bytes that have moved: one place for every call.

use crate::endpoint::{Half, Id};
use crate::ipcd::terms;
use crate::prefix::Prefix;

pub(crate) use super::side::Side;

/// Counts `n` bytes of the program that have moved in a locked direction. If the prefix still wants bytes, `feed` gives
/// them to it; the second argument of `feed` is the length of the prefix, 0 while that is not known.
pub(crate) fn tally<S: Side>(id: Id, half: &mut Half<'_, S>, n: usize, feed: impl FnOnce(&mut Prefix, u32)) {
    half.state.count(id, n as u64);
    if half.prefix.wants() {
        feed(&mut half.prefix, terms::prefix_bytes());
        id.endpoint().prefix_moved(S::DIRECTION, &half.prefix);
    }
    half.state.publish(id);
}
