//! Two processes and one stream between them: `programs/peers.c`.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::artifacts;
use crate::lab::Lab;
use crate::process::Process;
use crate::record::Metric;
use crate::runner::{Alternative, Load, Sample, Scope, median_of};
use crate::skip::skip;
use crate::way::{Side, Way};

/// The traffic on the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One message there and back.
    PingPong,
    /// Many messages there, many back.
    Messages,
    /// As much as possible in one direction.
    Bulk,
    /// In both.
    Duplex,
}

/// Where the two processes run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// On CPU 0 and CPU 1.
    Apart,
    /// Both on CPU 0.
    Together,
    /// Where the scheduler puts them.
    Free,
}

impl Place {
    /// All placements.
    pub const ALL: [Place; 3] = [Place::Apart, Place::Together, Place::Free];

    /// Its value as a label.
    pub fn name(self) -> &'static str {
        match self {
            Place::Apart => "apart",
            Place::Together => "together",
            Place::Free => "free",
        }
    }

    fn cpu(self, side: Side) -> Result<Option<&'static str>> {
        let cpus = std::thread::available_parallelism()?.get();
        Ok(match (self, side) {
            (Place::Free, _) => None,
            (Place::Apart, _) if cpus < 2 => return Err(skip("there is only one CPU")),
            (Place::Apart, Side::Server) => Some("1"),
            _ => Some("0"),
        })
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The traffic on the stream.
    pub kind: Kind,
    /// Bytes of a write.
    pub size: usize,
    /// Length of the measurement.
    pub millis: u64,
    /// Where the processes run.
    pub place: Place,
    /// Poll again and again instead of sleeping.
    pub busy: bool,
    /// Messages under way.
    pub window: u32,
    /// Whether the stream has settled before the measurement begins.
    pub settled: bool,
    /// Whether the two processes are in two network namespaces.
    pub across: bool,
}

impl Spec {
    /// A measurement that is blocking, settled, on one host.
    pub fn new(kind: Kind, size: usize, place: Place, scope: Scope) -> Spec {
        let millis = scope.of(80, 60, 20);
        Spec { kind, size, millis, place, busy: false, window: 1, settled: true, across: false }
    }

    /// Beside busy neighbours a turn lasts longer, because the scheduler's time slices are long.
    pub fn beside(self, load: Load) -> Spec {
        if load == Load::Busy { Spec { millis: 2 * self.millis, ..self } } else { self }
    }

    /// The metric of its samples.
    pub fn metric(&self) -> Metric {
        match self.kind {
            Kind::PingPong => Metric::lower("round trip", "µs"),
            Kind::Messages => Metric::higher("messages per second", "/s"),
            Kind::Bulk | Kind::Duplex => Metric::higher("throughput", "MB/s"),
        }
    }

    /// The alternatives for these ways, each with its name.
    pub fn alternatives<'a>(&self, lab: &'a Lab, ways: &[Way]) -> Vec<Alternative<'a>> {
        let spec = *self;
        ways.iter().map(|way| (*way, spec)).map(|(way, spec)| spec.alternative(lab, way, way.name())).collect()
    }

    /// The alternative for one way, with a given name.
    pub fn alternative<'a>(&self, lab: &'a Lab, way: Way, name: &str) -> Alternative<'a> {
        let spec = *self;
        Alternative::new(name, move || spec.turn(lab, way))
    }

    /// Starts both processes, and has them measure.
    pub fn turn(&self, lab: &Lab, way: Way) -> Result<Sample> {
        let transport = transport(way);
        let address = match (transport, self.across) {
            ("tcp", across) => lab.host(across).to_owned(),
            _ => lab.path().to_string_lossy().into_owned(),
        };
        let redirected = if way == Way::Sockmap { lab.sockmap()?.redirected()? } else { 0 };
        let mut serve = self.command(lab, way, Side::Server, &address)?;
        let mut server = Process::start(&mut serve).context("the server")?;
        let port = server.line()?;
        let address = if transport == "tcp" { format!("{address}:{port}") } else { address };
        let mut talk = self.command(lab, way, Side::Client, &address)?;
        let mut client = Process::start(&mut talk).context("the client")?;
        if self.holds(way) {
            settle(lab, way, client.number()?)?;
            client.go()?;
        }
        let sample = self.sample(&mut server, &mut client)?;
        client.finish().context("the client")?;
        server.finish().context("the server")?;
        if way == Way::Sockmap {
            ensure!(lab.sockmap()?.redirected()? > redirected, "sockmap redirected nothing");
        }
        Ok(sample)
    }

    /// Whether small messages are exchanged until the harness has seen that the stream is final or stays.
    fn holds(&self, way: Way) -> bool {
        self.settled && matches!(way, Way::Shim | Way::ShimClient | Way::ShimServer)
    }

    fn command(&self, lab: &Lab, way: Way, side: Side, address: &str) -> Result<Command> {
        let role = if side == Side::Server { "serve" } else { "talk" };
        let kind = match self.kind {
            Kind::PingPong => "pingpong",
            Kind::Messages => "messages",
            Kind::Bulk => "bulk",
            Kind::Duplex => "duplex",
        };
        let mut command = lab.command(artifacts::PEERS, way, side)?;
        command.args([role, transport(way), address, kind, &self.size.to_string(), &self.millis.to_string()]);
        command.args(["-w", &self.window.to_string()]);
        if let Some(cpu) = self.place.cpu(side)? {
            command.args(["-c", cpu]);
        }
        if self.busy {
            command.arg("-n");
        }
        if self.holds(way) {
            command.arg("-h");
        }
        if way == Way::UnixSized {
            let [send, receive] = lab.buffers(buffers_of_a_final_stream)?;
            command.args(["-s", &send.to_string(), "-r", &receive.to_string()]);
        }
        lab.place(&mut command, self.across, side)?;
        Ok(command)
    }

    fn sample(&self, server: &mut Process, client: &mut Process) -> Result<Sample> {
        let megabytes = |rate: f64| Sample::from(rate / 1e6);
        Ok(match self.kind {
            Kind::PingPong => {
                let times = client.words()?;
                Sample { value: median_of(&times) / 1000.0, times, p99_us: None }
            }
            Kind::Messages => client.number::<f64>()?.into(),
            Kind::Bulk => megabytes(server.number()?),
            Kind::Duplex => megabytes(server.number::<f64>()? + client.number::<f64>()?),
        })
    }
}

fn transport(way: Way) -> &'static str {
    match way {
        Way::Unix | Way::UnixSized => "unix",
        Way::Pipe => "pipe",
        Way::Shm => "shm",
        _ => "tcp",
    }
}

/// Waits until the stream from this port is in its last state.
fn settle(lab: &Lab, way: Way, port: u16) -> Result<()> {
    lab.daemon().wait_for(port, if way.moves() { "final" } else { "stay" })
}

/// The sending and the receiving buffer size of a stream that has moved.
fn buffers_of_a_final_stream(lab: &Lab) -> Result<[u32; 2]> {
    let mut serve = lab.command(artifacts::PEERS, Way::Shim, Side::Server)?;
    let mut server = Process::start(serve.args(["serve", "tcp", "127.0.0.1", "pingpong", "64", "1", "-h"]))?;
    let address = format!("127.0.0.1:{}", server.line()?);
    let mut talk = lab.command(artifacts::PEERS, Way::Shim, Side::Client)?;
    let mut client = Process::start(talk.args(["talk", "tcp", &address, "buffers", "64", "1", "-h"]))?;
    lab.daemon().wait_for(client.number()?, "final")?;
    client.go()?;
    Ok([client.number()?, client.number()?])
}
