//! The machine on which a result was measured.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::artifacts;
use crate::process::output;

/// The properties of the machine that may change a figure.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The model.
    pub cpu: String,
    /// How many CPUs.
    pub cpus: usize,
    /// Which of them share a core.
    pub cores: Vec<String>,
    /// Whether the machine is virtual.
    pub virtual_machine: bool,
    /// The kernel.
    pub kernel: String,
    /// The distribution.
    pub system: String,
    /// The CPU's vulnerabilities, and how the kernel mitigates each.
    pub mitigations: BTreeMap<String, String>,
    /// The clock source.
    pub clock: String,
    /// How many packet filter rules there are, if that can be asked.
    pub firewall_rules: Option<usize>,
    /// Mean number of processes that wanted a CPU in the minute before.
    pub load_before: f64,
    /// The same in the last minute.
    pub load_after: f64,
    /// The commit that was measured; + if files differ from it.
    pub commit: String,
    /// The time of the measurement, in seconds since 1970.
    pub taken: u64,
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn cpuinfo(field: &str) -> String {
    let info = read("/proc/cpuinfo");
    let found = info.lines().find_map(|l| l.strip_prefix(field)?.split_once(':').map(|(_, v)| v.trim().to_owned()));
    found.unwrap_or_default()
}

/// The load of the last minute.
pub fn load() -> f64 {
    read("/proc/loadavg").split(' ').next().and_then(|l| l.parse().ok()).unwrap_or(f64::NAN)
}

fn cores() -> Vec<String> {
    let siblings = |cpu| read(&format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
    let all: std::collections::BTreeSet<String> = (0..1024).map(siblings).filter(|s| !s.is_empty()).collect();
    all.into_iter().collect()
}

fn mitigations() -> BTreeMap<String, String> {
    let dir = "/sys/devices/system/cpu/vulnerabilities";
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let named = entries.map(|e| e.file_name().to_string_lossy().into_owned());
    let all = named.map(|name| (read(&format!("{dir}/{name}")), name)).map(|(value, name)| (name, value));
    all.filter(|(_, value)| value != "Not affected").collect()
}

fn firewall_rules() -> Option<usize> {
    let nft = artifacts::installed("nft").ok().and_then(|nft| output(Command::new(nft).args(["list", "ruleset"])).ok());
    if let Some(rules) = nft {
        let is_rule = |l: &&str| !l.trim().is_empty() && !l.contains('{') && !l.contains('}') && !l.contains("type ");
        return Some(rules.lines().filter(is_rule).count());
    }
    let save = artifacts::installed("iptables-save").ok()?;
    Some(output(&mut Command::new(save)).ok()?.lines().filter(|l| l.starts_with("-A")).count())
}

fn commit() -> String {
    let git = |args: &[&str]| output(Command::new("git").arg("-C").arg(artifacts::source(".")).args(args));
    let changed = git(&["status", "--porcelain", "--", "../libipc", "../ipcd", "../matcher"]);
    match (git(&["rev-parse", "--short=12", "HEAD"]), changed) {
        (Ok(commit), Ok(changed)) => format!("{}{}", commit.trim(), if changed.trim().is_empty() { "" } else { "+" }),
        _ => "unknown".into(),
    }
}

impl Machine {
    /// This machine, now.
    pub fn describe() -> Machine {
        let system = read("/etc/os-release");
        let system = system.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or("unknown");
        Machine {
            cpu: cpuinfo("model name"),
            cpus: std::thread::available_parallelism().map_or(0, |n| n.get()),
            cores: cores(),
            virtual_machine: cpuinfo("flags").split(' ').any(|f| f == "hypervisor"),
            kernel: read("/proc/sys/kernel/osrelease"),
            system: system.trim_matches('"').into(),
            mitigations: mitigations(),
            clock: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            firewall_rules: firewall_rules(),
            load_before: load(),
            load_after: load(),
            commit: commit(),
            taken: std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_secs()),
        }
    }

    /// The part of the description that does not change between measurements.
    pub fn hardware(&self) -> String {
        let kind = if self.virtual_machine { " (virtual machine)" } else { "" };
        format!("{} × {}{kind}, Linux {}", self.cpus, self.cpu, self.kernel)
    }

    /// A short description, in one line.
    pub fn line(&self) -> String {
        format!("{}, load {:.2}", self.hardware(), self.load_before)
    }

    /// The full description.
    pub fn markdown(&self) -> String {
        let mut text =
            format!("{}; {}; CPUs that share a core: {}; ", self.hardware(), self.system, self.cores.join(" "));
        let rules = self.firewall_rules.map_or("unknown".into(), |n| n.to_string());
        text +=
            &format!("clock {}; packet filter rules: {rules}; commit {}.\n\nMitigations: ", self.clock, self.commit);
        let all: Vec<String> = self.mitigations.iter().map(|(name, how)| format!("{name}: {how}")).collect();
        text + &all.join("; ") + "."
    }
}
