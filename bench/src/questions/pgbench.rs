//! pgbench and PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Question;
use crate::lab::Lab;
use crate::pool::Pool;
use crate::process::{Server, output};
use crate::record::Metric;
use crate::runner::{Alternative, Load, Recorder, Sample};
use crate::servers::{free_port, give, run_as, serve_until, user};
use crate::skip::skip;
use crate::way::{Side, Way};

/// The question.
pub const QUESTION: Question =
    Question { name: "pgbench", title: "pgbench, 8 clients", seconds: 90, quick: 0, daemon: &["--everybody"], run };

const WAYS: [Way; 3] = [Way::Tcp, Way::Shim, Way::Unix];

/// Whether the server has the shim, and whether it is in a namespace of its own.
type Place = (bool, bool);

struct Postgres {
    _server: Server,
    port: u16,
    sockets: PathBuf,
}

/// The directory of the newest version's programs, as Debian places them.
fn programs() -> Result<PathBuf> {
    let dirs = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = dirs.map(|d| d.path().join("bin")).filter(|d| d.join("initdb").exists()).collect();
    versions.sort();
    versions.pop().ok_or_else(|| skip("postgresql is not installed (`.ci/packages bench` installs it for root)"))
}

/// A database with pgbench's tables, stopped; each server starts with a copy.
fn template(lab: &Lab) -> Result<PathBuf> {
    let dir = lab.path();
    std::fs::create_dir(&dir)?;
    give(&dir, user("postgres")?)?;
    let mut initdb = Command::new(programs()?.join("initdb"));
    run_as(&mut initdb, user("postgres")?);
    output(initdb.args(["-A", "trust", "-U", "postgres", "--no-sync", "-D"]).arg(&dir))?;
    let server = start_in(lab, &dir, (false, false))?;
    let mut fill = Command::new(programs()?.join("pgbench"));
    fill.args(["-i", "-q", "-s", "2", "-U", "postgres", "-h"]).arg(&server.sockets);
    output(fill.args(["-p", &server.port.to_string(), "postgres"]))?;
    Ok(dir)
}

fn start(lab: &Lab, template: &Path, place: Place) -> Result<Postgres> {
    let dir = lab.path();
    output(Command::new("cp").arg("-a").arg(template).arg(&dir))?;
    start_in(lab, &dir, place)
}

fn start_in(lab: &Lab, dir: &Path, (shim, across): Place) -> Result<Postgres> {
    let (port, sockets) = (free_port()?, lab.path());
    std::fs::create_dir(&sockets)?;
    give(&sockets, user("postgres")?)?;
    let way = if shim { Way::Shim } else { Way::Tcp };
    let mut command = lab.command(programs()?.join("postgres"), way, Side::Server)?;
    lab.place(&mut command, across, Side::Server)?;
    if across {
        let hba = dir.join("pg_hba.conf");
        std::fs::write(&hba, format!("{}\nhost all all all trust\n", std::fs::read_to_string(&hba)?))?;
    }
    run_as(&mut command, user("postgres")?);
    command.arg("-D").arg(dir).arg("-k").arg(&sockets).args(["-h", lab.host(across), "-p", &port.to_string()]);
    // The disk is not measured.
    command.args(["-c", "fsync=off", "-c", "autovacuum=off", "-c", "logging_collector=off"]);
    command.stderr(std::process::Stdio::null());
    // The server listens before it answers; it writes this when it answers.
    let is_ready = || {
        let said = std::fs::read_to_string(dir.join("postmaster.pid")).unwrap_or_default();
        said.lines().last().is_some_and(|l| l.trim() == "ready")
    };
    let server = serve_until(&mut command, "PostgreSQL", is_ready)?;
    Ok(Postgres { _server: server.ends_with(libc::SIGINT), port, sockets })
}

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    let template = template(lab)?;
    let servers = Pool::new(|place| start(lab, &template, place));
    let cases = [
        ("SELECT only", "select-only", false, Load::Idle),
        ("TPC-B", "tpcb-like", false, Load::Idle),
        ("SELECT only", "select-only", true, Load::Idle),
        ("TPC-B", "tpcb-like", true, Load::Idle),
        ("SELECT only", "select-only", false, Load::Busy),
    ];
    out.note("fsync is off: the disk is not in question.");
    for (name, script, across, load) in cases.into_iter().take(lab.scope.of(5, 1, 1)) {
        let ways = if across { &WAYS[..2] } else { &WAYS[..] };
        let place = if across { "two namespaces" } else { "one host" };
        let servers = &servers;
        let alternatives =
            ways.iter().map(|way| Alternative::new(way.name(), move || turn(lab, servers, *way, across, script)));
        let metric = Metric::higher("transactions per second", "/s");
        let labels = [("on", place), ("beside", load.name()), ("transaction", name)];
        out.case(load, &labels, metric, alternatives.collect());
    }
    Ok(())
}

fn turn(lab: &Lab, servers: &Pool<Place, Postgres>, way: Way, across: bool, script: &str) -> Result<Sample> {
    let server = servers.get((way == Way::Shim, across))?;
    let mut command = lab.command(programs()?.join("pgbench"), way, Side::Client)?;
    lab.place(&mut command, across, Side::Client)?;
    match way {
        Way::Unix => command.arg("-h").arg(&server.sockets),
        _ => command.args(["-h", lab.host(across)]),
    };
    command.args(["-p", &server.port.to_string(), "-U", "postgres", "-n", "-b", script, "-c", "8"]);
    command.args(lab.scope.of(["-T", "1"], ["-T", "1"], ["-t", "20"]));
    let said = output(command.arg("postgres"))?;
    let tps = said.lines().find_map(|l| l.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
    Ok(tps.with_context(|| format!("pgbench printed {said:?}"))?.into())
}
