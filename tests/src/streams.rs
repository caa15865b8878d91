//! What `ipcd ls --all --json` says, read in one place.

use serde_json::Value;

/// A stream as the daemon reports it, or an endpoint that found no peer.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The ports of both ends.
    pub ports: Vec<u16>,
    /// The state of each end that is known.
    pub states: Vec<String>,
    /// Why an end stays on TCP.
    pub reasons: Vec<String>,
}

impl Stream {
    /// Whether both ends left TCP in both directions.
    pub fn is_final(&self) -> bool {
        self.states.len() == 2 && self.states.iter().all(|s| s == "final")
    }
}

fn port(address: &Value) -> Option<u16> {
    address.as_str()?.rsplit(':').next()?.parse().ok()
}

/// The streams in the order in which they were opened.
pub fn read(answer: &Value) -> Vec<Stream> {
    let list = answer.get("streams").unwrap_or(answer);
    let empty = Vec::new();
    let mut streams = Vec::new();
    for entry in list.as_array().unwrap_or(&empty) {
        let mut stream = Stream { ports: Vec::new(), states: Vec::new(), reasons: Vec::new() };
        let ends = entry.get("ends").and_then(Value::as_array).unwrap_or(&empty);
        for end in ends {
            stream.ports.extend(["local", "peer"].iter().filter_map(|side| port(end.get(*side)?)));
            stream.states.extend(end.get("state").and_then(Value::as_str).map(str::to_owned));
            stream.reasons.extend(end.get("reason").and_then(Value::as_str).map(str::to_owned));
        }
        streams.push(stream);
    }
    streams
}
