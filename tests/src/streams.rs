//! The output of `ipcd ls --all --json`, parsed in one place.

use serde_json::Value;

/// A stream as the daemon reports it, or an endpoint that found no peer.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The port of the end that connected.
    pub client: u16,
    /// The port of the end that accepted.
    pub server: u16,
    /// The state of the end that is less far.
    pub state: String,
    /// Whether both ends are known.
    pub paired: bool,
    /// Whether no process has it any more.
    pub ended: bool,
    /// The reasons for which its ends stay on TCP.
    pub reasons: Vec<String>,
}

impl Stream {
    /// Whether both ends left TCP in both directions.
    pub fn is_final(&self) -> bool {
        self.paired && self.state == "final"
    }

    /// Whether it stays on TCP for one of these reasons.
    pub fn stays_for(&self, reasons: &[&str]) -> bool {
        self.reasons.iter().any(|r| reasons.contains(&r.as_str()))
    }
}

fn read_one(row: &Value) -> Option<Stream> {
    let port = |side: &str| row.get(side)?.as_str()?.rsplit(':').next()?.parse().ok();
    let ends = row.get("ends")?.as_array()?;
    Some(Stream {
        client: port("client")?,
        server: port("server")?,
        state: row.get("state")?.as_str()?.to_owned(),
        paired: row.get("paired")?.as_bool()?,
        ended: row.get("ended")?.as_bool()?,
        reasons: ends.iter().filter_map(|end| Some(end.get("reason")?.as_str()?.to_owned())).collect(),
    })
}

/// Every stream of the answer. Panics if it is not what `ipcd ls` documents.
pub fn read(answer: &Value) -> Vec<Stream> {
    let rows = answer.as_array().unwrap_or_else(|| panic!("`ipcd ls` did not print an array: {answer}"));
    rows.iter().map(|row| read_one(row).unwrap_or_else(|| panic!("`ipcd ls` printed {row}"))).collect()
}

/// The stream of this client port: the live one, else the one that ended last.
pub fn at(streams: &[Stream], client: u16) -> Option<&Stream> {
    let mut all = streams.iter().filter(|s| s.client == client);
    let last = all.clone().next_back();
    all.find(|s| !s.ended).or(last)
}
