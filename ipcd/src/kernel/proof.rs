//! Asks the kernel for the numbers by which the two ends of a stream are known:
//!
//! - sequence numbers: what one end sends first is what the other receives first. 64 bits that stay for the life of a
//!   stream and survive the translation of addresses. The kernel makes them of the addresses and the time, so two
//!   networks with equal addresses may have the same, if two streams begin within the same 64 nanoseconds twice.
//! - flow hashes: a random number that each end marks its segments with inside the machine, and the last one that
//!   arrived at the other. It changes after a loss.
//!
//! Two sockets of which both agree are one stream, wherever they are.
//!
//! ```text
//!   socket ──> sk_storage map <── iterator: for each socket in the map, write six numbers of its tcp_sock
//! ```
//!
//! The map is ipcd's own and holds one socket for the moment of the question, so the program runs for nobody else, is
//! attached to nothing, and goes with ipcd. docs/kernel-notes/sequence-numbers.md tells what else was tried.

mod btf;
mod program;
mod refusal;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use matcher::endpoint::{Flow, Sequence};
use matcher::wire::Role;

use btf::Btf;
use program::{Numbers, instructions};
use refusal::explain;

/// How often the numbers are read until two readings agree: the kernel does not stop the stream for us.
const READINGS: usize = 16;

// Commands and constants of bpf(2), linux/bpf.h.
const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_DELETE_ELEM: libc::c_long = 3;
const PROG_LOAD: libc::c_long = 5;
const BTF_LOAD: libc::c_long = 18;
const LINK_CREATE: libc::c_long = 28;
const ITER_CREATE: libc::c_long = 33;
const MAP_TYPE_SK_STORAGE: u32 = 24;
const PROG_TYPE_TRACING: u32 = 26;
const TRACE_ITER: u32 = 28;
const NO_PREALLOC: u32 = 1;

/// The means to ask.
pub struct Proof {
    map: OwnedFd,
    link: OwnedFd,
}

impl Proof {
    /// Loads the program. An error says what is missing.
    pub fn new() -> Result<Proof, String> {
        let step = |what: &'static str| move |error: io::Error| explain(what, &error);
        let kernel =
            std::fs::read(btf::KERNEL).map_err(step("read the types of the kernel at /sys/kernel/btf/vmlinux"))?;
        let kernel = Btf::new(&kernel).ok_or("cannot make sense of the types of the kernel")?;
        let program = instructions(&kernel)?;
        let target = kernel.function(program::TARGET).ok_or("this kernel cannot iterate over the sockets of a map")?;
        let types = load_types().map_err(step("load types"))?;
        let map = create_map(&types).map_err(step("create a map"))?;
        let program =
            load_program(&program, target).map_err(|error| match load_program(&program::nothing(), target) {
                // The kernel lets us load, but not this.
                Ok(_) => format!("this kernel does not accept the program: {error}"),
                Err(_) => explain("load a program", &error),
            })?;
        let link = create_link(&program, &map).map_err(step("create an iterator"))?;
        Ok(Proof { map, link })
    }

    /// The numbers of a socket that the caller knows to be TCP.
    pub fn ask(&self, socket: BorrowedFd<'_>, role: Role) -> io::Result<(Sequence, Flow)> {
        let (map, key, value) = (self.map.as_raw_fd() as u64, socket.as_raw_fd(), 0u64);
        bpf_call(MAP_UPDATE_ELEM, &[map, (&raw const key) as u64, (&raw const value) as u64, 0])?;
        let result = self.read_settled(role);
        bpf_call(MAP_DELETE_ELEM, &[map, (&raw const key) as u64, 0, 0])?;
        result
    }

    fn read_settled(&self, role: Role) -> io::Result<(Sequence, Flow)> {
        let read = || self.read().map(|numbers| (numbers.first(role), numbers.flow));
        let mut before = read()?;
        for _ in 0..READINGS {
            let after = read()?;
            if before == after {
                return Ok(after);
            }
            before = after;
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn read(&self) -> io::Result<Numbers> {
        let iterator = bpf(ITER_CREATE, &[self.link.as_raw_fd() as u64])?;
        // Room for more: if another socket were in the map, nobody could say whose numbers these are.
        let mut bytes = [0; 2 * Numbers::LEN];
        let len = nix::unistd::read(&iterator, &mut bytes)?;
        match bytes.split_first_chunk() {
            Some((numbers, _)) if len == Numbers::LEN => Ok(Numbers::decode(numbers)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// The types of the map's keys and values: int and u64.
fn load_types() -> io::Result<OwnedFd> {
    let blob = btf::two_integers();
    bpf(BTF_LOAD, &[blob.as_ptr() as u64, 0, blob.len() as u64])
}

fn create_map(types: &OwnedFd) -> io::Result<OwnedFd> {
    let (key_type, value_type) = (1, 2);
    let attributes = [
        MAP_TYPE_SK_STORAGE,
        4,
        8,
        0,
        NO_PREALLOC,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        types.as_raw_fd() as u32,
        key_type,
        value_type,
        0,
    ];
    bpf(MAP_CREATE, &pack(&attributes))
}

fn load_program(program: &[u64], target: u32) -> io::Result<OwnedFd> {
    let license = c"Dual MIT/GPL";
    let mut attributes = [0u64; 15];
    attributes[0] = u64::from(PROG_TYPE_TRACING) | (program.len() as u64) << 32;
    attributes[1] = program.as_ptr() as u64;
    attributes[2] = license.as_ptr() as u64;
    // At the byte offsets 68 and 108 of the attributes.
    attributes[8] = u64::from(TRACE_ITER) << 32;
    attributes[13] = u64::from(target) << 32;
    bpf(PROG_LOAD, &attributes)
}

fn create_link(program: &OwnedFd, map: &OwnedFd) -> io::Result<OwnedFd> {
    let info = map.as_raw_fd() as u32;
    let head = pack(&[program.as_raw_fd() as u32, 0, TRACE_ITER, 0]);
    bpf(LINK_CREATE, &[head[0], head[1], (&raw const info) as u64, size_of::<u32>() as u64])
}

/// Pairs of 32-bit attributes as 64-bit words.
fn pack(words: &[u32]) -> Vec<u64> {
    words.chunks(2).map(|w| u64::from(w[0]) | u64::from(w.get(1).copied().unwrap_or(0)) << 32).collect()
}

/// A command that gives a descriptor.
fn bpf(command: libc::c_long, attributes: &[u64]) -> io::Result<OwnedFd> {
    let fd = bpf_call(command, attributes)?;
    // SAFETY: the command has made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// bpf(2) makes all of its descriptors close-on-exec.
fn bpf_call(command: libc::c_long, attributes: &[u64]) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are those of the command, and what they point to outlives the call. The kernel checks the
    // length.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) };
    if result >= 0 { Ok(result) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests;
