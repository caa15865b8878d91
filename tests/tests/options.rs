//! Every socket option, request and flag that Linux has, found by trying every number: the answer is TCP's, or the one
//! that docs/options.md names.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use tests::case::{Case, assert_passed, held_ports};
use tests::streams::Stream;
use tests::{Daemon, Mode, PATIENCE, Program, artifacts, natively, needs, run, skipped};

/// The class of an option in docs/options.md: whether it keeps a connection on TCP, and the error that refuses it
/// later.
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

/// What the victim reports about one option after trying it.
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

/// Waits until each of the streams is final, or one of its ends stays on TCP because of an option; the other end, which
/// may be reported separately, then stays because its peer declined.
fn settled(daemon: &Daemon, ports: &[u16]) -> Result<Vec<Stream>, String> {
    let start = Instant::now();
    loop {
        let all = daemon.streams();
        let over = |s: &Stream, port| s.client == port && (s.is_final() || s.stays_for(&[STAYS]));
        let missing: Vec<_> = ports.iter().filter(|port| !all.iter().any(|s| over(s, **port))).collect();
        if missing.is_empty() {
            return Ok(all);
        }
        if start.elapsed() > PATIENCE {
            let rows: Vec<_> = all.iter().filter(|s| missing.contains(&&s.client)).collect();
            return Err(format!("{} of {} streams neither move nor stay: {rows:?}", missing.len(), ports.len()));
        }
        std::thread::sleep(Duration::from_millis(15));
    }
}

