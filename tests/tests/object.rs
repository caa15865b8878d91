//! Things that libipc.so must not contain (docs/signal-safety.md), looked for in the object that is preloaded.

use std::fs;

use object::elf::{PT_TLS, STT_FUNC};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Object, ObjectSymbol, SymbolFlags};
use tests::artifacts;

#[test]
fn it_has_no_way_to_panic_and_no_storage_for_each_thread() {
    let bytes = fs::read(artifacts::libipc()).expect("an object");
    let elf: ElfFile64 = ElfFile64::parse(&*bytes).expect("an ELF object of 64 bits");
    let tls = elf.elf_program_headers().iter().filter(|segment| segment.p_type(elf.endian()) == PT_TLS).count();
    assert_eq!(tls, 0, "segments of thread-local storage");
    let is_function = |flags| matches!(flags, SymbolFlags::Elf { st_info, .. } if st_info & 0xf == STT_FUNC);
    let functions: Vec<&str> =
        elf.symbols().filter(|s| is_function(s.flags())).filter_map(|symbol| symbol.name().ok()).collect();
    assert!(functions.len() > 100, "the object says what its functions are: {}", functions.len());
    let panics: Vec<_> = functions.iter().filter(|name| name.contains("panicking")).collect();
    assert!(panics.is_empty(), "{panics:?}");
}
