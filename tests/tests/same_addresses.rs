//! Two networks with the same addresses, the same ports and the same bytes: only the kernel can tell the four endpoints
//! apart, in any order and at any time. Every pair that is made must be right.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tests::containers::{TALK, wait_until};
use tests::daemon::PrivateDir;
use tests::{artifacts, needs, skipped};

const CLIENT: &str = "10.77.0.1";
const SERVER: &str = "10.77.0.2";

/// The number of runs: some hundred, or some thousand with IPC_LONG.
fn runs(short: u32) -> u32 {
    if std::env::var_os("IPC_LONG").is_some() { short * 25 } else { short }
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    /// A pause; most of the time none at all.
    fn pause(&mut self) {
        let ms = [0, 0, 0, 0, 0, 1, 3, 7][self.roll(8) as usize];
        std::thread::sleep(Duration::from_millis(ms));
    }
}

/// An ipcd for this test.
struct Ipcd {
    dir: PrivateDir,
    child: Child,
}

impl Ipcd {
    fn start(options: &[&str]) -> Ipcd {
        let dir = PrivateDir::new();
        let socket = dir.path().join("ipcd.sock");
        let mut command = Command::new(artifacts::ipcd());
        let child =
            command.args(["serve", "--patience", "0", "--socket"]).arg(&socket).args(options).spawn().expect("ipcd");
        let ipcd = Ipcd { dir, child };
        wait_until("ipcd answers", || ipcd.ask(&["stats"]).is_some());
        ipcd
    }

