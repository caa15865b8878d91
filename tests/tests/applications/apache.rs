//! Apache with a small PHP application that keeps its data in MariaDB, over TCP: PHP within Apache's processes, and PHP
//! in processes of its own behind Apache's threads.

use std::fs;

use tests::scene::{Scene, check, free_port};

use crate::tools::{load, tool};
use crate::{http, mariadb};

/// The newest file of a directory whose name begins and ends so: the test does not know the version in it.
fn find(dir: &str, begin: &str, end: &str) -> String {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = files.filter_map(|f| f.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with(begin) && name.ends_with(end));
    names.sort();
    let name = names.pop().unwrap_or_else(|| panic!("no {begin}*{end} in {dir}: `make test` as root installs it"));
    format!("{dir}/{name}")
}

fn apache(scene: &Scene, modules: &[&str], more: &str) -> u16 {
    const MODULES: &str = "/usr/lib/apache2/modules";
    let port = free_port();
    http::site(scene);
    scene.write("site/page.php", include_str!("site/page.php"));
    let dir = scene.directory("apache");
    let load: String = ["authz_core", "mime", "env"]
        .iter()
        .chain(modules)
        .map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n"))
        .collect();
    let config = format!(
        "ServerRoot {dir}\nDefaultRuntimeDir {dir}\nPidFile {dir}/pid\nServerName localhost\n\
         User www-data\nGroup www-data\nListen 127.0.0.1:{port}\nErrorLog /dev/stderr\nTypesConfig /dev/null\n\
         {load}DocumentRoot {site}\nKeepAlive On\nMaxKeepAliveRequests 0\nKeepAliveTimeout 30\n{more}\n",
        site = scene.path("site"),
    );
    let config = scene.write("apache.conf", config);
    scene.serve(&tool("apache2", &["-DFOREGROUND", "-f", &config]), &[port]);
    port
}

/// Many clients ask for the application's pages; then the test reads what they left in the database.
fn visit(scene: &Scene, port: u16, database: u16, requests: [usize; 2]) -> Vec<String> {
    let mut results = Vec::new();
    for (connection, requests) in ["lasting", "own"].into_iter().zip(requests) {
        let page = format!("/page.php?connection={connection}");
        results.extend(http::load(scene, port, &page, &["-k", "-c", "4", "-n", &requests.to_string()]));
        results.extend(http::load(scene, port, &page, &["-c", "2", "-n", "20"]));
        let pages: Vec<String> = (1..=10).map(|first| format!("{page}&first={first}")).collect();
        results.extend(http::fetch(scene, port, &pages.iter().map(String::as_str).collect::<Vec<_>>()));
        results.extend(http::post(scene, port, &page, 3));
    }
    results.extend(http::fetch(scene, port, &["/large", "/page.html", "/none", "/large"]));
    results.extend(mariadb::query(scene, database, "select page, count(*) from visits group by page order by page"));
    results
}

#[test]
fn processes_with_php() {
    let data = mariadb::data();
    check("Apache prefork, mod_php, MariaDB", |scene| {
        let database = mariadb::server(scene, &data);
        let php = find("/usr/lib/apache2/modules", "libphp", ".so");
        let more = format!(
            "LoadModule php_module {php}\nSetEnv DB_PORT {database}\n\
             StartServers 6\nMinSpareServers 6\nMaxRequestWorkers 8\n\
             <FilesMatch \\.php$>\nSetHandler application/x-httpd-php\n</FilesMatch>"
        );
        let port = apache(scene, &["mpm_prefork"], &more);
        let results = visit(scene, port, database, [load(400), load(150)]);
        scene.expect_final(16);
        results
    });
}

fn fpm(scene: &Scene, database: u16) -> u16 {
    let port = free_port();
    let config = format!(
        "[global]\nerror_log = /dev/stderr\ndaemonize = no\n\
         [www]\nuser = www-data\ngroup = www-data\nlisten = 127.0.0.1:{port}\n\
         pm = static\npm.max_children = 6\nenv[DB_PORT] = {database}\n"
    );
    let config = scene.write("fpm.conf", config);
    let name = find("/usr/sbin", "php-fpm", "").replace("/usr/sbin/", "");
    scene.serve(&tool(&name, &["-F", "-y", &config]), &[port]);
    port
}

#[test]
fn threads_before_php_fpm() {
    let data = mariadb::data();
    check("Apache event, php-fpm, MariaDB", |scene| {
        let database = mariadb::server(scene, &data);
        let fpm = fpm(scene, database);
        let more = format!(
            "StartServers 1\nThreadsPerChild 16\nMaxRequestWorkers 16\n\
             <Proxy fcgi://127.0.0.1:{fpm}/ enablereuse=on max=6>\n</Proxy>\n\
             <FilesMatch \\.php$>\nSetHandler proxy:fcgi://127.0.0.1:{fpm}/\n</FilesMatch>"
        );
        let port = apache(scene, &["mpm_event", "proxy", "proxy_fcgi"], &more);
        // Fewer requests: over TCP each answer of php-fpm on a reused connection waits 40 ms for a delayed ACK.
        let results = visit(scene, port, database, [load(60), load(20)]);
        scene.expect_final(16);
        results
    });
}
