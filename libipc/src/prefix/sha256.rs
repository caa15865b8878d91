//! SHA-256 (FIPS 180-4) whose state is plain words, every value of which is a valid state: it lies in shared memory between
//! two calls. The compression is sha2's.

use matcher::wire::Hash;
use sha2::block_api::compress256;

const BLOCK: usize = 64;
/// The length in bytes of a state that is written down.
pub(super) const WRITTEN: usize = 32 + BLOCK;
/// FIPS 180-4, section 5.3.3.
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// A hash of bytes that come in pieces.
pub(super) struct Sha256 {
    chain: [u32; 8],
    /// The first bytes of the next block.
    block: [u8; BLOCK],
    /// Bytes so far.
    len: u32,
}

impl Sha256 {
    pub(super) fn new() -> Sha256 {
        Sha256 { chain: INITIAL, block: [0; BLOCK], len: 0 }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.push(*byte);
            self.len = self.len.wrapping_add(1);
        }
    }

    fn push(&mut self, byte: u8) {
        let at = self.len as usize % BLOCK;
        if let Some(to) = self.block.get_mut(at) {
            *to = byte;
        }
        if at == BLOCK - 1 {
            compress256(&mut self.chain, &[self.block]);
        }
    }

    /// The hash: section 5.1.1 pads with a one, zeroes, and the length in bits.
    pub(super) fn finalize(mut self) -> Hash {
        let bits = (u64::from(self.len) * 8).to_be_bytes();
        self.update(&[0x80]);
        while self.len as usize % BLOCK != BLOCK - bits.len() {
            self.update(&[0]);
        }
        self.update(&bits);
        big_endian(&self.chain)
    }

    /// The state, but for the number of bytes so far.
    pub(super) fn write_down(&self) -> [u8; WRITTEN] {
        let mut all = [0; WRITTEN];
        for (to, from) in all.iter_mut().zip(big_endian(&self.chain).iter().chain(&self.block)) {
            *to = *from;
        }
        all
    }

    /// The state after `len` bytes, as it was written down.
    pub(super) fn read(written: &[u8; WRITTEN], len: u32) -> Sha256 {
        let mut sha = Sha256 { len, ..Sha256::new() };
        let mut words = written.chunks_exact(4);
        for (to, from) in sha.chain.iter_mut().zip(&mut words) {
            *to = from.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        }
        for (to, from) in sha.block.iter_mut().zip(words.flatten()) {
            *to = *from;
        }
        sha
    }
}

fn big_endian(chain: &[u32; 8]) -> Hash {
    let mut bytes = Hash::default();
    for (to, from) in bytes.chunks_exact_mut(4).zip(chain) {
        for (to, from) in to.iter_mut().zip(from.to_be_bytes()) {
            *to = from;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use sha2::Digest;

    use super::*;

    #[test]
    fn it_is_sha_256_however_often_it_is_written_down() {
        let data: Vec<u8> = (0..300u32).map(|i| (i * 7) as u8).collect();
        for len in 0..data.len() {
            for piece in [1, 3, 64, 200] {
                let mut sha = Sha256::new();
                for bytes in data[..len].chunks(piece) {
                    sha.update(bytes);
                    sha = Sha256::read(&sha.write_down(), sha.len);
                }
                assert_eq!(sha.finalize(), Hash::from(sha2::Sha256::digest(&data[..len])), "{len} {piece}");
            }
        }
    }
}
