//! Offsets of two ends that are asked one after the other while bytes flow.

use matcher::candidate::{Offsets, in_step};
use proptest::prelude::*;

/// One direction of a stream: bytes written, arrived, acknowledged.
#[derive(Clone, Copy, Default, Debug)]
struct Pipe([u64; 3]);

/// Both directions, or two directions of two streams.
#[derive(Clone, Copy, Default, Debug)]
struct Stream {
    up: Pipe,
    down: Pipe,
}

impl Stream {
    /// One step: a write, an arrival or an acknowledgement, as far as possible.
    fn step(&mut self, (up, what, bytes): (bool, usize, u64)) {
        let Pipe(pipe) = if up { &mut self.up } else { &mut self.down };
        pipe[what] = if what == 0 { pipe[0] + bytes } else { pipe[what - 1].min(pipe[what] + bytes) };
    }

    fn client(&self) -> Offsets {
        Offsets { written: self.up.0[0], acked: self.up.0[2], received: self.down.0[1] }
    }

    fn server(&self) -> Offsets {
        Offsets { written: self.down.0[0], acked: self.down.0[2], received: self.up.0[1] }
    }
}

fn steps() -> impl Strategy<Value = Vec<(bool, usize, u64)>> {
    prop::collection::vec((any::<bool>(), 0..3usize, 0..2000u64), 0..30)
}

proptest! {
    #[test]
    fn the_two_ends_of_one_stream_are_in_step(before in steps(), first in steps(), second in steps()) {
        let mut s = Stream::default();
        before.into_iter().for_each(|step| s.step(step));
        let (c1, s1) = (s.client(), s.server());
        first.into_iter().for_each(|step| s.step(step));
        let (c2, s2) = (s.client(), s.server());
        second.into_iter().for_each(|step| s.step(step));
        prop_assert!(in_step(c1, s2, s.client()));
        prop_assert!(in_step(s1, c2, s.server()));
    }

    // Two streams at rest that have not carried as many bytes.
    #[test]
    fn ends_of_two_streams_are_not(a in 0..100_000u64, b in 0..100_000u64, down in 0..1000u64) {
        let at_rest = |up: u64| Stream { up: Pipe([up; 3]), down: Pipe([down; 3]) };
        let (one, other) = (at_rest(a), at_rest(b));
        prop_assert_eq!(in_step(one.client(), other.server(), one.client()), a == b);
        prop_assert_eq!(in_step(other.server(), one.client(), other.server()), a == b);
    }
}
