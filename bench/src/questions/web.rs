//! A page of nginx, PHP and MariaDB.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::Question;
use super::nginx::Nginx;
use crate::artifacts;
use crate::lab::Lab;
use crate::pool::Pool;
use crate::process::is_root;
use crate::process::{Server, output};
use crate::record::Metric;
use crate::runner::{Alternative, Load, Recorder};
use crate::servers::{free_port, give, run_as, serve, serve_at, user};
use crate::skip::skip;
use crate::way::{Side, Way};

/// The question.
pub const QUESTION: Question = Question {
    name: "web",
    title: "A page of nginx, php-fpm and MariaDB, asked for by wrk over 8 connections of plain TCP",
    seconds: 56,
    quick: 0,
    daemon: &[],
    run,
};

const WAYS: [Way; 3] = [Way::Tcp, Way::Shim, Way::Unix];
/// The label.
pub const DATABASE: &str = "connections to the database";
/// Its value in the case that measures nginx → php-fpm alone.
pub const PHP_ALONE: &str = "none";
const PAGES: [(&str, &str); 3] = [(PHP_ALONE, "hello"), ("kept", "kept"), ("for each page", "each")];

/// All three servers, connected by one way.
struct Site {
    nginx: Nginx,
    _php: Server,
    _database: Option<Server>,
}

/// The address of a part of the site.
enum Address {
    Port(u16),
    Socket(PathBuf),
}

impl Address {
    fn new(lab: &Lab, way: Way) -> Result<Address> {
        Ok(if way == Way::Unix { Address::Socket(lab.socket_path()?) } else { Address::Port(free_port()?) })
    }

    fn serve(&self, command: &mut Command) -> Result<Server> {
        match self {
            Address::Port(port) => serve(command, *port),
            Address::Socket(path) => serve_at(command, path),
        }
    }
}

fn php_fpm() -> Result<PathBuf> {
    let dirs = fs::read_dir("/usr/sbin").into_iter().flatten().flatten().map(|e| e.path());
    let found = dirs.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("php-fpm"))).max();
    found.ok_or_else(|| skip("php-fpm is not installed (`.ci/packages bench` installs it for root)"))
}

/// MariaDB's empty tables, which are copied for each server.
fn template(lab: &Lab) -> Result<PathBuf> {
    let dir = lab.path();
    fs::create_dir(&dir)?;
    give(&dir, user("mysql")?)?;
    let mut install = Command::new(artifacts::installed("mariadb-install-db")?);
    install.arg("--no-defaults");
    if is_root() {
        install.arg("--user=mysql");
    }
    install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
    install.args(["--innodb-log-file-size=8M"]).arg(format!("--datadir={}", dir.display()));
    output(&mut install)?;
    Ok(dir)
}

fn database(lab: &Lab, way: Way, template: &Path) -> Result<(Server, Address)> {
    let dir = lab.path();
    output(Command::new("cp").arg("-a").arg(template).arg(&dir))?;
    let address = Address::new(lab, way)?;
    let mut command = lab.command(artifacts::installed("mariadbd")?, way, Side::Server)?;
    command.arg("--no-defaults").arg(format!("--datadir={}", dir.display())).stderr(std::process::Stdio::null());
    command.args(["--skip-grant-tables", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0"]);
    match &address {
        // This option follows --skip-grant-tables, which would switch the network off.
        Address::Port(port) => {
            let socket = dir.join("unused.sock");
            command.args(["--skip-networking=0", "--bind-address=127.0.0.1", &format!("--port={port}")]);
            command.arg(format!("--socket={}", socket.display()))
        }
        Address::Socket(path) => command.arg("--skip-networking").arg(format!("--socket={}", path.display())),
    };
    run_as(&mut command, user("mysql")?);
    let server = address.serve(&mut command)?;
    Ok((server, address))
}

fn php(lab: &Lab, way: Way) -> Result<(Server, Address)> {
    let (address, config) = (Address::new(lab, way)?, lab.path());
    let listen = match &address {
        Address::Port(port) => format!("127.0.0.1:{port}"),
        Address::Socket(path) => format!("{}\nlisten.mode = 0666", path.display()),
    };
    let user = if is_root() { "user = www-data\ngroup = www-data\n" } else { "" };
    let text = "[global]\ndaemonize = no\nerror_log = /dev/null\n[www]\npm = static\npm.max_children = 8\n";
    fs::write(&config, format!("{text}{user}listen = {listen}\n"))?;
    let mut command = lab.command(php_fpm()?, way, Side::Server)?;
    command.args(["-F", "-y"]).arg(&config);
    Ok((address.serve(&mut command)?, address))
}

/// The pages: one without a database, one that keeps its connection, one that makes a new connection each time.
fn write_pages(dir: &Path, database: &Address) -> Result<()> {
    let (host, port, socket) = match database {
        Address::Port(port) => ("127.0.0.1", port.to_string(), "null".into()),
        Address::Socket(path) => ("localhost", "null".into(), format!("'{}'", path.display())),
    };
    fs::create_dir_all(dir)?;
    fs::write(dir.join("hello.php"), "<?php echo str_repeat('hello ', 170);\n")?;
    for (name, kept) in [("kept", "p:"), ("each", "")] {
        let page = format!(
            "<?php $db = new mysqli('{kept}{host}', 'root', '', '', {port}, {socket});\n\
             for ($i = 0; $i < 10; $i++) {{\n\
             echo $db->query(\"SELECT $i AS n, REPEAT('x', 100) AS t\")->fetch_assoc()['t'], \"\\n\"; }}\n"
        );
        fs::write(dir.join(format!("{name}.php")), page)?;
    }
    Ok(())
}

fn site(lab: &Lab, way: Way, template: Option<&Path>) -> Result<Site> {
    let (database, address) = match template {
        Some(template) => database(lab, way, template).map(|(server, address)| (Some(server), address))?,
        None => (None, Address::Port(0)),
    };
    let pages = lab.path();
    write_pages(&pages, &address)?;
    let (php, address) = php(lab, way)?;
    let upstream = match &address {
        Address::Port(port) => format!("127.0.0.1:{port}"),
        Address::Socket(path) => format!("unix:{}", path.display()),
    };
    let http = format!("upstream php {{ server {upstream}; keepalive 8; }}\ntypes {{ }}\n");
    let script = format!("fastcgi_param SCRIPT_FILENAME {}/$fastcgi_script_name;", pages.display());
    let parameters = "fastcgi_param REQUEST_METHOD $request_method; fastcgi_param QUERY_STRING $query_string;";
    let server = format!("location / {{ fastcgi_pass php; fastcgi_keep_conn on; {script} {parameters} }}");
    let nginx = Nginx::start(lab, way, &http, &server)?;
    Ok(Site { nginx, _php: php, _database: database })
}

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    artifacts::installed("wrk")?;
    let whole = lab.scope.of(true, true, false);
    let template = whole.then(|| template(lab)).transpose()?;
    let sites = Pool::new(|way| site(lab, way, template.as_deref()));
    out.note(
        "Each page makes ten queries; the connections to the database are kept (mysqli `p:`), or made for each page.",
    );
    for (connections, page) in PAGES.into_iter().take(if whole { 3 } else { 1 }) {
        let sites = &sites;
        let turn = move |way| sites.get(way)?.nginx.ask(lab, Way::Tcp, &format!("{page}.php"), 8);
        let alternatives = WAYS.map(|way| Alternative::new(way.name(), move || turn(way)));
        let labels = [(DATABASE, connections)];
        out.case(Load::Idle, &labels, Metric::higher("pages per second", "/s"), alternatives.into());
    }
    Ok(())
}
