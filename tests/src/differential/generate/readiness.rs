//! Steps that ask or wait for readiness.

use super::{Draft, EPOLL, Theme};
use crate::differential::program::End;

/// Events of poll and epoll, and modes of epoll.
const IN: u32 = 1;
const EDGE: u32 = 1 << 31;
const ONCE: u32 = 1 << 30;

impl Draft {
    /// Readiness, without waiting.
    pub(super) fn look(&mut self, end: End) {
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
    pub(super) fn wait(&mut self, end: End) {
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

    pub(super) fn register(&mut self, end: End) {
        let instance = end.slot(EPOLL + self.instances[end as usize].len());
        self.instances[end as usize].push(instance);
        self.call(end, format!("epoll {instance}"));
        let (slot, _) = self.descriptor(end);
        let events = self.mask();
        self.call(end, format!("epctl {instance} add {slot} {events}"));
    }

    /// Events of epoll: reading, writing, both; level-triggered, edge-triggered, one-shot.
    pub(super) fn mask(&mut self) -> u32 {
        let events = self.one_of(&[0x1, 0x1, 0x5, 0x4, 0x2001, 0x2005, 0x2000]);
        events | self.one_of(&[0, 0, EDGE, ONCE])
    }

    fn instance(&mut self, end: End) -> usize {
        let instance = end.slot(EPOLL + self.instances[end as usize].len());
        self.instances[end as usize].push(instance);
        self.call(end, format!("epoll {instance}"));
        instance
    }

    /// Most streams are in one instance, some in another, too.
    pub(super) fn register_many(&mut self) {
        for end in End::BOTH {
            if end == End::B && self.rng.bool() {
                continue;
            }
            let first = self.instance(end);
            let second = if self.rng.u8(0..3) == 0 { Some(self.instance(end)) } else { None };
            for (slot, _) in self.open[end as usize].clone() {
                for instance in [Some(first), second.filter(|_| self.rng.bool())].into_iter().flatten() {
                    let events = self.mostly_reading();
                    let call = self.maybe_raw("epctl");
                    self.call(end, format!("{call} {instance} add {slot} {events}"));
                }
            }
        }
    }

    /// Mostly level-triggered, for reading.
    fn mostly_reading(&mut self) -> u32 {
        if self.rng.u8(0..4) > 0 { self.one_of(&[IN, IN, 0x2001, 0x5]) } else { self.mask() }
    }

    /// A call through the C library, or in some programs past it.
    fn maybe_raw(&mut self, call: &str) -> String {
        if self.theme == Theme::Raw && self.rng.bool() { format!("raw{call}") } else { call.to_owned() }
    }

    /// Some streams have bytes, in this order, when the program polls.
    pub(super) fn overlap(&mut self, end: End) {
        let instances = self.instances[end as usize].clone();
        match self.rng.u8(0..8) {
            0 => {
                let stream = self.stream();
                return self.talk(stream);
            }
            1 if instances.is_empty() => return self.register(end),
            1 => {
                let ((slot, _), instance, events) =
                    (self.descriptor(end), self.one_of(&instances), self.mostly_reading());
                let (op, call) = (self.one_of(&["add", "mod", "del", "mod"]), self.maybe_raw("epctl"));
                return self.call(end, format!("{call} {instance} {op} {slot} {events}"));
            }
            _ => {}
        }
        for _ in 0..self.rng.u8(1..4) {
            self.send(end.peer());
        }
        let timeout = self.one_of(&[0, 0, -1]);
        if instances.is_empty() || self.rng.u8(0..4) == 0 {
            let ((one, _), (other, _), call) = (self.descriptor(end), self.descriptor(end), self.maybe_raw("poll"));
            return self.call(end, format!("{call} {timeout} {one} 1 {other} 8193"));
        }
        let (instance, call) = (self.one_of(&instances), self.maybe_raw("epwait"));
        let most = self.one_of(&["", "", " 1", " 2"]);
        self.call(end, format!("{call} {instance} {timeout}{most}"));
        if self.rng.bool() {
            self.receive(end);
        }
    }
}