    fn ask(&self, args: &[&str]) -> Option<String> {
        let mut command = Command::new(artifacts::ipcd());
        let output = command.args(args).arg("--socket").arg(self.dir.path().join("ipcd.sock")).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Ipcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process in a network namespace of its own that executes commands.
struct Worker {
    child: Child,
    say: ChildStdin,
    hear: BufReader<ChildStdout>,
}

impl Worker {
    fn start(ipcd: Option<&Ipcd>) -> Worker {
        let mut command = Command::new("unshare");
        command.args(["--net", "perl", "-e", TALK, "obey"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(ipcd) = ipcd {
            command.env("LD_PRELOAD", artifacts::libipc()).env("IPCD_SOCKET", ipcd.dir.path().join("ipcd.sock"));
        }
        let mut child = command.spawn().expect("unshare");
        let (say, hear) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Worker { child, say, hear: BufReader::new(hear) }
    }

    fn tell(&mut self, line: &str) -> String {
        writeln!(self.say, "{line}").expect("a worker that listens");
        let mut answer = String::new();
        self.hear.read_line(&mut answer).expect("an answer");
        assert!(!answer.is_empty() && !answer.starts_with("error"), "{line}: {answer}");
        answer.trim_end().to_owned()
    }

    fn ip(&self, arguments: &str) {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.child.id().to_string(), "-n", "ip"]).args(arguments.split(' '));
        assert!(command.status().expect("nsenter").success(), "ip {arguments}");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client and a server, alone on a network with the usual addresses.
struct Network {
    client: Worker,
    server: Worker,
    letter: char,
}

impl Network {
    fn new(letter: char, client: Option<&Ipcd>, server: Option<&Ipcd>) -> Network {
        let (client, mut server) = (Worker::start(client), Worker::start(server));
        // Only now each process is surely in its own namespace.
        for worker in [&client, &server] {
            let own = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
            wait_until("a namespace", || own(&worker.child.id().to_string()) != own("self"));
        }
        client.ip(&format!("link add v type veth peer name v netns {}", server.child.id()));
        for (worker, address) in [(&client, CLIENT), (&server, SERVER)] {
            worker.ip(&format!("addr add {address}/24 dev v"));
            worker.ip("link set v up");
        }
        server.tell(&format!("listen {SERVER} 7000"));
        Network { client, server, letter }
    }

    /// Sends bytes from one end to the other, and checks that they arrive unchanged.
    fn pass(&mut self, up: bool, text: &str, dice: &mut Dice) {
        let (from, to) = if up { (&mut self.client, &mut self.server) } else { (&mut self.server, &mut self.client) };
        from.tell(&format!("put {text}"));
        dice.pause();
        assert_eq!(to.tell(&format!("get {}", text.len())), text, "network {}", self.letter);
    }

    /// One stream, whose bytes are the same as those of the other network's stream until near its end.
    fn run(&mut self, port: u32, same: u64, mut dice: Dice) {
        std::thread::sleep(Duration::from_millis([0, 0, 0, 2, 5, 60][dice.roll(6) as usize]));
        self.client.tell(&format!("connect {CLIENT} {port} {SERVER} 7000"));
        dice.pause();
        self.server.tell("accept");
        for i in 0..same {
            // Sixteen bytes, so that N is reached in the third message.
            self.pass(true, &format!("question-{i:07}"), &mut dice);
            self.pass(false, &format!("answer---{i:07}"), &mut dice);
        }
        for i in 0..4 {
            let text = format!("{}{i}", self.letter).repeat(20);
            self.pass(true, &text, &mut dice);
            self.pass(false, &text, &mut dice);
        }
        self.client.tell("close");
        self.server.tell("close");
    }
}

/// The number of ipcd's decisions of each kind; `wrong` counts pairs between the two networks.
fn count(ipcd: &Ipcd, into: &mut BTreeMap<String, BTreeMap<u64, u64>>) {
    let rows: Value = serde_json::from_str(&ipcd.ask(&["ls", "--all", "--json"]).expect("ipcd")).expect("JSON");
    for row in rows.as_array().expect("rows") {
        let ends = row["ends"].as_array().expect("ends");
        for end in ends {
            let number = |name: &str| end[name].as_u64().expect("a number");
            let word = match ends.len() {
                2 => "paired",
                _ => end["reason"].as_str().unwrap_or("none"),
            };
            into.entry(word.into()).or_default().insert(number("cookie"), number("netns"));
        }
    }
}

fn namespaces_can_be_made() -> bool {
    let can = needs::network_namespaces();
    if !can {
        skipped("this takes the right to make network namespaces, unshare(1) and ip(8)");
    }
    can
}

/// The pace of the two networks.
#[derive(Clone, Copy)]
enum Pace {
    /// Each network has pauses of its own.
    Own,
    /// Both have the same pauses, as far as the machine permits.
    Alike,
}

/// Runs both networks side by side again and again.
fn play(seed: u64, pace: Pace, count_of_runs: u32, networks: &mut [Network; 2], mut after: impl FnMut()) {
    for run in 0..count_of_runs {
        let port = 20_000 + run % 40_000;
        let mut dice = Dice(seed + u64::from(run));
        let same = 3 + dice.roll(12);
        let both = dice.roll(u64::MAX >> 33);
        std::thread::scope(|scope| {
            for network in networks.iter_mut() {
                let dice = match pace {
                    Pace::Own => Dice(dice.roll(u64::MAX >> 33)),
                    Pace::Alike => Dice(both),
                };
                scope.spawn(move || network.run(port, same, dice));
            }
        });
        // ipcd remembers the last 1024 streams.
        if run % 100 == 99 || run + 1 == count_of_runs {
            after();
        }
    }
}

/// Checks that every pair is of one network: the pairs join the namespaces as the networks do.
fn assert_pairs_are_right(ipcd: &Ipcd, joined: &mut BTreeMap<(u64, u64), u32>) {
    let rows: Value = serde_json::from_str(&ipcd.ask(&["ls", "--all", "--json"]).expect("ipcd")).expect("JSON");
    for row in rows.as_array().expect("rows") {
        if let [c, s] = row["ends"].as_array().expect("ends").as_slice() {
            let netns = |end: &Value| end["netns"].as_u64().expect("a number");
            *joined.entry((netns(c), netns(s))).or_default() += 1;
        }
    }
    let apart = |(a, b): (&(u64, u64), &(u64, u64))| a == b || (a.0 != b.0 && a.1 != b.1);
    let right = joined.keys().all(|a| joined.keys().all(|b| apart((a, b))));
    assert!(right && joined.len() <= 2, "namespaces were joined across networks: {joined:?}");
}

#[test]
fn with_all_four_under_the_shim() {
    if !namespaces_can_be_made() {
        return;
    }
    let ipcd = Ipcd::start(&[]);
    let mut networks = ['A', 'B'].map(|letter| Network::new(letter, Some(&ipcd), Some(&ipcd)));
    let (mut seen, mut joined) = (BTreeMap::new(), BTreeMap::new());
    for pace in [Pace::Own, Pace::Alike] {
        play(1, pace, runs(100), &mut networks, || {
            count(&ipcd, &mut seen);
            assert_pairs_are_right(&ipcd, &mut joined);
        });
    }
    let of = |word: &str| seen.get(word).map_or(0, BTreeMap::len);
    println!("{} endpoints paired, {} ambiguous", of("paired"), of("ambiguous"));
    assert!(of("ambiguous") > 20, "{seen:?}");
}

#[test]
fn with_proof_all_four_find_their_own() {
    if !namespaces_can_be_made() {
        return;
    }
    if let Some(why) = needs::no_proof(&artifacts::ipcd()) {
        return skipped(&why);
    }
    let ipcd = Ipcd::start(&["--proof"]);
    let mut networks = ['A', 'B'].map(|letter| Network::new(letter, Some(&ipcd), Some(&ipcd)));
    let (mut seen, mut joined) = (BTreeMap::new(), BTreeMap::new());
    for pace in [Pace::Own, Pace::Alike] {
        play(2, pace, runs(30), &mut networks, || {
            count(&ipcd, &mut seen);
            assert_pairs_are_right(&ipcd, &mut joined);
        });
    }
    // When the machine is busy, a stream can end before it is decided.
    assert!(!seen.contains_key("ambiguous") && seen["paired"].len() > 20 && joined.len() == 2, "{seen:?}");
}

/// Only one end of each stream takes part: the client of one network and the server of the other.
#[test]
fn with_proof_half_a_deployment_is_never_paired() {
    if !namespaces_can_be_made() {
        return;
    }
    if let Some(why) = needs::no_proof(&artifacts::ipcd()) {
        return skipped(&why);
    }
    let ipcd = Ipcd::start(&["--proof", "--wait-peer", "0.05"]);
    let mut networks = [Network::new('A', Some(&ipcd), None), Network::new('B', None, Some(&ipcd))];
    let mut seen = BTreeMap::new();
    for pace in [Pace::Own, Pace::Alike] {
        play(3, pace, runs(30), &mut networks, || count(&ipcd, &mut seen));
    }
    assert!(!seen.contains_key("paired") && !seen.is_empty(), "{seen:?}");
}

/// Without proof the two ends can be taken for one stream: the test counts how often that succeeds when it is forced on
/// purpose, and checks that a policy forbids it.
#[test]
fn with_a_policy_half_a_deployment_is_never_paired() {
    if !namespaces_can_be_made() {
        return;
    }
    for (seed, pace, name) in [(4, Pace::Own, "paces of their own"), (5, Pace::Alike, "one pace")] {
        let ipcd = Ipcd::start(&["--deny", "namespaces=different", "--wait-peer", "0.05"]);
        let mut networks = [Network::new('A', Some(&ipcd), None), Network::new('B', None, Some(&ipcd))];
        let mut seen = BTreeMap::new();
        play(seed, pace, runs(30), &mut networks, || count(&ipcd, &mut seen));
        let mistaken = seen.get("policy").map_or(0, BTreeMap::len) / 2;
        println!("{name}: the policy has kept {mistaken} wrong pairs of {} from moving", runs(30));
        assert!(!seen.contains_key("paired") && !seen.is_empty(), "{seen:?}");
    }
}
