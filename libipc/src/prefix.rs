//! The hash of the first N bytes of one direction.

use matcher::wire::Hash;
use sha2::{Digest, Sha256};

/// Bytes that are kept until ipcd has said what N is.
const EARLY: usize = 192;

/// One direction's prefix. Lives in memory that forked processes share, so it holds no pointer.
pub struct Prefix {
    sha: Sha256,
    /// Bytes seen so far; stops at N.
    seen: u32,
    early: [u8; EARLY],
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// N is not known; the first of the `seen` bytes are in `early`.
    Early,
    /// N is not known, and bytes went by unseen after those `seen`, which are in `early`: they may be enough.
    Broken,
    Hashing,
    Done(Hash),
    /// Bytes went by that cannot be hashed any more.
    Missed,
}

impl Prefix {
    pub fn new() -> Prefix {
        Prefix { sha: Sha256::new(), seen: 0, early: [0; EARLY], state: State::Early }
    }

    /// Whether the bytes that come next matter.
    pub fn wants(&self) -> bool {
        matches!(self.state, State::Early | State::Hashing)
    }

    /// How many of the next bytes matter, as far as that is known. `n` as in [`Prefix::feed`].
    pub fn missing(&self, n: u32) -> usize {
        match self.state {
            State::Early if n == 0 => EARLY.saturating_sub(self.seen as usize),
            State::Early | State::Hashing => n.saturating_sub(self.seen) as usize,
            State::Broken | State::Done(_) | State::Missed => 0,
        }
    }

    pub fn missed(&self) -> bool {
        self.state == State::Missed
    }

    /// Whether bytes are kept that N will tell the use of.
    pub fn keeps(&self) -> bool {
        matches!(self.state, State::Early | State::Broken) && self.seen > 0
    }

    pub fn hash(&self) -> Option<&Hash> {
        match &self.state {
            State::Done(hash) => Some(hash),
            _ => None,
        }
    }

    /// Takes `count` bytes of the direction of which only the first could be looked at.
    pub fn feed_glimpse(&mut self, glimpse: &[u8], count: usize, n: u32) {
        self.feed(glimpse.get(..count).unwrap_or(glimpse), n);
        if count > glimpse.len() {
            self.skip();
        }
    }

    /// Bytes went by unseen: if they belong to the prefix, it is lost.
    pub fn skip(&mut self) {
        self.state = match self.state {
            State::Early => State::Broken,
            State::Hashing => State::Missed,
            other => other,
        };
    }

    /// Takes the next bytes of the direction. `n` is the prefix length in bytes, 0 while it is not known.
    pub fn feed(&mut self, mut bytes: &[u8], n: u32) {
        match self.state {
            State::Early if n == 0 => return self.keep(bytes),
            State::Early => self.hash_early(n),
            State::Broken if n > self.seen => self.state = State::Missed,
            State::Broken if n > 0 => self.hash_early(n),
            _ => {}
        }
        if self.state == State::Hashing {
            let missing = n.saturating_sub(self.seen) as usize;
            bytes = bytes.get(..missing).unwrap_or(bytes);
            self.sha.update(bytes);
            self.seen += bytes.len() as u32;
            self.finish(n);
        }
    }

    /// Keeps what fits; more than that may go by without harm, since N may turn out to be small.
    fn keep(&mut self, bytes: &[u8]) {
        for (to, from) in self.early.iter_mut().skip(self.seen as usize).zip(bytes) {
            *to = *from;
        }
        self.seen = self.seen.saturating_add(bytes.len() as u32);
    }

    fn hash_early(&mut self, n: u32) {
        self.seen = self.seen.min(n);
        match self.early.get(..self.seen as usize) {
            Some(kept) => {
                self.sha.update(kept);
                self.state = State::Hashing;
                self.finish(n);
            }
            None => self.state = State::Missed,
        }
    }

    fn finish(&mut self, n: u32) {
        if self.seen >= n {
            let mut hash = [0; 32];
            hash.copy_from_slice(self.sha.clone().finalize().as_slice());
            self.state = State::Done(hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(bytes: &[u8]) -> Hash {
        Sha256::digest(bytes).into()
    }

    #[test]
    fn any_chunking_and_any_moment_of_learning_n_gives_the_same_hash() {
        let data: Vec<u8> = (0..=255).collect();
        for n in [1u32, 7, 64, 190] {
            for known_at in [0usize, 1, 50, 180] {
                for chunk in [1usize, 3, 40, 256] {
                    let mut p = Prefix::new();
                    let mut at = 0;
                    for c in data.chunks(chunk) {
                        p.feed(c, if at >= known_at { n } else { 0 });
                        at += c.len();
                    }
                    p.feed(&[], n);
                    assert_eq!(p.hash(), Some(&hash_of(&data[..n as usize])), "{n} {known_at} {chunk}");
                }
            }
        }
    }

    #[test]
    fn a_glimpse_is_enough_if_n_turns_out_to_be_no_longer() {
        for n in [1u32, 8, 9] {
            let mut p = Prefix::new();
            p.feed_glimpse(&[1; 9], 5000, 0);
            assert!(!p.wants() && !p.missed());
            p.feed(&[], n);
            assert_eq!(p.hash(), Some(&hash_of(&[1; 9][..n as usize])));
        }
    }

    #[test]
    fn what_cannot_be_kept_or_seen_is_missed_and_never_hashed() {
        let mut p = Prefix::new();
        p.feed(&[1; 1000], 0);
        assert!(p.wants());
        p.feed(&[1; 1000], EARLY as u32 + 1);
        assert!(p.missed());
        assert_eq!(p.hash(), None);

        let mut p = Prefix::new();
        p.feed(&[1; 9], 0);
        p.skip();
        p.feed(&[2; 100], 0);
        p.feed(&[], 10);
        assert!(p.missed());

        let mut p = Prefix::new();
        p.feed(&[1; 4], 8);
        p.skip();
        assert!(p.missed());

        let mut p = Prefix::new();
        p.feed(&[1; 8], 8);
        p.skip();
        assert_eq!(p.hash(), Some(&hash_of(&[1; 8])));
    }
}
