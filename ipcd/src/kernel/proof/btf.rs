//! The kernel's own description of its types (BTF, Documentation/bpf/btf.rst), as far as it is needed: where a member
//! is in a structure, and the number of a function.

/// Where the kernel has it.
pub const KERNEL: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;

const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const ENUM64: u32 = 19;

/// How deep structures without a name may lie in one another.
const DEPTH: usize = 8;

/// All types of a kernel, by their number.
pub struct Btf<'a> {
    types: Vec<Type<'a>>,
    strings: &'a [u8],
}

struct Type<'a> {
    name: u32,
    kind: u32,
    /// Whether member offsets also carry the size of bit fields.
    bit_fields: bool,
    /// What follows the type: for a structure, 12 bytes for each member.
    rest: &'a [u8],
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

impl<'a> Btf<'a> {
    /// Nothing if it is not what the kernel documents.
    pub fn new(bytes: &'a [u8]) -> Option<Btf<'a>> {
        if bytes.get(..2)? != MAGIC.to_ne_bytes() {
            return None;
        }
        let header = word(bytes, 4)? as usize;
        let section = |at: usize| -> Option<&'a [u8]> {
            let (offset, len) = (word(bytes, at)? as usize, word(bytes, at + 4)? as usize);
            bytes.get(header..)?.get(offset..)?.get(..len)
        };
        let (mut rest, strings) = (section(8)?, section(16)?);
        let mut types = Vec::new();
        while !rest.is_empty() {
            let (name, info) = (word(rest, 0)?, word(rest, 4)?);
            let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            let len = match kind {
                INT | VAR | DECL_TAG => 4,
                ARRAY => 12,
                STRUCT | UNION | DATASEC | ENUM64 => 12 * count,
                ENUM | FUNC_PROTO => 8 * count,
                _ => 0,
            };
            let (this, next) = rest.get(12..)?.split_at_checked(len)?;
            types.push(Type { name, kind, bit_fields: info >> 31 == 1, rest: this });
            rest = next;
        }
        Some(Btf { types, strings })
    }

    fn is_named(&self, name: u32, wanted: &str) -> bool {
        let rest = self.strings.get(name as usize..).unwrap_or(&[]);
        rest.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    /// The number of a function.
    pub fn function(&self, name: &str) -> Option<u32> {
        let at = self.types.iter().position(|t| t.kind == FUNC && self.is_named(t.name, name))?;
        u32::try_from(at + 1).ok()
    }

    /// The byte at which a member of a structure begins.
    pub fn member(&self, of: &str, name: &str) -> Option<u32> {
        let of = self.types.iter().find(|t| t.kind == STRUCT && self.is_named(t.name, of))?;
        let bits = self.member_bits(of, name, DEPTH)?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// Members of members that have no name belong to the structure itself.
    fn member_bits(&self, of: &Type<'_>, name: &str, depth: usize) -> Option<u32> {
        of.rest.chunks_exact(12).find_map(|m| {
            let (named, number, offset) = (word(m, 0)?, word(m, 4)?, word(m, 8)?);
            let offset = if of.bit_fields { offset & 0x00ff_ffff } else { offset };
            if named != 0 {
                return self.is_named(named, name).then_some(offset);
            }
            let inner = self.types.get((number as usize).checked_sub(1)?)?;
            let nested = matches!(inner.kind, STRUCT | UNION);
            let depth = depth.checked_sub(1).filter(|_| nested)?;
            offset.checked_add(self.member_bits(inner, name, depth)?)
        })
    }
}

/// A description of two types: 1 is an int, 2 a 64-bit number.
pub fn two_integers() -> Vec<u8> {
    let (strings, types) = (b"\0int\0u64\0", [[1, INT << 24, 4, 32], [5, INT << 24, 8, 64]]);
    let types: Vec<u8> = types.concat().into_iter().flat_map(u32::to_ne_bytes).collect();
    let lengths = [HEADER as u32, 0, types.len() as u32, types.len() as u32, strings.len() as u32];
    let mut blob = MAGIC.to_ne_bytes().to_vec();
    blob.extend([1, 0]);
    blob.extend(lengths.into_iter().flat_map(u32::to_ne_bytes));
    blob.extend(types);
    blob.extend(strings);
    blob
}