/// Waits until the near end of each stream has promised. The far end makes no call, so the streams are not final; some
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
        if start.elapsed() > PATIENCE {
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

/// The lines that differ where docs/options.md does not name a difference: an option that docs/options.md says is
/// refused after the move is refused, and keeps its value.
fn differences(native: &[String], shim: &[String], late: bool, what: &str) -> BTreeSet<String> {
    let classes = documented();
    let first = native.iter().zip(shim).find(|(n, s)| option_of(n) != option_of(s));
    assert_eq!((native.len(), first), (shim.len(), None), "lines of {what}");
    let mut at_first = "";
    let mut wrong = BTreeSet::new();
    for (i, (n, s)) in native.iter().zip(shim).enumerate() {
        let class = option_of(n).and_then(|option| classes.get(&option)).copied().unwrap_or_default();
        if let Some((_, value)) = n.split_once("at first ") {
            at_first = value;
        }
        let refused = late && class.refused.is_some_and(|error| s.ends_with(&format!("= -1 {error}")));
        let kept = late && class.refused.is_some() && s.split_once("then ").is_some_and(|(_, v)| v == at_first);
        if n != s && !refused && !kept {
            wrong.insert(format!("line {i}: {s}"));
        }
    }
    wrong
}

fn set_everything(moment: &str, family: &str, flags: &[&str]) {
    let args: Vec<&str> = ["option-set"].iter().chain(flags).chain(&[moment, family]).copied().collect();
    set_options(&args, matches!(moment, "dual" | "after"));
}

/// One run of the victim with options set, after the promise if it is `late`. The output is the same as natively, and
/// exactly those streams stay on TCP whose option says so.
fn set_options(args: &[&str], late: bool) {
    let program = Program::new(artifacts::VICTIM, args);
    let native = run(&program, Mode::Native, |_| Ok(()));
    assert_passed(&native, &program, Mode::Native);
    let daemon = Daemon::eager();
    let mode = Mode::Shim(&daemon);
    let classes = documented();
    let mut options = Vec::new();
    let shim = run(&program, mode, |mark| {
        options.extend(tried(mark));
        if let Some(ports) = mark.strip_prefix("event dual ") {
            let ports: Vec<u16> = ports.split(' ').map(|port| port.parse().expect("a port")).collect();
            let near = if args.contains(&"--near-accepts") { "accepted" } else { "connected" };
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
    let what = program.by_hand(mode);
    let mut wrong = differences(&native.lines, &shim.lines, late, &what);
    // A result that the kernel gives in any of several native runs is right.
    for _ in 1..natively::RUNS {
        if wrong.is_empty() {
            break;
        }
        let native = run(&program, Mode::Native, |_| Ok(()));
        assert_passed(&native, &program, Mode::Native);
        let again = differences(&native.lines, &shim.lines, late, &what);
        wrong.retain(|line| again.contains(line));
    }
    let first: Vec<_> = wrong.iter().take(60).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{} lines are never so natively: {what}\n{}", wrong.len(), first.join("\n"));
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

/// Runs a case of the victim at each moment, and compares. `differences` are lines that may differ: the native line,
/// and the line once the connection has promised to move; empty if there is none then.
fn at_every_moment(case: &str, reasons: &[&str], differences: &[(&str, &str)]) {
    for moment in ["tracked", "dual", "after"] {
        let program = Program::new(artifacts::VICTIM, &[case, moment]);
        let mut native = run(&program, Mode::Native, |_| Ok(()));
        assert_passed(&native, &program, Mode::Native);
        let daemon = Daemon::eager();
        let mode = Mode::Shim(&daemon);
        let shim = run(&program, mode, |mark| {
            if let Some(ports) = mark.strip_prefix("event dual ") {
                let ports: Vec<u16> = ports.split(' ').map(|port| port.parse().expect("a port")).collect();
                return wait_dual(&daemon, &ports, "connected");
            }
            held_ports(mark).map_or(Ok(()), |ports| daemon.wait_final(&ports, reasons, PATIENCE))
        });
        assert_passed(&shim, &program, mode);
        let expect = |lines: &mut Vec<String>| {
            for line in lines.iter_mut().filter(|_| moment != "tracked") {
                if let Some((_, here)) = differences.iter().find(|(known, _)| known == line) {
                    *line = (*here).into();
                }
            }
            lines.retain(|line| !line.is_empty());
        };
        expect(&mut native.lines);
        tests::case::assert_same_but(&native, &shim, &program, mode, expect);
    }
}

#[test]
fn every_flag_of_send() {
    at_every_moment("send-flags", &[], &[]);
}

#[test]
fn every_flag_of_recv() {
    at_every_moment("recv-flags", &[], &[]);
}

#[test]
fn every_request_of_ioctl() {
    at_every_moment("ioctls", &[], &[]);
}

#[test]
fn options_that_are_left_set_or_inherited() {
    set_options(&["option-left"], false);
    set_options(&["option-left", "--near-accepts"], false);
}

const STAYING: &[&str] = &[STAYS];

#[test]
fn timestamps() {
    at_every_moment(
        "timestamps",
        STAYING,
        &[
            ("level 1 option 37: set to 24 = 0", "level 1 option 37: set to 24 = -1 EOPNOTSUPP"),
            ("control level 1 type 37 size 64", ""),
        ],
    );
}

#[test]
fn bytes_that_are_there_as_a_control_message() {
    at_every_moment("tcp-inq", STAYING, &[]);
}

#[test]
fn zero_copy_of_what_is_sent() {
    at_every_moment(
        "zerocopy",
        STAYING,
        &[
            ("level 1 option 60: set to 1 = 0", "level 1 option 60: set to 1 = -1 EOPNOTSUPP"),
            ("recvmsg = 0 flags 0x2000", "recvmsg = -1 EAGAIN flags 0"),
            ("control level 0 type 11 size 48", ""),
        ],
    );
}

#[test]
fn zero_copy_of_what_is_received() {
    let native = "TCP_ZEROCOPY_RECEIVE = 0: 100 bytes, first x; recv instead no";
    let here = "TCP_ZEROCOPY_RECEIVE = -1 ENOPROTOOPT: 0 bytes, first -; recv instead = 100";
    at_every_moment("zerocopy-receive", STAYING, &[(native, here)]);
}

#[test]
fn an_offset_to_peek_at() {
    at_every_moment("peek-offset", STAYING, &[]);
}

#[test]
fn urgent_data_in_line() {
    at_every_moment("oob-inline", &["urgent-data"], &[]);
}

#[test]
fn a_sending_buffer_that_the_program_chooses() {
    at_every_moment("send-buffer", &[], &[]);
}

#[test]
fn bytes_that_go_with_the_first_segment() {
    Case::new("fast-open").check();
}

/// In a network namespace of its own, where Fast Open is on for both ends: bytes go with the SYN.
#[test]
fn bytes_that_go_with_the_syn() {
    if !needs::network_namespaces() {
        return skipped("this takes the right to make network namespaces, unshare(1) and ip(8)");
    }
    // Bits: client, server, without cookies, on every listening socket (tcp_fastopen in ip-sysctl).
    let script = "ip link set lo up && echo 1543 >/proc/sys/net/ipv4/tcp_fastopen && exec \"$0\" fast-open";
    let program = Program::new(artifacts::installed("unshare"), &["-n", "sh", "-c", script, artifacts::VICTIM]);
    let native = run(&program, Mode::Native, |_| Ok(()));
    assert_passed(&native, &program, Mode::Native);
    let syn = native.lines.iter().filter(|line| *line == "data went with the SYN: 1").count();
    assert_eq!(syn, 6, "Fast Open is on: {:?}", native.lines);
    let daemon = Daemon::eager();
    let mode = Mode::Shim(&daemon);
    let shim =
        run(&program, mode, |mark| held_ports(mark).map_or(Ok(()), |ports| daemon.wait_final(&ports, &[], PATIENCE)));
    assert_passed(&shim, &program, mode);
    tests::case::assert_same(&native, &shim, &program, mode);
}
