//! Steps that move bytes.

use super::{Draft, RECEIVING, SENDING, UNREAD, WRITES};
use crate::differential::program::{End, Step};

impl Draft {
    pub(super) fn send(&mut self, end: End) {
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

    pub(super) fn receive(&mut self, end: End) {
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
            // If the first of two messages is not taken, the result of the second is not determined.
            flags &= !(libc::MSG_PEEK | libc::MSG_TRUNC);
        }
        // Not less than 2: the result of a message without room for bytes is compared elsewhere.
        let bytes = if self.rng.u8(0..5) == 0 { 30_000 } else { self.length().max(2) };
        self.call(end, format!("recv {how} {slot} {bytes} {flags}"));
    }

    /// One end shuts its reading half. From then on its reads do not block, so only bytes sent before a read are sure
    /// to be read.
    pub(super) fn deaf(&mut self) {
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

    /// A direction is filled, polled, emptied.
    pub(super) fn full(&mut self, end: End) {
        let (slot, stream) = self.descriptor(end);
        self.call(end, format!("fill {slot} 16384"));
        self.call(end, format!("poll 0 {slot} 4"));
        let thread = 1;
        self.program.steps.push(Step::Take { end: end.peer(), thread, stream });
        self.unread[end as usize][stream] = (0, 0);
        self.call(end, format!("poll 0 {slot} 4"));
    }

    /// Sends more than fits: the call waits for the reader.
    pub(super) fn bulk(&mut self, end: End) {
        let (_, stream) = self.descriptor(end);
        let bytes = self.rng.usize(100_000..900_000);
        let how = self.one_of(&["send", "write", "writev", "sendto", "sendmsg", "sendfile", "splice"]).to_owned();
        let thread = self.rng.usize(0..self.program.threads.max(1)) + 1;
        self.program.steps.push(Step::Bulk { end, thread, how, stream, bytes });
    }

    /// A call that ends by its timeout, if nothing else ends it.
    pub(super) fn timed(&mut self, end: End) {
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

    /// Combined flags, control messages, times: features of reading calls that few programs use.
    pub(super) fn special(&mut self, end: End) {
        let (slot, stream) = self.descriptor(end);
        match self.rng.u8(0..12) {
            0 => {
                let on = self.rng.u8(0..3).min(1);
                return self.call(end, format!("set {slot} inq {on}"));
            }
            1 => {
                let option = self.one_of(&["inq", "priority", "tos", "usertimeout", "keepidle", "keepalive"]);
                let value = self.rng.u8(0..8);
                self.call(end, format!("set {slot} {option} {value}"));
                return self.call(end, format!("get {slot} {option}"));
            }
            2 => return self.talk(stream),
            3..6 => return self.send(end.peer()),
            _ => {}
        }
        let bytes = self.length().max(2);
        let nowait = self.one_of(&[0, libc::MSG_DONTWAIT]);
        if self.rng.u8(0..4) == 0 {
            let (flags, ms) = (self.one_of(&[0, libc::MSG_WAITALL]), self.one_of(&[0, 20, 5000, -1]));
            return self.call(end, format!("recv recvmmsg {slot} {bytes} {} {ms}", flags | nowait));
        }
        let how = self.one_of(&["recv", "recvfrom", "recvmsg", "recvinq", "recvinq"]);
        let (peek, all, trunc) = (libc::MSG_PEEK, libc::MSG_WAITALL, libc::MSG_TRUNC);
        let flags =
            self.one_of(&[0, peek, peek | all, peek | all, trunc, peek | trunc, trunc | all, peek | trunc | all]);
        self.call(end, format!("recv {how} {slot} {bytes} {}", flags | nowait));
    }
}
