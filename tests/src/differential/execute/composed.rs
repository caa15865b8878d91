//! The steps that consist of several calls, or of none.

use std::time::{Duration, Instant};

use super::{Machine, PATIENCE};
use crate::differential::program::End;
use crate::differential::result::{BLOCKED, LATE, compared, told};
use crate::{Mode, streams};

/// How long a `settle` step waits for ipcd.
const SETTLING: Duration = Duration::from_millis(40);

impl Machine<'_> {
    pub(super) fn open(&mut self, stream: usize, by: End) -> Option<String> {
        let family = if self.program.v6 { 6 } else { 4 };
        let (own, peer) = (by.slot(stream), by.peer().slot(stream));
        let listening = self.helper(by.peer(), &format!("listen - {stream} {family}"))?;
        let port = told(&listening, 0)?;
        let connected = self.helper(by, &format!("connect {own} {stream} {family} {port}"))?;
        self.streams.extend([(own, stream), (peer, stream)]);
        self.ports.insert(stream, (told(&connected, 0)? as u16, port as u16));
        self.helper(by.peer(), &format!("accept {peer} {stream}"))?;
        if !self.program.unseen {
            for end in End::BOTH {
                self.helper(end, &format!("poll 0 {} 1", end.slot(stream)))?;
            }
        }
        Some("opened".into())
    }

    /// The stream as ipcd reports it; `None` natively, and if ipcd does not answer.
    pub(super) fn stream(&self, stream: usize) -> Option<streams::Stream> {
        let daemon = self.mode.daemon().filter(|_| !self.stopped)?;
        streams::at(&daemon.streams(), self.ports.get(&stream)?.0).cloned()
    }

    /// Whether a stream may be between the transports: neither on TCP for ever nor final.
    pub(super) fn is_any_between(&self) -> bool {
        let between = |stream: &usize| self.stream(*stream).is_none_or(|s| s.state == "granted" || s.state == "dual");
        self.mode.daemon().is_some() && self.ports.keys().any(between)
    }

    pub(super) fn warm(&mut self, stream: usize) -> Option<String> {
        for round in 0..200 {
            for end in End::BOTH {
                if !self.pass(end, stream, 16)? {
                    return Some("cold".into());
                }
            }
            let settled = match self.mode.daemon().filter(|_| !self.stopped) {
                Some(_) if round % 4 == 3 => self.stream(stream).is_some_and(|s| s.is_final() || s.state == "stay"),
                Some(_) => false,
                None => round == 3,
            };
            if settled {
                return Some("warm".into());
            }
        }
        Some("never warm".into())
    }

    /// Sends bytes to the other end, which waits for them in a reading call. False if they are not sent, or do not
    /// arrive.
    fn pass(&mut self, end: End, stream: usize, bytes: usize) -> Option<bool> {
        let (from, to) = (end.slot(stream), end.peer().slot(stream));
        let (thread, take) = (self.idle(end.peer())?, format!("take {to} {bytes}"));
        if self.meets(end.peer(), &take) {
            return None;
        }
        let early = self.call(end.peer(), thread, &take, None);
        let sent = self.helper(end, &format!("send send {from} {bytes} 0"));
        let taken = if early == BLOCKED { self.progress(end.peer(), thread, Some(PATIENCE)) } else { early };
        if taken == BLOCKED {
            self.busy.insert((end.peer(), thread), take);
        }
        Some(sent? == format!("= {bytes}") && compared(&taken) == "all")
    }

    pub(super) fn settle(&mut self, stream: usize) -> String {
        let start = Instant::now();
        while self.mode.daemon().is_some() && !self.stopped && start.elapsed() < SETTLING {
            let state = self.stream(stream).map(|s| s.state).unwrap_or_default();
            if ["granted", "dual", "final", "stay", "closed"].contains(&state.as_str()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        String::new()
    }

    pub(super) fn bulk(&mut self, end: End, how: &str, stream: usize, bytes: usize) -> Option<String> {
        let (own, peer) = (end.slot(stream), end.peer().slot(stream));
        let (send, take) = (format!("sendall {how} {own} {bytes} 0"), format!("take {peer} {bytes}"));
        let thread = self.idle(end)?;
        self.idle(end.peer())?;
        if self.meets(end, &send) || self.meets(end.peer(), &take) {
            return None;
        }
        // One thread cannot do both.
        if self.program.one_process && self.number(end, 1) == self.number(end.peer(), 1) {
            return None;
        }
        let unread = self.unread(end, stream);
        self.process(end).begin(thread, &send);
        self.busy.insert((end, thread), send.clone());
        let taken = self.helper(end.peer(), &take).map_or(BLOCKED.into(), |r| compared(&r).to_owned());
        self.busy.remove(&(end, thread));
        let (mut sent, mut late) = (self.progress(end, thread, Some(PATIENCE)), "");
        if let (Mode::Shim(_), BLOCKED, Some(rest @ 1..), "all") = (self.mode, sent.as_str(), unread, taken.as_str()) {
            // The new socket's writer waits until three quarters of its buffer are free, and the last piece may be
            // more.
            self.helper(end.peer(), &format!("take {peer} {rest}"));
            (sent, late) = (self.progress(end, thread, Some(PATIENCE)), LATE);
        }
        if sent == BLOCKED {
            self.busy.insert((end, thread), send);
        }
        Some(format!("{late}{} and {taken}", compared(&sent)))
    }

    /// How many bytes an end has sent that its peer has not read.
    fn unread(&mut self, end: End, stream: usize) -> Option<u64> {
        let (own, peer) = (end.slot(stream), end.peer().slot(stream));
        let sent = told(&self.helper(end, &format!("count {own}"))?, 0)?;
        let taken = told(&self.helper(end.peer(), &format!("count {peer}"))?, 1)?;
        Some(sent.saturating_sub(taken))
    }

    pub(super) fn take(&mut self, end: End, stream: usize) -> Option<String> {
        let own = end.slot(stream);
        let missing = self.unread(end.peer(), stream)?;
        if self.meets(end, &format!("take {own} {missing}")) {
            return None;
        }
        let result = self.helper(end, &format!("take {own} {missing}"))?;
        Some(compared(&result).to_owned())
    }

    pub(super) fn stop(&mut self) -> String {
        if let Some(daemon) = self.mode.daemon().filter(|_| !self.stopped) {
            daemon.signal(libc::SIGSTOP);
            let stopped = |stat: String| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T"));
            let path = format!("/proc/{}/stat", daemon.pid());
            while !std::fs::read_to_string(&path).is_ok_and(stopped) {
                std::thread::sleep(Duration::from_millis(1));
            }
            self.stopped = true;
        }
        String::new()
    }

    pub(super) fn resume(&mut self) -> String {
        if let Some(daemon) = self.mode.daemon().filter(|_| self.stopped) {
            daemon.signal(libc::SIGCONT);
            self.stopped = false;
        }
        String::new()
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        self.resume();
    }
}
