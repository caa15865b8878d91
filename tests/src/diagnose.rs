//! What a program that hangs is doing.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

/// The processes of a process group.
pub fn members(group: i32) -> Vec<i32> {
    let Ok(proc) = fs::read_dir("/proc") else { return Vec::new() };
    proc.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let after_name = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or("");
            after_name.split_whitespace().nth(2) == Some(&group.to_string())
        })
        .collect()
}

/// Where every thread of every process of the group waits, and its stack if gdb is there.
pub fn describe(group: i32) -> String {
    let mut text = String::new();
    for pid in members(group) {
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
    }
    text
}
