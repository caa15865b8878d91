//! MariaDB, a thread for each client.

use tests::daemon::PrivateDir;
use tests::scene::{Scene, check, free_port};
use tests::{Mode, case, run};

use crate::tools::{as_user, chown, shell, tool};

/// A data directory, which a play uses in every setting because making one takes seconds. The server does not run as
/// root.
pub(crate) fn data() -> PrivateDir {
    let dir = PrivateDir::new();
    chown(dir.path(), "mysql");
    let datadir = format!("--datadir={}", dir.path().join("data").display());
    let normal = "--auth-root-authentication-method=normal";
    let install = as_user("mysql", &["mariadb-install-db", "--no-defaults", &datadir, normal, "--skip-test-db"]);
    // Two servers that share a directory of temporary tables remove each other's.
    let install = install.env("TMPDIR", &dir.path().display().to_string());
    let made = run(&install, Mode::Native, |_| Ok(()));
    case::assert_passed(&made, &install, Mode::Native);
    dir
}

/// Starts the server, with the tables of database.sql. Returns its port.
pub(crate) fn server(scene: &Scene, data: &PrivateDir) -> u16 {
    let port = free_port();
    let place = |name: &str| data.path().join(name).display().to_string();
    let socket = format!("--socket={}", place("socket"));
    let args = [
        "mariadbd",
        "--no-defaults",
        &format!("--datadir={}", place("data")),
        &format!("--pid-file={}", place("pid")),
        &format!("--tmpdir={}", place("data")),
        &socket,
        &format!("--port={port}"),
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        "--innodb-buffer-pool-size=32M",
        "--innodb-flush-log-at-trx-commit=0",
    ];
    scene.serve(&as_user("mysql", &args), &[port]);
    let tables = format!("mariadb --no-defaults {socket} -u root <<'EOF'\n{}\nEOF", include_str!("database.sql"));
    scene.prepare(&shell(&tables, &[]));
    port
}

/// Runs statements over TCP.
pub(crate) fn query(scene: &Scene, port: u16, statements: &str) -> Vec<String> {
    let port = format!("--port={port}");
    let place = ["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", &port, "--user=test", "--password=secret"];
    scene.run(&tool("mariadb", &place.iter().chain(&["-N", "-e", statements, "test"]).copied().collect::<Vec<_>>()))
}

#[test]
fn clients_of_mariadb() {
    let data = data();
    check("MariaDB", |scene| {
        let port = server(scene, &data);
        let mut results = query(
            scene,
            port,
            "select count(*), sha2(group_concat(words order by id), 256) from articles; \
             insert into visits (page) select repeat('x', 20) from seq_1_to_2000; \
             select repeat(words, 200) from articles; select count(*) from visits",
        );
        let dump = "opts='--no-defaults --protocol=tcp -h 127.0.0.1 -u test -psecret'
            for i in 1 2 3; do mariadb-dump $opts -P $1 --skip-comments --skip-extended-insert test articles | \
            sed s/articles/again$i/ | mariadb $opts -P $1 test; done";
        scene.run(&shell(dump, &[&port.to_string()]));
        results.extend(query(scene, port, "select count(*), max(words) from again3"));
        scene.expect_final(3);
        results
    });
}
