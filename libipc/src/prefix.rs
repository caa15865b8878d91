//! The hash of the first N bytes of one direction, in memory that forked processes share: plain words, each value of which
//! is valid, whichever process has written it.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering::*};

use matcher::wire::Hash;

mod sha256;

use sha256::{Sha256, WRITTEN};

/// How many bytes are kept until ipcd has said what N is.
const EARLY: usize = 192;

/// Where a prefix is kept.
#[repr(C)]
pub(crate) struct PrefixWords {
    /// A [`State`].
    state: AtomicU32,
    /// Bytes seen so far; stops at N.
    seen: AtomicU32,
    /// Early and Broken: the bytes that were seen. Hashing: the state of the hash function. Done: the hash.
    bytes: [AtomicU8; EARLY],
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum State {
    /// N is not known; the first of the bytes that were seen are kept.
    Early = 0,
    /// N is not known, and bytes went by unseen after those that were seen and kept: the kept ones may be enough.
    Broken = 1,
    Hashing = 2,
    Done = 3,
    /// Bytes went by that cannot be hashed any more.
    Missed = 4,
}

/// One direction's prefix, for the thread that has the direction locked.
#[derive(Clone, Copy)]
pub(crate) struct Prefix<'a>(&'a PrefixWords);

impl PrefixWords {
    pub(crate) fn get(&self) -> Prefix<'_> {
        Prefix(self)
    }

    /// Turns the memory into a new prefix, of which no byte was seen.
    pub(crate) fn reset(&self) {
        self.seen.store(0, Relaxed);
        self.state.store(State::Early as u32, Relaxed);
    }
}

impl Prefix<'_> {
    fn state(&self) -> State {
        match self.0.state.load(Relaxed) {
            0 => State::Early,
            1 => State::Broken,
            2 => State::Hashing,
            3 => State::Done,
            _ => State::Missed,
        }
    }

    fn become_state(&self, state: State) {
        self.0.state.store(state as u32, Relaxed);
    }

    fn seen(&self) -> u32 {
        self.0.seen.load(Relaxed)
    }

    fn store(&self, at: usize, bytes: &[u8]) {
        for (to, from) in self.0.bytes.iter().skip(at).zip(bytes) {
            to.store(*from, Relaxed);
        }
    }

    fn load<const L: usize>(&self) -> [u8; L] {
        let mut bytes = [0; L];
        for (to, from) in bytes.iter_mut().zip(&self.0.bytes) {
            *to = from.load(Relaxed);
        }
        bytes
    }

    /// Whether the bytes that come next matter.
    pub(crate) fn wants(&self) -> bool {
        matches!(self.state(), State::Early | State::Hashing)
    }

    /// How many of the next bytes matter, as far as that is known. `n` as in [`Prefix::feed`].
    pub(crate) fn missing(&self, n: u32) -> usize {
        match self.state() {
            State::Early if n == 0 => EARLY.saturating_sub(self.seen() as usize),
            State::Early | State::Hashing => n.saturating_sub(self.seen()) as usize,
            State::Broken | State::Done | State::Missed => 0,
        }
    }

    pub(crate) fn missed(&self) -> bool {
        self.state() == State::Missed
    }

    /// Whether bytes are kept until N is known.
    pub(crate) fn keeps(&self) -> bool {
        matches!(self.state(), State::Early | State::Broken) && self.seen() > 0
    }

    pub(crate) fn hash(&self) -> Option<Hash> {
        (self.state() == State::Done).then(|| self.load())
    }

    /// Takes `count` bytes of the direction of which only the first could be looked at.
    pub(crate) fn feed_glimpse(&mut self, glimpse: &[u8], count: usize, n: u32) {
        self.feed(glimpse.get(..count).unwrap_or(glimpse), n);
        if count > glimpse.len() {
            self.skip();
        }
    }

    /// Bytes went by unseen: if they belong to the prefix, it is lost.
    pub(crate) fn skip(&mut self) {
        match self.state() {
            State::Early => self.become_state(State::Broken),
            State::Hashing => self.become_state(State::Missed),
            _ => {}
        }
    }

    /// Takes the next bytes of the direction. `n` is the prefix length in bytes, 0 while it is not known.
    pub(crate) fn feed(&mut self, bytes: &[u8], n: u32) {
        let seen = self.seen();
        let sha = match self.state() {
            State::Early if n == 0 => return self.keep(bytes),
            State::Early => self.begin(n),
            State::Broken if n > seen => None,
            State::Broken if n > 0 => self.begin(n),
            State::Hashing => Some(Sha256::read(&self.load(), seen)),
            _ => return,
        };
        let Some(mut sha) = sha else { return self.become_state(State::Missed) };
        let seen = seen.min(n);
        let next = bytes.get(..(n - seen) as usize).unwrap_or(bytes);
        sha.update(next);
        let seen = seen + next.len() as u32;
        self.0.seen.store(seen, Relaxed);
        match seen >= n {
            true => {
                self.store(0, &sha.finalize());
                self.become_state(State::Done);
            }
            false => {
                self.store(0, &sha.write_down());
                self.become_state(State::Hashing);
            }
        }
    }

    /// Keeps what fits; more than that may go by without harm, since N may turn out to be small.
    fn keep(&mut self, bytes: &[u8]) {
        self.store(self.seen() as usize, bytes);
        self.0.seen.store(self.seen().saturating_add(bytes.len() as u32), Relaxed);
    }

    /// Hashes the kept bytes; `None` if they are not all that were seen of the first N.
    fn begin(&self, n: u32) -> Option<Sha256> {
        let kept: [u8; EARLY] = self.load();
        let mut sha = Sha256::new();
        sha.update(kept.get(..self.seen().min(n) as usize)?);
        Some(sha)
    }
}

