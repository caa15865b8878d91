//! The kernel's own shortcut for local TCP: `sockmap/sockmap.bpf.c`, built, and attached to a cgroup of the
//! measurement's own.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::artifacts;
use crate::process::output;
use crate::process::{is_root, unique};
use crate::skip::skip;

/// Attached while it lives: TCP over 127.0.0.0/8 between processes of its cgroup is short-circuited.
pub struct Sockmap {
    bpftool: PathBuf,
    cgroup: PathBuf,
    pins: PathBuf,
}

impl Sockmap {
    /// Compiles in this directory, loads and attaches.
    pub fn attach(dir: &Path) -> Result<Sockmap> {
        if !is_root() {
            return Err(skip("sockmap needs root"));
        }
        let (clang, bpftool) = (artifacts::installed("clang")?, artifacts::installed("bpftool")?);
        let object = dir.join("sockmap.o");
        let machine = output(Command::new("uname").arg("-m"))?;
        output(
            Command::new(clang)
                .args(["-O2", "-g", "-Wall", "-target", "bpf", "-c", "-o"])
                .arg(&object)
                .arg(format!("-I/usr/include/{}-linux-gnu", machine.trim()))
                .arg(artifacts::source("sockmap/sockmap.bpf.c")),
        )
        .map_err(|e| skip(format!("sockmap does not compile (libbpf-dev?): {e:#}")))?;
        let name = unique("ipc_bench_");
        let (pins, cgroup) = (mounted_bpffs()?.join(&name), cgroup_root()?.join(&name));
        for made in [&pins, &cgroup] {
            fs::create_dir_all(made).with_context(|| format!("{}", made.display()))?;
        }
        let sockmap = Sockmap { bpftool, cgroup, pins };
        sockmap.bpftool(&["prog", "loadall", &text(&object), &sockmap.pin(""), "pinmaps", &sockmap.pin("")])?;
        sockmap.verdict("attach")?;
        sockmap.established("attach")?;
        Ok(sockmap)
    }

    fn pin(&self, name: &str) -> String {
        text(&self.pins.join(name)).trim_end_matches('/').to_owned()
    }

    fn bpftool(&self, args: &[&str]) -> Result<String> {
        output(Command::new(&self.bpftool).args(args)).with_context(|| format!("bpftool {}", args.join(" ")))
    }

    fn verdict(&self, verb: &str) -> Result<String> {
        let (program, map) = (self.pin("on_sendmsg"), self.pin("socks"));
        self.bpftool(&["prog", verb, "pinned", &program, "msg_verdict", "pinned", &map])
    }

    fn established(&self, verb: &str) -> Result<String> {
        let program = self.pin("on_established");
        self.bpftool(&["cgroup", verb, &text(&self.cgroup), "sock_ops", "pinned", &program])
    }

    /// Has a program start inside the cgroup.
    pub fn enter(&self, command: &mut Command) {
        let processes = self.cgroup.join("cgroup.procs");
        let file = fs::OpenOptions::new().write(true).open(processes);
        let join = move || match &file {
            // "0" is the process that writes.
            Ok(file) => (&*file).write_all(b"0"),
            Err(e) => Err(std::io::Error::from_raw_os_error(e.raw_os_error().unwrap_or(libc::EIO))),
        };
        // SAFETY: one write to an open file, and no allocation.
        unsafe { command.pre_exec(join) };
    }

    /// Messages that were short-circuited, on all CPUs.
    pub fn redirected(&self) -> Result<u64> {
        let dump = self.bpftool(&["-j", "map", "dump", "pinned", &self.pin("counters")])?;
        let entries: serde_json::Value = serde_json::from_str(&dump)?;
        let counters = entries.as_array().map(Vec::as_slice).unwrap_or_default();
        // The third counter of the program.
        let values = counters.get(2).and_then(|c| c["formatted"]["values"].as_array());
        Ok(values.into_iter().flatten().filter_map(|v| v["value"].as_u64()).sum())
    }
}

impl Drop for Sockmap {
    fn drop(&mut self) {
        let _ = self.established("detach");
        let _ = self.verdict("detach");
        let _ = fs::remove_dir_all(&self.pins);
        // The cgroup can be removed only once no process is left in it; the last has been waited for, but the kernel
        // may be behind.
        for _ in 0..50 {
            if fs::remove_dir(&self.cgroup).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn cgroup_root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let found = mounts.lines().find_map(|l| {
        let fields: Vec<&str> = l.split(' ').collect();
        (fields.get(2) == Some(&"cgroup2")).then(|| PathBuf::from(fields[1]))
    });
    found.ok_or_else(|| skip("cgroup v2 is not mounted"))
}

/// Mounts it in its usual place if it is not mounted.
fn mounted_bpffs() -> Result<PathBuf> {
    let dir = PathBuf::from("/sys/fs/bpf");
    let mounts = fs::read_to_string("/proc/mounts")?;
    if !mounts.lines().any(|l| l.split(' ').nth(1) == Some("/sys/fs/bpf")) {
        output(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&dir))
            .map_err(|e| skip(format!("no BPF file system: {e:#}")))?;
    }
    Ok(dir)
}
