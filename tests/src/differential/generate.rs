//! Programs from a seed. Their calls are plausible, not careful: the shim must refuse what TCP refuses, in the same
//! way.

mod bytes;
mod lives;
mod readiness;

use fastrand::Rng;

use super::program::{End, Program, Step};

/// Bytes that may lie unread in a direction, so that neither kind of socket is full: how full sockets behave is
/// compared only where a program fills one on purpose.
const UNREAD: u64 = 40_000;
/// The number of calls that may have sent them.
const WRITES: u32 = 24;
/// Names of descriptors at each end: streams from 0, duplicates from 4, epoll instances from 8, other files from 10,
/// more streams from 12.
const DUPLICATE: usize = 4;
const EPOLL: usize = 8;
const FILE: usize = 10;
const STREAMS: [usize; 8] = [0, 1, 2, 3, 12, 13, 14, 15];

const SENDING: &[&str] = &["send", "write", "writev", "sendto", "sendmsg", "sendmmsg", "sendfile", "splice"];
const RECEIVING: &[&str] = &["recv", "read", "readv", "recvfrom", "recvmsg", "recvmmsg", "splice"];

/// The kind of step that a program has more of than others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Theme {
    /// Nothing.
    Plain,
    /// Several streams in one epoll instance, or in two.
    Many,
    /// Numbers that are closed and handed out anew.
    Reuse,
    /// Waits that are made past the C library (raw system calls).
    Raw,
    /// Signals of readiness.
    Signals,
    /// Programs that inherit descriptors.
    Children,
    /// An ipcd that is stopped.
    Stopped,
    /// Flags of reading calls, control messages, options.
    Flags,
}

/// The generator's account of the program so far.
struct Draft {
    rng: Rng,
    program: Program,
    theme: Theme,
    /// How many streams were opened.
    streams: usize,
    /// Bytes and writes that may be unread, by the end that sent them and the stream.
    unread: [[(u64, u32); 16]; 2],
    /// Which epoll instances were made.
    instances: [Vec<usize>; 2],
    /// Which descriptors are streams or duplicates, with the stream.
    open: [Vec<(usize, usize)>; 2],
    /// How often the program polls, in tenths.
    looks: usize,
}

/// The program for a seed.
pub fn generate(seed: u64) -> Program {
    let mut rng = Rng::with_seed(seed);
    let theme = match rng.u8(0..12) {
        0..3 => Theme::Many,
        3..5 => Theme::Reuse,
        5 => Theme::Raw,
        6 => Theme::Signals,
        7 => Theme::Children,
        8 => Theme::Stopped,
        9 => Theme::Flags,
        _ => Theme::Plain,
    };
    let one_process = rng.u8(0..8) == 0;
    let threads = if one_process { rng.usize(1..3) } else { rng.usize(0..4) };
    let (v6, unseen) = (rng.u8(0..8) == 0, rng.u8(0..4) < if theme == Theme::Raw { 3 } else { 1 });
    let program = Program { threads, one_process, v6, unseen, steps: Vec::new() };
    let looks = [0, 2, 6][rng.usize(0..3)];
    let mut draft = Draft {
        rng,
        program,
        theme,
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

    /// Opens streams, which are then cold, or have talked, or are final.
    fn begin(&mut self) {
        let more = match self.theme {
            Theme::Many => self.rng.usize(1..4),
            _ => usize::from(self.rng.u8(0..5) == 0),
        };
        (0..=more).for_each(|_| self.open());
        match self.theme {
            Theme::Many | Theme::Reuse | Theme::Raw => self.register_many(),
            Theme::Signals => self.ask_for_signals(),
            _ => {}
        }
    }

    /// The name of a stream that was opened.
    fn stream(&mut self) -> usize {
        STREAMS[self.rng.usize(0..self.streams)]
    }

    fn open(&mut self) {
        let (stream, by) = (STREAMS[self.streams], self.end_of());
        self.streams += 1;
        self.program.steps.push(Step::Open { stream, by });
        for end in End::BOTH {
            self.open[end as usize].push((end.slot(stream), stream));
        }
        match self.rng.u8(0..10) {
            0..3 => self.program.steps.push(Step::Warm(stream)),
            3..6 => self.talk(stream),
            _ => {}
        }
    }

    /// Both ends send something, which makes the stream known to ipcd, or brings it a step further.
    fn talk(&mut self, stream: usize) {
        for end in End::BOTH {
            let bytes = self.rng.usize(1..20);
            let send = format!("send send {} {bytes} 0", end.slot(stream));
            let take = format!("take {} {bytes}", end.peer().slot(stream));
            // The reader waits for the bytes, or finds them all there.
            match self.rng.bool() {
                true => [(end.peer(), take), (end, send)],
                false => [(end, send), (end.peer(), take)],
            }
            .into_iter()
            .for_each(|(end, call)| self.call(end, call));
        }
        if self.rng.bool() {
            self.program.steps.push(Step::Settle(stream));
        }
    }

    /// At the end nothing blocks the last bytes of either end, and both sides read everything that is left.
    fn end(&mut self) {
        match self.theme {
            Theme::Stopped => self.program.steps.push(Step::Resume),
            Theme::Children => End::BOTH.iter().for_each(|end| self.call(*end, "release".into())),
            _ => {}
        }
        for stream in STREAMS.iter().take(self.streams) {
            for end in End::BOTH {
                let slot = end.slot(*stream);
                self.call(end, format!("poll 0 {slot} 8215"));
                self.call(end, format!("drain {slot}"));
            }
        }
    }

    fn step(&mut self) {
        let end = self.end_of();
        if self.rng.usize(0..10) < self.looks {
            return self.look(end);
        }
        if self.theme != Theme::Plain && self.rng.u8(0..5) < 2 {
            return self.themed(end);
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
            93..95 if self.streams < STREAMS.len() / 2 => self.open(),
            _ => {
                let stream = self.stream();
                self.program.steps.push(Step::Settle(stream));
            }
        }
    }

    /// The kind of step that the program has most of.
    fn themed(&mut self, end: End) {
        match self.theme {
            Theme::Plain => {}
            Theme::Many | Theme::Raw => self.overlap(end),
            Theme::Reuse => self.reuse(end),
            Theme::Signals => self.signal(end),
            Theme::Children => self.child(end),
            Theme::Stopped => self.ipcd(),
            Theme::Flags => self.special(end),
        }
    }

    /// A descriptor of a stream, and the stream.
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
}
