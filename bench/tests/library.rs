//! What libipc.so requires of a program and a system that it is loaded into.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use bench::artifacts;
use object::elf::{DT_NEEDED, FileHeader64, STB_LOCAL};
use object::read::elf::{Dyn, ElfFile64, FileHeader, Sym};
use object::{Endianness, SectionIndex};

/// The oldest glibc that the library loads into.
const OLDEST_GLIBC: (u32, u32) = (2, 28);
const NEEDED: [&str; 2] = ["libc.so.6", "libdl.so.2"];
const MOST_BYTES: u64 = 1 << 20;

type Header = FileHeader64<Endianness>;

fn library() -> Vec<u8> {
    let path = artifacts::libipc().unwrap_or_else(|e| panic!("{e:#}"));
    fs::read(path).expect("libipc.so")
}

/// Every dynamic symbol: its name, the version it requires (if any), and whether it is defined here.
fn symbols(library: &[u8]) -> Vec<(String, Option<String>, bool)> {
    let elf = ElfFile64::<Endianness>::parse(library).expect("a 64-bit ELF file");
    let (endian, table) = (elf.endian(), elf.elf_section_table());
    let versions = table.versions(endian, library).expect("versions");
    let symbols = table.symbols(endian, library, object::elf::SHT_DYNSYM).expect("dynamic symbols");
    let described = symbols.enumerate().filter(|(_, s)| s.st_bind() != STB_LOCAL).map(|(index, symbol)| {
        let name = symbol.name(endian, symbols.strings()).expect("a name");
        let version = versions.as_ref().and_then(|all| {
            let wanted = all.version_index(endian, index);
            all.version(wanted).ok().flatten().map(|v| String::from_utf8_lossy(v.name()).into_owned())
        });
        let defined = symbol.st_shndx(endian) != SectionIndex(0).0 as u16;
        (String::from_utf8_lossy(name).into_owned(), version, defined)
    });
    described.collect()
}

/// The names in libipc/src/symbols: the text before the first parenthesis of each row of the table, and of the macros
/// for functions with a variable number of arguments.
fn interposed() -> BTreeSet<String> {
    let read = |name: &str| {
        let path = format!("{}/../libipc/src/symbols/{name}", env!("CARGO_MANIFEST_DIR"));
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    let (table, variadic) = (read("table.rs"), read("variadic.rs"));
    let variadic = variadic.lines().filter_map(|line| {
        let arguments = line.strip_prefix("listed!(").or(line.strip_prefix("forwarded!("))?;
        arguments.split([' ', ',']).next().map(str::to_owned)
    });
    let rows = table.split_once("$expand! {\n").expect("the table").1;
    let rows = rows.split_once("\n        }\n").expect("the table's end").0;
    let rows: String = rows.lines().filter(|l| !l.trim_start().starts_with("//")).collect();
    let names = rows.split(';').filter_map(|row| Some(row.trim().split_once('(')?.0.to_owned()));
    names.chain(variadic).collect()
}

#[test]
fn it_exports_the_interposed_functions_and_nothing_else() {
    let exported = symbols(&library()).into_iter().filter(|(.., defined)| *defined).map(|(name, ..)| name);
    let (exported, interposed) = (exported.collect::<BTreeSet<_>>(), interposed());
    assert!(interposed.len() > 60 && interposed.contains("read"), "{interposed:?}");
    assert_eq!(exported.difference(&interposed).collect::<Vec<_>>(), Vec::<&String>::new(), "exported by mistake");
    assert_eq!(interposed.difference(&exported).collect::<Vec<_>>(), Vec::<&String>::new(), "not exported");
}

#[test]
fn it_loads_on_an_old_glibc() {
    for (name, version, _) in symbols(&library()) {
        let Some(version) = version else { continue };
        let numbers = version.strip_prefix("GLIBC_").unwrap_or_else(|| panic!("{name} is of {version}"));
        let mut parts = numbers.split('.').map(|n| n.parse::<u32>().unwrap_or(u32::MAX));
        let parts = (parts.next().unwrap_or(u32::MAX), parts.next().unwrap_or(0));
        assert!(parts <= OLDEST_GLIBC, "{name} needs {version}, newer than glibc {OLDEST_GLIBC:?}");
    }
}

#[test]
fn it_brings_no_other_library() {
    let bytes = library();
    let elf = ElfFile64::<Endianness>::parse(bytes.as_slice()).expect("a 64-bit ELF file");
    let (endian, header): (_, &Header) = (elf.endian(), elf.elf_header());
    let sections = header.sections(endian, bytes.as_slice()).expect("sections");
    let (entries, link) = sections.dynamic(endian, bytes.as_slice()).expect("readable").expect("a dynamic section");
    let strings = sections.strings(endian, bytes.as_slice(), link).expect("strings");
    for entry in entries.iter().filter(|e| e.d_tag(endian) == DT_NEEDED) {
        let name = entry.string(endian, strings).expect("a name");
        let name = String::from_utf8_lossy(name);
        assert!(NEEDED.contains(&name.as_ref()), "libipc.so needs {name}");
    }
}

#[test]
fn it_is_small() {
    let stripped = tempfile::NamedTempFile::new().expect("a file");
    let library = artifacts::libipc().unwrap_or_else(|e| panic!("{e:#}"));
    let status = Command::new("strip").arg("-o").arg(stripped.path()).arg(library).status().expect("strip (binutils)");
    assert!(status.success());
    let size = stripped.path().metadata().expect("its size").len();
    assert!(size > 10_000 && size < MOST_BYTES, "{size} bytes");
}
