//! Programs from a seed. What they do is plausible, not careful: what TCP refuses must be refused alike.

use fastrand::Rng;

use super::program::{End, Program, Step};

/// Bytes that may lie unread in a direction, so that neither kind of socket is full: what it means to be full is not
/// compared but where a program means to fill it.
const UNREAD: u64 = 40_000;
/// Calls that sent them.
const WRITES: u32 = 24;
/// Names of descriptors at each end: streams from 0, duplicates from 4, epoll instances from 8.
const DUPLICATE: usize = 4;
const EPOLL: usize = 8;

const SENDING: &[&str] = &["send", "write", "writev", "sendto", "sendmsg", "sendmmsg", "sendfile", "splice"];
const RECEIVING: &[&str] = &["recv", "read", "readv", "recvfrom", "recvmsg", "recvmmsg", "splice"];

/// What a generator knows of the program so far.
struct Draft {
    rng: Rng,
    program: Program,
    streams: usize,
    /// Bytes and writes that may be unread, by the end that sent them and the stream.
    unread: [[(u64, u32); 4]; 2],
    /// Which epoll instances were made.
    instances: [Vec<usize>; 2],
    /// Which descriptors are streams or duplicates, with the stream.
    open: [Vec<(usize, usize)>; 2],
    /// How often readiness is looked at, in tenths.
    looks: usize,
}

/// The program of a seed.
pub fn generate(seed: u64) -> Program {
    let mut rng = Rng::with_seed(seed);
    let one_process = rng.u8(0..8) == 0;
    let threads = if one_process { rng.usize(1..3) } else { rng.usize(0..4) };
    let program = Program { threads, one_process, v6: rng.u8(0..8) == 0, steps: Vec::new() };
    let looks = [0, 2, 6][rng.usize(0..3)];
    let mut draft = Draft {
        rng,
        program,
        streams: 0,
        unread: Default::default(),
        instances: Default::default(),
        open: Default::default(),
        looks,
    };
    draft.begin();
    let steps = 3 + draft.rng.usize(0..28);
    for _ in 0..steps {
        draft.step();
    }
    if draft.rng.u8(0..4) == 0 {
        draft.deaf();
    }
    draft.end();
    draft.program
}

impl Draft {
    fn end_of(&mut self) -> End {
        End::BOTH[self.rng.usize(0..2)]
    }

