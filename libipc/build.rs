//! How libipc.so is linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Never unloaded: the program's calls and the fork handlers lead here.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // libc by name: rustc leaves the default libraries out, and whether the libc crate asks for it depends on what else
    // is built. libdl is where dlsym is before glibc 2.34; later it is an empty library that every glibc brings.
    println!("cargo:rustc-cdylib-link-arg=-Wl,--push-state,--no-as-needed,-lc,-l:libdl.so.2,--pop-state");
}
