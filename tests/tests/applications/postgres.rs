//! PostgreSQL: a process for each client, bulk copies both ways, prepared statements, a connection for each
//! transaction.

use std::fs;
use std::path::PathBuf;

use tests::daemon::PrivateDir;
use tests::scene::{Scene, check, free_port};
use tests::{Mode, Program, case, run};

use crate::tools::{as_user, chown, load, shell, tool};

/// The newest server that is installed; only a wrapper that starts it is on the path.
fn program(name: &str) -> String {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL: `make test` as root installs it");
    let mut programs: Vec<PathBuf> =
        versions.flatten().map(|v| v.path().join("bin").join(name)).filter(|p| p.is_file()).collect();
    programs.sort();
    programs.pop().expect("a PostgreSQL server").display().to_string()
}

/// A cluster for one play, which uses it in every setting because making one takes seconds. The server does not run as
/// root.
fn cluster() -> PrivateDir {
    let dir = PrivateDir::new();
    chown(dir.path(), "postgres");
    let data = dir.path().join("data").display().to_string();
    let args = [&program("initdb"), "-D", &data, "-U", "test", "--auth=trust", "--no-sync", "--locale=C"];
    let initdb = as_user("postgres", &args);
    let made = run(&initdb, Mode::Native, |_| Ok(()));
    case::assert_passed(&made, &initdb, Mode::Native);
    dir
}

fn server(scene: &Scene, cluster: &PrivateDir) -> String {
    let port = free_port();
    let (text, data) = (port.to_string(), cluster.path().join("data").display().to_string());
    let args = [&program("postgres"), "-D", &data, "-p", &text, "-h", "127.0.0.1", "-k", "", "-F"];
    scene.serve(&as_user("postgres", &args), &[port]);
    // The server listens before it is ready.
    let ready = "until pg_isready -q -t 20 -h 127.0.0.1 -p $1; do sleep 0.02; done";
    scene.prepare(&shell(ready, &[&text]));
    let dropped =
        "psql -qX -h 127.0.0.1 -p $1 -U test postgres -c 'drop database if exists test' -c 'create database test'";
    scene.prepare(&shell(dropped, &[&text]));
    text
}

fn client(name: &str, port: &str, args: &[&str]) -> Program {
    let place = ["-h", "127.0.0.1", "-p", port, "-U", "test"];
    tool(name, &place.iter().chain(args).chain(&["test"]).copied().collect::<Vec<_>>())
}

fn psql(scene: &Scene, port: &str, commands: &[&str]) -> Vec<String> {
    let commands: Vec<&str> = commands.iter().flat_map(|command| ["-c", command]).collect();
    let args: Vec<&str> = ["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1"].iter().chain(&commands).copied().collect();
    scene.run(&client("psql", port, &args))
}

/// The counts that pgbench prints, without times.
fn pgbench(scene: &Scene, port: &str, args: &[&str]) -> Vec<String> {
    let args: Vec<&str> = ["--random-seed=1"].iter().chain(args).copied().collect();
    let lines = scene.run(&client("pgbench", port, &args));
    lines.into_iter().filter(|l| l.starts_with("number of")).collect()
}

#[test]
fn pgbench_and_its_sums() {
    let cluster = cluster();
    check("pgbench", |scene| {
        let port = server(scene, &cluster);
        scene.run(&client("pgbench", &port, &["-i", "-q", "-s", "1"]));
        let mut results = pgbench(scene, &port, &["-c", "8", "-j", "2", "-t", "60"]);
        results.extend(pgbench(scene, &port, &["-c", "8", "-j", "2", "-t", "300", "-S", "-M", "prepared"]));
        results.extend(pgbench(scene, &port, &["-c", "4", "-j", "2", "-t", "10", "-S", "-C"]));
        let sums = [
            "select sum(abalance), count(*) from pgbench_accounts",
            "select sum(bbalance) from pgbench_branches",
            "select sum(tbalance) from pgbench_tellers",
            "select sum(delta), count(*) from pgbench_history",
        ];
        results.extend(psql(scene, &port, &sums));
        scene.expect_final(12);
        results
    });
}

#[test]
fn copies_both_ways() {
    // 10 MB, 100 MB on request.
    let rows = load(100_000);
    let cluster = cluster();
    check("psql, COPY", |scene| {
        let port = server(scene, &cluster);
        let (file, back) = (scene.path("rows"), scene.path("back"));
        let make = "seq $1 | awk '{ printf \"%d\\trow %d of the table, which is %080d long\\n\", $1, $1 * 7, $1 }' >$2";
        scene.prepare(&shell(make, &[&rows.to_string(), &file]));
        let mut results = psql(
            scene,
            &port,
            &[
                "create table copied (id int primary key, words text)",
                &format!("\\copy copied from '{file}'"),
                &format!("\\copy (select * from copied order by id) to '{back}'"),
                "select count(*), sum(length(words)) from copied",
                "select md5(string_agg(words, ',' order by id)) from copied",
            ],
        );
        results.extend(scene.prepare(&shell("cmp $1 $2 && sha256sum <$2", &[&file, &back])));
        let dump = "pg_dump -h 127.0.0.1 -p $1 -U test -t copied test | sed s/copied/again/ | \
                    psql -qX -v ON_ERROR_STOP=1 -h 127.0.0.1 -p $1 -U test test";
        scene.run(&shell(dump, &[&port]));
        results.extend(psql(scene, &port, &["select count(*), sum(length(words)) from again"]));
        // A second connection, of a separate process, streams the log meanwhile.
        let backup = "pg_basebackup -h 127.0.0.1 -p $1 -U test -D $2 -X stream -c fast && $3 -n $2";
        results.extend(scene.run(&shell(backup, &[&port, &scene.path("backup"), &program("pg_verifybackup")])));
        scene.expect_final(3);
        results
    });
}
