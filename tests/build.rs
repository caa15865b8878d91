//! Compiles the test programs with the system's C compiler, twice: as they are, and the way distributions build
//! (optimised, fortified), which calls other symbols for the same things (`__read_chk`, `__fdelt_chk`, ...).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn compile(sources: &[PathBuf], to: &Path, flags: &[&str]) {
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
    let status = Command::new(&compiler)
        .args(["-std=gnu11", "-g", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-pthread"])
        .args(flags)
        .args(sources)
        .arg("-o")
        .arg(to)
        .status()
        .unwrap_or_else(|e| panic!("cannot run {compiler} (`make test` as root installs it): {e}"));
    assert!(status.success(), "{compiler} could not build {}", to.display());
}

fn main() {
    println!("cargo:rerun-if-changed=victims");
    println!("cargo:rerun-if-env-changed=CC");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut sources: Vec<PathBuf> = fs::read_dir("victims")
        .expect("tests/victims is there")
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.extension().is_some_and(|e| e == "c"))
        .collect();
    sources.sort();
    let (plain, fortified) = (out.join("victim"), out.join("victim-fortified"));
    compile(&sources, &plain, &["-O1"]);
    compile(&sources, &fortified, &["-O2", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-D_FILE_OFFSET_BITS=64"]);
    let library = out.join("libsockets.so");
    compile(&["victims/libraries/sockets.c".into()], &library, &["-O1", "-shared", "-fPIC"]);
    let cat = out.join("cat-static");
    compile(&["victims/programs/cat.c".into()], &cat, &["-O1", "-static"]);
    let hold = out.join("hold-static");
    compile(&["victims/programs/hold.c".into()], &hold, &["-O1", "-static"]);
    println!("cargo:rustc-env=VICTIM_STATIC_HOLD={}", hold.display());
    println!("cargo:rustc-env=VICTIM_STATIC_CAT={}", cat.display());
    println!("cargo:rustc-env=VICTIM_LIBRARY={}", library.display());
    println!("cargo:rustc-env=VICTIM={}", plain.display());
    println!("cargo:rustc-env=VICTIM_FORTIFIED={}", fortified.display());
}
