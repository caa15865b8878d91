//! Compiles the measured programs. They are in C, because the C library's calls are measured.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=programs");
    println!("cargo:rerun-if-env-changed=CC");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    for name in ["calls", "connect", "costs", "live", "load", "peers", "spin", "traffic"] {
        let source = format!("programs/{name}.c");
        assert!(fs::exists(&source).is_ok_and(|there| there), "{source} is missing");
        compile(&source, &out.join(name));
        println!("cargo:rustc-env=PROGRAM_{}={}", name.to_uppercase(), out.join(name).display());
    }
}

fn compile(source: &str, to: &Path) {
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
    let status = Command::new(&compiler)
        .args(["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-pthread", source, "-o"])
        .arg(to)
        .status()
        .unwrap_or_else(|e| panic!("cannot run {compiler} (`make test` as root installs it): {e}"));
    assert!(status.success(), "{compiler} could not build {source}");
}
