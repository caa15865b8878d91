//! Every socket option, request and flag that Linux has, found by trying every number: the answer is the one that TCP
//! gives, or the one that docs/options.md names.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tests::case::{Case, assert_passed, held_ports};
use tests::streams::Stream;
use tests::{Daemon, Mode, Program, artifacts, run};

/// What docs/options.md says of an option: whether it keeps a connection on TCP, and the error that refuses it later.
#[derive(Clone, Copy, Default)]
struct Class {
    stays: bool,
    refused: Option<&'static str>,
}

/// The tables of docs/options.md, by level and number.
fn documented() -> HashMap<(u32, u32), Class> {
    let mut level = 0;
    let mut all = HashMap::new();
    for line in include_str!("../../docs/options.md").lines() {
        match line {
            "## SOL_SOCKET" => level = 1,
            "## IPPROTO_TCP" => level = 6,
            _ => {}
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [_, number, _, before, after, ..] = cells[..]
            && let Ok(number) = number.parse()
        {
            let refused = ["EOPNOTSUPP", "ENOENT"].into_iter().find(|error| *error == after);
            all.insert((level, number), Class { stays: before == "stays", refused });
        }
    }
    assert!(all.len() > 100, "docs/options.md has its tables");
    all
}

/// What the victim says of one option after it was tried.
struct Tried {
    port: u16,
    option: (u32, u32),
    accepted: bool,
}

fn tried(mark: &str) -> Option<Tried> {
    let numbers: Vec<u32> = mark.strip_prefix("option ")?.split(' ').map(|n| n.parse().expect("a number")).collect();
    let [port, level, number, accepted] = numbers[..] else { panic!("option mark: {mark}") };
    Some(Tried { port: port as u16, option: (level, number), accepted: accepted != 0 })
}

/// The reason for which options keep a stream on TCP.
const STAYS: &str = "socket-option";

/// Waits until each of the streams is final or has an end that stays on TCP because of an option; the other end, which
/// may be reported by itself, says that its peer declined.
fn settled(daemon: &Daemon, ports: &[u16]) -> Result<Vec<Stream>, String> {
    let start = Instant::now();
    loop {
        let all = daemon.streams();
        let over = |s: &Stream, port| s.client == port && (s.is_final() || s.stays_for(&[STAYS]));
        let missing: Vec<_> = ports.iter().filter(|port| !all.iter().any(|s| over(s, **port))).collect();
        if missing.is_empty() {
            return Ok(all);
        }
        if start.elapsed() > Duration::from_secs(20) {
            let rows: Vec<_> = all.iter().filter(|s| missing.contains(&&s.client)).collect();
            return Err(format!("{} of {} streams neither move nor stay: {rows:?}", missing.len(), ports.len()));
        }
        std::thread::sleep(Duration::from_millis(15));
    }
}

/// Waits until the near end of each stream has promised. The far one does nothing, so the streams are not final; some
/// far ends have promised before.
fn wait_dual(daemon: &Daemon, ports: &[u16], near: &str) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let all = daemon.ls();
        let rows = all.as_array().expect("an array");
        let promised = |port: &&u16| {
            rows.iter().any(|row| {
                let client = row["client"].as_str().unwrap_or_default();
                let mut ends = row["ends"].as_array().into_iter().flatten();
                client.ends_with(&format!(":{port}")) && ends.any(|end| end["role"] == near && end["state"] == "dual")
            })
        };
        let missing = ports.iter().filter(|port| !promised(port)).count();
        if missing == 0 {
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(20) {
            return Err(format!("{missing} of {} near ends have not promised: {all:#}", ports.len()));
        }
        std::thread::sleep(Duration::from_millis(15));
    }
}

/// The option that a line of the victim is about.
fn option_of(line: &str) -> Option<(u32, u32)> {
    let mut words = line.split([' ', ':']).skip_while(|word| *word != "level").skip(1);
    let level = words.next()?.parse().ok()?;
    (words.next()? == "option").then_some((level, words.next()?.parse().ok()?))
}

