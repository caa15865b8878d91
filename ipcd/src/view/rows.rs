//! A stream as `ipcd ls` shows it. The field names are stable: programs read them.

use matcher::wire::{Direction, Role};
use serde::{Deserialize, Serialize};

use crate::broker::endpoint::{Endpoint, State};

/// One stream, or one endpoint whose peer is not known.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Row {
    /// Address of the end that connected, as it sees itself.
    pub client: String,
    /// Address of the end that accepted, as it sees itself (or as the other one sees it, while that one is alone).
    pub server: String,
    /// opened, waiting, granted, dual, final, stay or closed: how far the slower end came.
    pub state: String,
    /// Why it stays on TCP, if it does.
    pub reason: Option<String>,
    /// Whether both ends are known.
    pub paired: bool,
    /// Bytes that the client sent over TCP before this direction switched.
    pub client_to_server_switched_at: Option<u64>,
    /// Bytes that the server sent over TCP before this direction switched.
    pub server_to_client_switched_at: Option<u64>,
    /// From the call of connect until both ends were final, in microseconds.
    pub connect_to_final_us: Option<f64>,
    /// Seconds since connect or accept was called.
    pub age_s: f64,
    /// Whether nobody has it any more.
    pub ended: bool,
    /// One or two ends, the one that connected first.
    pub ends: Vec<End>,
}

/// One end of a stream.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct End {
    /// connected or accepted.
    pub role: String,
    /// The program's name.
    pub program: String,
    /// Its process.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// The socket's cookie (`ss -e` shows it as `sk`, in hexadecimal).
    pub cookie: u64,
    /// The network namespace's cookie, 0 if the kernel was not asked yet or does not tell.
    pub netns: u64,
    /// How far this end came.
    pub state: String,
    /// Why this end stays on TCP, if it does.
    pub reason: Option<String>,
    /// Bytes it sent over TCP before its direction switched.
    pub sent_switched_at: Option<u64>,
    /// Bytes it read from TCP before the other direction switched.
    pub received_switched_at: Option<u64>,
    /// Whether nobody has this end any more.
    pub ended: bool,
}

impl End {
    fn new(cookie: u64, e: &Endpoint) -> End {
        End {
            role: if e.role == Role::Connected { "connected" } else { "accepted" }.into(),
            program: e.owner.program.clone(),
            pid: e.owner.pid,
            uid: e.owner.uid,
            cookie,
            netns: e.netns,
            state: e.state.word().into(),
            reason: e.reason.map(|r| r.word().into()),
            sent_switched_at: e.offsets[Direction::Sent as usize],
            received_switched_at: e.offsets[Direction::Received as usize],
            ended: e.ended.is_some(),
        }
    }
}

impl Row {
    /// The row of an endpoint and of its peer, if that is known.
    pub fn new(first: (u64, &Endpoint), second: Option<(u64, &Endpoint)>, now: u64) -> Row {
        let mut ends: Vec<(u64, &Endpoint)> = [Some(first), second].into_iter().flatten().collect();
        ends.sort_by_key(|(_, e)| e.role);
        // Each end's own word for itself: behind a translation the other one sees something else.
        let address = |role: Role| {
            let own = ends.iter().find(|(_, e)| e.role == role).map(|(_, e)| e.tuple.local);
            own.unwrap_or(first.1.tuple.peer).to_string()
        };
        let (client, server) = (address(Role::Connected), address(Role::Accepted));
        let offset = |sender: Role| {
            let direction = |e: &Endpoint| if e.role == sender { Direction::Sent } else { Direction::Received };
            ends.iter().find_map(|(_, e)| e.offsets[direction(e) as usize])
        };
        let began = ends.first().map_or(now, |(_, e)| e.began);
        let finished = ends.iter().map(|(_, e)| e.finished).min().flatten();
        let finished = finished.and_then(|_| ends.iter().filter_map(|(_, e)| e.finished).max());
        let stays = ends.iter().any(|(_, e)| e.state == State::Stay);
        let slowest = ends.iter().map(|(_, e)| e.state).min().unwrap_or(State::Opened);
        let ended = ends.iter().all(|(_, e)| e.ended.is_some());
        let state = if stays { State::Stay } else { slowest };
        Row {
            client,
            server,
            // What it was when it ended still says more than that it ended, for a stream that moved or could not.
            state: if ended && state < State::Final { "closed" } else { state.word() }.into(),
            reason: ends.iter().find_map(|(_, e)| e.reason).map(|r| r.word().into()),
            paired: ends.len() == 2,
            client_to_server_switched_at: offset(Role::Connected),
            server_to_client_switched_at: offset(Role::Accepted),
            connect_to_final_us: finished.filter(|_| ends.len() == 2).map(|f| f.saturating_sub(began) as f64 / 1e3),
            age_s: now.saturating_sub(began) as f64 / 1e9,
            ended,
            ends: ends.into_iter().map(|(cookie, e)| End::new(cookie, e)).collect(),
        }
    }
}