/// The state of the hash function fits in the room for the early bytes.
const _: () = assert!(WRITTEN <= EARLY);

#[cfg(test)]
mod tests {
    use sha2::Digest;

    use super::*;

    fn new() -> PrefixWords {
        let words = PrefixWords {
            state: AtomicU32::new(0),
            seen: AtomicU32::new(0),
            bytes: [const { AtomicU8::new(0xa5) }; EARLY],
        };
        words.reset();
        words
    }

    fn hash_of(bytes: &[u8]) -> Hash {
        sha2::Sha256::digest(bytes).into()
    }

    #[test]
    fn any_chunking_and_any_moment_of_learning_n_gives_the_same_hash() {
        let data: Vec<u8> = (0..=255).collect();
        for n in [1u32, 7, 64, 190] {
            for known_at in [0usize, 1, 50, 180] {
                for chunk in [1usize, 3, 40, 256] {
                    let words = new();
                    let mut p = words.get();
                    let mut at = 0;
                    for c in data.chunks(chunk) {
                        p.feed(c, if at >= known_at { n } else { 0 });
                        at += c.len();
                    }
                    p.feed(&[], n);
                    assert_eq!(p.hash(), Some(hash_of(&data[..n as usize])), "{n} {known_at} {chunk}");
                }
            }
        }
    }

    #[test]
    fn a_glimpse_is_enough_if_n_turns_out_to_be_no_longer() {
        for n in [1u32, 8, 9] {
            let words = new();
            let mut p = words.get();
            p.feed_glimpse(&[1; 9], 5000, 0);
            assert!(!p.wants() && !p.missed());
            p.feed(&[], n);
            assert_eq!(p.hash(), Some(hash_of(&[1; 9][..n as usize])));
        }
    }

    #[test]
    fn what_cannot_be_kept_or_seen_is_missed_and_never_hashed() {
        let words = new();
        let mut p = words.get();
        p.feed(&[1; 1000], 0);
        assert!(p.wants());
        p.feed(&[1; 1000], EARLY as u32 + 1);
        assert!(p.missed());
        assert_eq!(p.hash(), None);

        let words = new();
        let mut p = words.get();
        p.feed(&[1; 9], 0);
        p.skip();
        p.feed(&[2; 100], 0);
        p.feed(&[], 10);
        assert!(p.missed());

        let words = new();
        let mut p = words.get();
        p.feed(&[1; 4], 8);
        p.skip();
        assert!(p.missed());

        let words = new();
        let mut p = words.get();
        p.feed(&[1; 8], 8);
        p.skip();
        assert_eq!(p.hash(), Some(hash_of(&[1; 8])));
    }

    #[test]
    fn whatever_lies_in_the_memory_is_taken_for_something_and_nothing_worse() {
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as u32
        };
        for _ in 0..20_000 {
            let words = new();
            words.state.store(next() % 6, Relaxed);
            words.seen.store(if next() % 2 == 0 { next() } else { next() % 300 }, Relaxed);
            for byte in &words.bytes {
                byte.store(next() as u8, Relaxed);
            }
            let mut p = words.get();
            for n in [0, 1, 64, 300, u32::MAX] {
                p.feed(&[1; 50], n);
                p.feed_glimpse(&[2; 9], 1000, n);
                let _ = (p.wants(), p.missing(n), p.missed(), p.keeps(), p.hash());
            }
        }
    }
}