    fn call(&mut self, end: End, call: String) {
        let thread = if self.program.threads == 0 { 0 } else { 1 + self.rng.usize(0..self.program.threads) };
        self.program.steps.push(Step::Call { end, thread, call });
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.rng.usize(0..all.len())]
    }

    /// Streams are opened, and are cold, or have talked, or are final.
    fn begin(&mut self) {
        for _ in 0..if self.rng.u8(0..5) == 0 { 2 } else { 1 } {
            self.open();
        }
    }

    fn open(&mut self) {
        let (stream, by) = (self.streams, self.end_of());
        self.streams += 1;
        self.program.steps.push(Step::Open { stream, by });
        for end in End::BOTH {
            self.open[end as usize].push((end.slot(stream), stream));
        }
        match self.rng.u8(0..10) {
            0..3 => self.program.steps.push(Step::Warm(stream)),
            3..6 => {
                for end in End::BOTH {
                    let bytes = self.rng.usize(1..20);
                    self.call(end, format!("send send {} {bytes} 0", end.slot(stream)));
                    self.call(end.peer(), format!("take {} {bytes}", end.peer().slot(stream)));
                }
                if self.rng.bool() {
                    self.program.steps.push(Step::Settle(stream));
                }
            }
            _ => {}
        }
    }

    /// In the end both sides read what is left.
    fn end(&mut self) {
        for stream in 0..self.streams {
            for end in End::BOTH {
                let slot = end.slot(stream);
                self.call(end, format!("poll 0 {slot} 8215"));
                self.call(end, format!("drain {slot}"));
            }
        }
    }

    /// One end shuts its reading half. It does not block from then on, so that only what is sent before it reads is sure.
    fn deaf(&mut self) {
        let end = self.end_of();
        let (slot, stream) = (end.slot(0), 0);
        let how = self.rng.u8(0..2) * 2;
        self.program.steps.push(Step::Take { end, thread: 1, stream });
        self.call(end, format!("shutdown {slot} {how}"));
        for _ in 0..4 {
            let bytes = self.rng.u64(2..3000);
            let (send, recv) = (self.one_of(SENDING), self.one_of(RECEIVING));
            self.call(end.peer(), format!("send {send} {} {bytes} {}", end.peer().slot(stream), libc::MSG_DONTWAIT));
            self.call(end, format!("poll 0 {slot} 8199"));
            self.call(end, format!("recv {recv} {slot} {bytes} {}", libc::MSG_DONTWAIT));
        }
    }

    fn step(&mut self) {
        let end = self.end_of();
        if self.rng.usize(0..10) < self.looks {
            return self.look(end);
        }
        match self.rng.u8(0..100) {
            0..26 => self.send(end),
            26..50 => self.receive(end),
            50..58 => self.look(end),
            58..66 => self.wait(end),
            66..70 => self.question(end),
            70..78 => self.setting(end),
            78..81 => self.shut(end),
            81..85 => self.number(end),
            85..87 => self.full(end),
            87..89 => self.bulk(end),
            89..91 => self.timed(end),
            91..93 => self.close(end),
            93..95 if self.streams < 4 => self.open(),
            _ => {
                let stream = self.rng.usize(0..self.streams);
                self.program.steps.push(Step::Settle(stream));
            }
        }
    }

    fn descriptor(&mut self, end: End) -> (usize, usize) {
        let open = self.open[end as usize].clone();
        if open.is_empty() { (end.slot(0), 0) } else { self.one_of(&open) }
    }

    fn length(&mut self) -> u64 {
        match self.rng.u8(0..10) {
            0..6 => self.rng.u64(1..40),
            6..9 => self.rng.u64(1..3000),
            _ => self.rng.u64(1..20_000),
        }
    }

    fn send(&mut self, end: End) {
        let (slot, stream) = self.descriptor(end);
        let bytes = self.length();
        let (unread, writes) = &mut self.unread[end as usize][stream];
        *unread += bytes;
        *writes += 1;
        if *unread > UNREAD || *writes > WRITES {
            (*unread, *writes) = (bytes, 1);
            let thread = self.rng.usize(0..self.program.threads.max(1)) + 1;
            self.program.steps.push(Step::Take { end: end.peer(), thread, stream });
        }
        let how = self.one_of(SENDING);
        let flags = self.one_of(&[0, 0, libc::MSG_DONTWAIT, libc::MSG_NOSIGNAL]);
        self.call(end, format!("send {how} {slot} {bytes} {flags}"));
    }

    fn receive(&mut self, end: End) {
        let (slot, stream) = self.descriptor(end);
        if self.rng.u8(0..6) == 0 {
            let thread = self.rng.usize(0..self.program.threads.max(1)) + 1;
            self.program.steps.push(Step::Take { end, thread, stream });
            self.unread[end.peer() as usize][stream] = (0, 0);
            return;
        }
        let how = self.one_of(RECEIVING);
        let mut flags = self.one_of(&[0, 0, libc::MSG_DONTWAIT, libc::MSG_WAITALL, libc::MSG_PEEK, libc::MSG_TRUNC]);
        if self.rng.bool() {
            flags |= libc::MSG_DONTWAIT;
        }
        if how == "recvmmsg" {
            // What the second message of two is, if the first is not taken, says nothing.
            flags &= !(libc::MSG_PEEK | libc::MSG_TRUNC);
        }
        // Not less than 2: what a message without room means is a matter of its own.
        let bytes = if self.rng.u8(0..5) == 0 { 30_000 } else { self.length().max(2) };
        self.call(end, format!("recv {how} {slot} {bytes} {flags}"));
    }

    /// Readiness, without waiting.
    fn look(&mut self, end: End) {
        let (slot, _) = self.descriptor(end);
        let instances = self.instances[end as usize].clone();
        match self.rng.u8(0..10) {
            0..3 if !instances.is_empty() => {
                let instance = self.one_of(&instances);
                self.call(end, format!("epwait {instance} 0"));
            }
            0..4 => self.call(end, format!("select 0 {slot} 7")),
            4..6 => self.call(end, format!("inq {slot}")),
            _ => {
                let events = self.one_of(&[0x1, 0x4, 0x5, 0x2001, 0x2007, 0x2000, 0x0]);
                let (second, _) = self.descriptor(end);
                self.call(end, format!("poll 0 {slot} {events} {second} 1"));
            }
        }
    }

    /// A wait that may block.
    fn wait(&mut self, end: End) {
        let (slot, _) = self.descriptor(end);
        let timeout = self.one_of(&[-1, -1, 0]);
        let instances = self.instances[end as usize].clone();
        match self.rng.u8(0..8) {
            0..4 if !instances.is_empty() => {
                let instance = self.one_of(&instances);
                self.call(end, format!("epwait {instance} {timeout}"));
            }
            0..5 if instances.len() < 2 => self.register(end),
            5 => self.call(end, format!("select {timeout} {slot} 1")),
            _ => {
                let events = self.one_of(&[0x1, 0x2001, 0x2000, 0x4, 0x5]);
                self.call(end, format!("poll {timeout} {slot} {events}"));
            }
        }
    }

    fn register(&mut self, end: End) {
        let instance = end.slot(EPOLL + self.instances[end as usize].len());
        self.instances[end as usize].push(instance);
        self.call(end, format!("epoll {instance}"));
        let (slot, _) = self.descriptor(end);
        let events = self.mask();
        self.call(end, format!("epctl {instance} add {slot} {events}"));
    }

    /// Events of epoll: reading, writing, both; level-triggered, edge-triggered, one-shot.
    fn mask(&mut self) -> u32 {
        let events = self.one_of(&[0x1, 0x1, 0x5, 0x4, 0x2001, 0x2005, 0x2000]);
        events | self.one_of(&[0, 0, 1 << 31, 1 << 30])
    }

    fn question(&mut self, end: End) {
        let (slot, _) = self.descriptor(end);
        match self.rng.u8(0..4) {
            0 => self.call(end, format!("names {slot}")),
            1 => self.call(end, format!("flags {slot}")),
            _ => {
                let option =
                    self.one_of(&["nodelay", "error", "type", "domain", "protocol", "linger", "rcvtimeo", "reuse"]);
                self.call(end, format!("get {slot} {option}"));
            }
        }
    }

    fn setting(&mut self, end: End) {
        let (slot, _) = self.descriptor(end);
        let instances = self.instances[end as usize].clone();
        match self.rng.u8(0..8) {
            0..2 => {
                let on = self.rng.u8(0..2);
                self.call(end, format!("nonblock {slot} {on}"));
            }
            2..6 => match instances.is_empty() {
                true => self.register(end),
                false => {
                    let (instance, events) = (self.one_of(&instances), self.mask());
                    let op = self.one_of(&["add", "mod", "mod", "del"]);
                    self.call(end, format!("epctl {instance} {op} {slot} {events}"));
                }
            },
            6 => self.call(end, format!("set {slot} keepalive 1")),
            _ => self.call(end, format!("set {slot} oobinline 1")),
        }
    }

    fn shut(&mut self, end: End) {
        let (slot, _) = self.descriptor(end);
        self.call(end, format!("shutdown {slot} 1"));
    }

    /// Duplicates.
    fn number(&mut self, end: End) {
        let (slot, stream) = self.descriptor(end);
        let other = end.slot(DUPLICATE + self.rng.usize(0..3));
        let (dup2, cloexec) = (self.rng.bool(), self.rng.u8(0..2));
        if self.open[end as usize].iter().any(|(s, _)| *s == other) {
            if dup2 {
                self.call(end, format!("dup2 {slot} {other}"));
                self.open[end as usize].retain(|(s, _)| *s != other);
                self.open[end as usize].push((other, stream));
            }
            return;
        }
        self.call(end, format!("dup {slot} {other} {cloexec}"));
        self.open[end as usize].push((other, stream));
    }

    /// A direction is filled, looked at, emptied.
    fn full(&mut self, end: End) {
        let (slot, stream) = self.descriptor(end);
        self.call(end, format!("fill {slot} 16384"));
        self.call(end, format!("poll 0 {slot} 4"));
        let thread = 1;
        self.program.steps.push(Step::Take { end: end.peer(), thread, stream });
        self.unread[end as usize][stream] = (0, 0);
        self.call(end, format!("poll 0 {slot} 4"));
    }

    /// More than fits: the call waits for the reader.
    fn bulk(&mut self, end: End) {
        let (_, stream) = self.descriptor(end);
        let bytes = self.rng.usize(100_000..900_000);
        let how = self.one_of(&["send", "write", "writev", "sendto", "sendmsg", "sendfile", "splice"]).to_owned();
        let thread = self.rng.usize(0..self.program.threads.max(1)) + 1;
        self.program.steps.push(Step::Bulk { end, thread, how, stream, bytes });
    }

    /// A call that its timeout ends, if nothing else does.
    fn timed(&mut self, end: End) {
        let (slot, _) = self.descriptor(end);
        let instances = self.instances[end as usize].clone();
        match self.rng.u8(0..5) {
            0 if !instances.is_empty() => {
                let instance = self.one_of(&instances);
                self.call(end, format!("!epwait {instance} 15"));
            }
            0..2 => self.call(end, format!("!poll 15 {slot} 8193")),
            2 => self.call(end, format!("!select 15 {slot} 1")),
            _ => {
                let (bytes, flags) = (self.length().max(2), self.one_of(&[0, libc::MSG_WAITALL, libc::MSG_PEEK]));
                let how = self.one_of(&["recv", "read", "recvmsg", "splice"]);
                self.call(end, format!("set {slot} rcvtimeo 15"));
                self.call(end, format!("!recv {how} {slot} {bytes} {flags}"));
                self.call(end, format!("set {slot} rcvtimeo 0"));
            }
        }
    }

    fn close(&mut self, end: End) {
        let (slot, _) = self.descriptor(end);
        if self.rng.u8(0..3) == 0 {
            self.call(end, format!("set {slot} linger 0"));
        }
        self.call(end, format!("close {slot}"));
        self.open[end as usize].retain(|(s, _)| *s != slot);
    }
}