/// The lines of both runs, where docs/options.md does not name a difference: an option that is refused after the move
/// is refused, and keeps its value.
fn assert_same(native: &[String], shim: &[String], late: bool, what: &str) {
    let classes = documented();
    let first = native.iter().zip(shim).find(|(n, s)| option_of(n) != option_of(s));
    assert_eq!((native.len(), first), (shim.len(), None), "lines of {what}");
    let mut at_first = "";
    let mut wrong = Vec::new();
    for (n, s) in native.iter().zip(shim) {
        let class = option_of(n).and_then(|option| classes.get(&option)).copied().unwrap_or_default();
        if let Some((_, value)) = n.split_once("at first ") {
            at_first = value;
        }
        let refused = late && class.refused.is_some_and(|error| s.ends_with(&format!("= -1 {error}")));
        let kept = late && class.refused.is_some() && s.split_once("then ").is_some_and(|(_, v)| v == at_first);
        if n != s && !refused && !kept {
            wrong.push(format!("  native: {n}\n  here:   {s}"));
        }
    }
    assert!(wrong.is_empty(), "{} differences: {what}\n{}", wrong.len(), wrong[..wrong.len().min(60)].join("\n"));
}

/// One run of the victim with each option set at a moment: the same as natively, and the streams stay on TCP whose
/// option says so, and no others.
fn set_everything(moment: &str, family: &str, flags: &[&str]) {
    let args: Vec<&str> = ["option-set"].iter().chain(flags).chain(&[moment, family]).copied().collect();
    let program = Program::new(artifacts::VICTIM, &args);
    let native = run(&program, Mode::Native, |_| Ok(()));
    assert_passed(&native, &program, Mode::Native);
    let daemon = Daemon::eager();
    let mode = Mode::Shim(&daemon);
    let late = matches!(moment, "dual" | "after");
    let classes = documented();
    let mut options = Vec::new();
    let shim = run(&program, mode, |mark| {
        options.extend(tried(mark));
        if let Some(ports) = mark.strip_prefix("event dual ") {
            let ports: Vec<u16> = ports.split(' ').map(|port| port.parse().expect("a port")).collect();
            let near = if flags.contains(&"--near-accepts") { "accepted" } else { "connected" };
            return wait_dual(&daemon, &ports, near);
        }
        let Some(ports) = held_ports(mark) else { return Ok(()) };
        let all = settled(&daemon, &ports)?;
        for t in options.drain(..) {
            let class = classes.get(&t.option).copied().unwrap_or_default();
            let stays = all.iter().any(|s| s.client == t.port && s.stays_for(&[STAYS]));
            if stays != (class.stays && t.accepted && !late) {
                let ends: Vec<_> = all.iter().filter(|s| s.client == t.port).collect();
                return Err(format!("{:?}, accepted: {}: {ends:?}", t.option, t.accepted));
            }
        }
        Ok(())
    });
    assert_passed(&shim, &program, mode);
    assert_same(&native.lines, &shim.lines, late, &program.by_hand(mode));
}

#[test]
fn every_option_asked() {
    Case::new("option-get").only(&[tests::case::Layout::Warm]).check();
}

#[test]
fn every_option_set_before_connect() {
    set_everything("new", "4", &[]);
    set_everything("new", "6", &[]);
}

#[test]
fn every_option_set_before_the_first_byte() {
    set_everything("tracked", "4", &[]);
    set_everything("tracked", "6", &["--near-accepts"]);
}

#[test]
fn every_option_set_between_the_promises() {
    set_everything("dual", "4", &[]);
    set_everything("dual", "6", &["--near-accepts"]);
}

#[test]
fn every_option_set_after_the_move() {
    set_everything("after", "4", &["--near-accepts"]);
    set_everything("after", "6", &["--far=thread"]);
}
