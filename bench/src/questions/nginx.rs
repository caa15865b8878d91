//! nginx and wrk.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Question;
use crate::artifacts;
use crate::lab::Lab;
use crate::pool::Pool;
use crate::process::{Server, output};
use crate::record::Metric;
use crate::runner::{Alternative, Load, Recorder, Sample};
use crate::servers::{free_port, serve};
use crate::way::{Side, Way};

/// The question.
pub const QUESTION: Question = Question {
    name: "nginx",
    title: "nginx and wrk: files, 32 connections that are kept alive",
    seconds: 44,
    quick: 0,
    daemon: &[],
    run,
};

const WAYS: [Way; 4] = [Way::Tcp, Way::Shim, Way::ShimServer, Way::Sockmap];

/// An nginx.
pub struct Nginx {
    _server: Server,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl Nginx {
    /// Starts one with a single worker and these lines in its `http` and `server` blocks.
    pub fn start(lab: &Lab, way: Way, http: &str, server: &str) -> Result<Nginx> {
        let (port, dir) = (free_port()?, lab.path());
        fs::create_dir(&dir)?;
        let scratch = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let scratch: String = scratch.iter().map(|s| format!("{s}_temp_path {}/{s};\n", dir.display())).collect();
        let user = if crate::process::is_root() { "user www-data;\n" } else { "" };
        let config = format!(
            "daemon off;\n{user}worker_processes 1;\npid {0}/pid;\nerror_log {0}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\naccess_log off;\nsendfile on;\ntcp_nopush on;\nkeepalive_requests 100000000;\n{scratch}{http}\n\
             server {{\nlisten 127.0.0.1:{port} backlog=4096;\nroot {1};\n{server}\n}}\n}}\n",
            dir.display(),
            lab.dir().display()
        );
        let path = dir.join("nginx.conf");
        fs::write(&path, config)?;
        let mut command = lab.command(artifacts::installed("nginx")?, way, Side::Server)?;
        command.arg("-e").arg(dir.join("error.log")).arg("-c").arg(&path);
        Ok(Nginx { _server: serve(&mut command, port)?, port })
    }

    /// Has wrk ask for this path for a second.
    pub fn ask(&self, lab: &Lab, way: Way, path: &str, connections: u32) -> Result<Sample> {
        let mut wrk = lab.command(artifacts::installed("wrk")?, way, Side::Client)?;
        wrk.args(["-t", "1", "-d", "1", "--latency", "--timeout", "20", "-c", &connections.to_string()]);
        let said = output(wrk.arg(format!("http://127.0.0.1:{}/{path}", self.port)))?;
        anyhow::ensure!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "wrk printed {said}");
        let after = |start: &str| said.lines().find_map(|l| Some(l.trim().strip_prefix(start)?.trim().to_owned()));
        let value = after("Requests/sec:").and_then(|v| v.parse().ok());
        let value = value.with_context(|| format!("wrk printed {said:?}"))?;
        Ok(Sample { value, times: Vec::new(), p99_us: after("99%").and_then(|t| microseconds(&t)) })
    }
}

/// Reads a time as wrk prints it: 12.00us, 1.20ms, 1.20s.
fn microseconds(text: &str) -> Option<f64> {
    let scaled = |end: &str, scale: f64| Some(text.strip_suffix(end)?.parse::<f64>().ok()? * scale);
    scaled("us", 1.0).or_else(|| scaled("ms", 1e3)).or_else(|| scaled("s", 1e6))
}

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    artifacts::installed("wrk")?;
    let files = [("1 KB", "small", 1024), ("100 KB", "large", 102_400)];
    for (_, name, size) in files {
        fs::write(Path::new(lab.dir()).join(name), vec![b'x'; size])?;
    }
    let servers = Pool::new(|way| Nginx::start(lab, way, "", ""));
    for (size, name, _) in files.into_iter().take(lab.scope.of(2, 1, 1)) {
        let servers = &servers;
        let turn = move |way| servers.get(way)?.ask(lab, way, name, 32);
        let alternatives = WAYS.map(|way| Alternative::new(way.name(), move || turn(way)));
        let metric = Metric::higher("requests per second", "/s");
        out.case(Load::Idle, &[("file", size)], metric, alternatives.into_iter().take(lab.scope.of(4, 4, 2)).collect());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::microseconds;

    #[test]
    fn times_of_wrk() {
        assert_eq!(microseconds("12.50us"), Some(12.5));
        assert_eq!(microseconds("1.50ms"), Some(1500.0));
        assert_eq!(microseconds("2.00s"), Some(2_000_000.0));
        assert_eq!(microseconds("fast"), None);
    }
}
