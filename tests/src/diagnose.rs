//! What a program that hangs is doing.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

/// A field of /proc/PID/stat, counted from the one after the name.
fn stat(pid: i32, field: usize) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(field)?.parse().ok()
}

fn processes() -> Vec<i32> {
    let Ok(proc) = fs::read_dir("/proc") else { return Vec::new() };
    proc.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The processes of a process group.
pub fn members(group: i32) -> Vec<i32> {
    processes().into_iter().filter(|pid| stat(*pid, 2) == Some(group)).collect()
}

/// A process and all its descendants, whatever groups and sessions they made.
pub fn family(pid: i32) -> Vec<i32> {
    let all: Vec<(i32, Option<i32>)> = processes().into_iter().map(|pid| (pid, stat(pid, 1))).collect();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(all.iter().filter(|(_, p)| *p == Some(parent)).map(|(pid, _)| pid));
        next += 1;
    }
    family
}

/// Where every thread of every process of the group waits, and its stack if gdb is there.
pub fn describe(group: i32) -> String {
    members(group).into_iter().map(describe_process).collect()
}

/// The same for a process and all its descendants.
pub fn describe_family(pid: i32) -> String {
    family(pid).into_iter().map(describe_process).collect()
}

fn describe_process(pid: i32) -> String {
    let mut text = String::new();
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
    let _ = writeln!(text, "--- process {pid}: {command}");
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_else(|e| e.to_string());
        let (wchan, syscall, stack) = (read("wchan"), read("syscall"), read("stack"));
        let tid = task.file_name();
        let _ = writeln!(text, "thread {tid:?}: wchan {wchan}, syscall {}\n{stack}", syscall.trim());
    }
    let gdb = Command::new("gdb")
        .args(["-p", &pid.to_string(), "-batch", "-nx", "-ex", "thread apply all bt"])
        .env_remove("LD_PRELOAD")
        .output();
    if let Ok(out) = gdb {
        text.push_str(&String::from_utf8_lossy(&out.stdout));
    }
    text
}
