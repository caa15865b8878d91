//! The program that reads a tcp_sock: 26 instructions, put together here because only six offsets in them depend on the
//! kernel.

use matcher::endpoint::{Flow, Sequence};
use matcher::wire::Role;

use super::btf::Btf;

/// The iterator that the program is for.
pub const TARGET: &str = "bpf_iter_bpf_sk_storage_map";

/// Helpers, numbered as in linux/bpf.h.
const SEQ_WRITE: i32 = 127;
const SKC_TO_TCP_SOCK: i32 = 137;

/// Registers.
const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const R6: u8 = 6;
const R7: u8 = 7;
const STACK: u8 = 10;

/// One instruction: operation, destination, source, offset, constant.
fn op(code: u8, dst: u8, src: u8, offset: i16, constant: i32) -> u64 {
    let bytes = [[code, src << 4 | dst], offset.to_ne_bytes()].concat();
    let constant = constant.to_ne_bytes();
    u64::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3], constant[0], constant[1], constant[2], constant[3]])
}

/// dst = *(u32 *)(src + offset)
fn load32(dst: u8, src: u8, offset: i16) -> u64 {
    op(0x61, dst, src, offset, 0)
}

/// dst = *(u64 *)(src + offset)
fn load64(dst: u8, src: u8, offset: i16) -> u64 {
    op(0x79, dst, src, offset, 0)
}

/// *(u32 *)(dst + offset) = src
fn store32(dst: u8, offset: i16, src: u8) -> u64 {
    op(0x63, dst, src, offset, 0)
}

/// *(u64 *)(dst + offset) = src
fn store64(dst: u8, offset: i16, src: u8) -> u64 {
    op(0x7b, dst, src, offset, 0)
}

fn copy(dst: u8, src: u8) -> u64 {
    op(0xbf, dst, src, 0, 0)
}

fn set(dst: u8, constant: i32) -> u64 {
    op(0xb7, dst, 0, 0, constant)
}

fn add(dst: u8, constant: i32) -> u64 {
    op(0x07, dst, 0, 0, constant)
}

fn call(helper: i32) -> u64 {
    op(0x85, 0, 0, 0, helper)
}

/// Skips so many instructions if the register is 0.
fn skip_if_zero(register: u8, count: i16) -> u64 {
    op(0x15, register, 0, count, 0)
}

fn exit() -> u64 {
    op(0x95, 0, 0, 0, 0)
}

/// A program that does nothing: whoever may load any for the iterator may load this one.
pub fn nothing() -> [u64; 2] {
    [set(R0, 0), exit()]
}

/// The program for this kernel. Its context is `{ meta, map, sk, value }`, and meta begins with the file to write to.
pub fn instructions(kernel: &Btf<'_>) -> Result<Vec<u64>, String> {
    let at = |of: &str, member: &str| {
        let offset = kernel.member(of, member).and_then(|o| i16::try_from(o).ok());
        offset.ok_or_else(|| format!("this kernel's {of} has no {member}"))
    };
    // A tcp_sock begins with its sock, and that with its sock_common.
    let tail = [
        load32(R1, R0, at("sock", "sk_txhash")?),
        store32(STACK, -32, R1),
        load32(R1, R0, at("sock_common", "skc_rxhash")?),
        store32(STACK, -28, R1),
        load32(R1, R0, at("tcp_sock", "rcv_nxt")?),
        store32(STACK, -24, R1),
        load32(R1, R0, at("tcp_sock", "snd_una")?),
        store32(STACK, -20, R1),
        load64(R1, R0, at("tcp_sock", "bytes_received")?),
        store64(STACK, -16, R1),
        load64(R1, R0, at("tcp_sock", "bytes_acked")?),
        store64(STACK, -8, R1),
        load64(R6, R6, 0),
        load64(R1, R6, 0),
        copy(R2, STACK),
        add(R2, -32),
        set(R3, Numbers::LEN as i32),
        call(SEQ_WRITE),
    ];
    let skip = tail.len() as i16;
    // The last time it is called there is no socket.
    let head = [
        copy(R6, R1),
        load64(R7, R6, 16),
        skip_if_zero(R7, skip + 3),
        copy(R1, R7),
        call(SKC_TO_TCP_SOCK),
        skip_if_zero(R0, skip),
    ];
    Ok([&head[..], &tail, &[set(R0, 0), exit()]].concat())
}

/// What the program writes.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    /// What marks this end's segments, and what marked the last that came.
    pub flow: Flow,
    rcv_nxt: u32,
    snd_una: u32,
    bytes_received: u64,
    bytes_acked: u64,
}

impl Numbers {
    /// Its length in bytes.
    pub const LEN: usize = 32;

    /// Reads it.
    pub fn decode(bytes: &[u8; Numbers::LEN]) -> Numbers {
        let half = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
        let whole = |at: usize| u64::from_ne_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| bytes[at + i]));
        Numbers {
            flow: Flow { sent: half(0), received: half(4) },
            rcv_nxt: half(8),
            snd_una: half(12),
            bytes_received: whole(16),
            bytes_acked: whole(24),
        }
    }

    /// The number of the first byte of each direction. What was received is counted without the peer's SYN; what was
    /// acknowledged is counted with the own SYN, but only at the end that connected. A FIN is counted in both.
    pub fn first(self, role: Role) -> Sequence {
        let syn = u32::from(role == Role::Connected);
        Sequence {
            sent: self.snd_una.wrapping_sub(self.bytes_acked as u32).wrapping_add(syn),
            received: self.rcv_nxt.wrapping_sub(self.bytes_received as u32),
        }
    }
}
