//! How well N bytes tell connections of one program apart: real clients, and a server that keeps what they send.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::Result;
use serde::Serialize;

use crate::artifacts;
use crate::process::die_with_us;

/// How many bytes of each connection are kept.
const KEPT: usize = 1024;
const CLIENTS: usize = 50;
/// The answer to each request: redis's for a key that does not exist.
const ANSWER: &[u8] = b"$-1\r\n";
/// `*2 $3 GET $16 key:000000000042` with its line ends.
const GET_BYTES: usize = 36;

/// The connections of one client program.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// A description of the clients.
    pub clients: String,
    /// Connections that sent at least 1024 bytes.
    pub connections: usize,
    /// How many different prefixes they had, for each N that was asked for.
    pub distinct: Vec<usize>,
}

/// redis-benchmark with the same key in all requests, and with random keys.
pub fn measure(lengths: &[u32]) -> Result<Vec<Row>> {
    let cases = [("redis-benchmark, one key", ["-r", "1"]), ("redis-benchmark, random keys", ["-r", "1000000"])];
    cases.iter().map(|(name, keys)| one(name, keys, lengths)).collect()
}

fn one(name: &str, keys: &[&str], lengths: &[u32]) -> Result<Row> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port().to_string();
    let (keep, kept) = channel();
    std::thread::spawn(move || serve(&listener, &keep));
    let mut benchmark = Command::new(artifacts::installed("redis-benchmark")?);
    die_with_us(&mut benchmark);
    benchmark.args(["-p", &port, "-c", &CLIENTS.to_string(), "-n", "20000", "-t", "get", "-q"]).args(keys);
    let mut running = benchmark.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let prefixes = collect(&kept);
    running.kill()?;
    running.wait()?;
    let distinct = |n: &u32| {
        let length = (*n as usize).min(KEPT);
        prefixes.iter().map(|p| &p[..length]).collect::<HashSet<_>>().len()
    };
    Ok(Row { clients: name.into(), connections: prefixes.len(), distinct: lengths.iter().map(distinct).collect() })
}

/// The bytes of all connections, until every client has sent enough, or none sends any more.
fn collect(kept: &Receiver<Vec<u8>>) -> Vec<Vec<u8>> {
    let patience = std::time::Duration::from_secs(5);
    std::iter::from_fn(|| kept.recv_timeout(patience).ok()).take(CLIENTS).collect()
}

fn serve(listener: &TcpListener, keep: &Sender<Vec<u8>>) {
    for stream in listener.incoming().flatten() {
        let keep = keep.clone();
        std::thread::spawn(move || record(stream, &keep));
    }
}

/// Answers requests, and keeps the first bytes. An error ends the connection, and its bytes are not counted.
fn record(mut stream: TcpStream, keep: &Sender<Vec<u8>>) {
    let mut said = Vec::with_capacity(KEPT + GET_BYTES);
    let mut request = [0; 65_536];
    while let Ok(n @ 1..) = stream.read(&mut request) {
        let before = said.len();
        said.extend_from_slice(&request[..n]);
        if before < KEPT && said.len() >= KEPT {
            let _ = keep.send(said[..KEPT].to_vec());
        }
        if stream.write_all(ANSWER).is_err() {
            return;
        }
    }
}
