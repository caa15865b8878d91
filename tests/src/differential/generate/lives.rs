//! Steps about descriptors, settings, signals, other programs and ipcd.

use super::{DUPLICATE, Draft, FILE, STREAMS};
use crate::differential::program::{End, Step};

impl Draft {
    pub(super) fn question(&mut self, end: End) {
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

    pub(super) fn setting(&mut self, end: End) {
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

    pub(super) fn shut(&mut self, end: End) {
        let (slot, _) = self.descriptor(end);
        self.call(end, format!("shutdown {slot} 1"));
    }

    /// Duplicates.
    pub(super) fn number(&mut self, end: End) {
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

    pub(super) fn close(&mut self, end: End) {
        let (slot, _) = self.descriptor(end);
        if self.rng.u8(0..3) == 0 {
            self.call(end, format!("set {slot} linger 0"));
        }
        self.call(end, format!("close {slot}"));
        self.open[end as usize].retain(|(s, _)| *s != slot);
    }

    /// A number is closed, and another file gets it.
    pub(super) fn reuse(&mut self, end: End) {
        if self.rng.u8(0..3) == 0 {
            return self.overlap(end);
        }
        if self.rng.bool() {
            self.send(end.peer());
        }
        self.close(end);
        let room = self.streams < STREAMS.len();
        match self.rng.u8(0..5) {
            0 => {
                let file = end.slot(FILE + self.rng.usize(0..2));
                self.call(end, format!("file {file}"));
            }
            1 => self.number(end),
            2..5 if room => self.open(),
            _ => {}
        }
        if let Some(instance) = self.instances[end as usize].first().copied() {
            if self.rng.bool() {
                let ((slot, _), events) = (self.descriptor(end), self.mask());
                self.call(end, format!("epctl {instance} add {slot} {events}"));
            }
            self.call(end, format!("epwait {instance} 0"));
        }
    }

    /// Every stream of an end signals its readiness.
    pub(super) fn ask_for_signals(&mut self) {
        let end = self.end_of();
        for (slot, _) in self.open[end as usize].clone() {
            let (signal, who) = (self.one_of(&[0, 10, 40]), self.owner());
            self.call(end, format!("setown {slot} {who}"));
            self.call(end, format!("setsig {slot} {signal}"));
            self.call(end, format!("async {slot} fcntl 1"));
        }
    }

    fn owner(&mut self) -> &'static str {
        self.one_of(&["process", "thread", "group", "exprocess", "exthread", "exgroup", "process", "none"])
    }

    pub(super) fn signal(&mut self, end: End) {
        let (slot, stream) = self.descriptor(end);
        match self.rng.u8(0..10) {
            0 => {
                let how = self.one_of(&["fcntl", "ioctl"]);
                let on = self.rng.u8(0..4).min(1);
                self.call(end, format!("async {slot} {how} {on}"));
            }
            1 => {
                let signal = self.one_of(&[0, 10, 40, 41]);
                self.call(end, format!("setsig {slot} {signal}"));
            }
            2 => {
                let who = self.owner();
                self.call(end, format!("setown {slot} {who}"));
            }
            3 => self.call(end, format!("getown {slot}")),
            4 => self.talk(stream),
            5 => self.call(end, "sigwait".into()),
            _ => {
                self.call(end, "signals".into());
                self.send(end.peer());
                self.call(end, "signals".into());
            }
        }
    }

    /// Another program holds a connection while its parent closes its own descriptor.
    pub(super) fn child(&mut self, end: End) {
        let (slot, stream) = self.descriptor(end);
        match self.rng.u8(0..8) {
            0..3 => {
                let how = self.one_of(&["spawn", "action", "fork", "vfork", "system", "popen"]);
                self.call(end, format!("child {how} {slot}"));
                if self.rng.bool() {
                    self.close(end);
                }
            }
            3 => self.call(end, "release".into()),
            4 => self.talk(stream),
            5 => self.close(end),
            _ => {
                let slot = end.peer().slot(stream);
                self.call(end.peer(), format!("poll 0 {slot} 8215"));
                self.call(end.peer(), format!("recv recv {slot} 3000 {}", libc::MSG_DONTWAIT));
            }
        }
    }

    /// ipcd stops, or goes on, or something happens that ipcd would be told.
    pub(super) fn ipcd(&mut self) {
        let (stream, end) = (self.stream(), self.end_of());
        match self.rng.u8(0..6) {
            0..2 => self.program.steps.push(Step::Stop),
            2 => self.program.steps.push(Step::Resume),
            3 => self.talk(stream),
            4 if self.streams < STREAMS.len() => self.open(),
            _ => {
                self.close(end);
                let slot = end.peer().slot(stream);
                self.call(end.peer(), format!("poll 0 {slot} 8215"));
            }
        }
    }
}
