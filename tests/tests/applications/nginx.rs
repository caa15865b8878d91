//! nginx before nginx: workers, kept-alive connections to both sides, sendfile, uploads.

use tests::scene::{Scene, check, free_port};

use crate::http::{self, fetch};
use crate::tools::tool;

/// The upstream nginx: files by sendfile. Returns its port.
pub(crate) fn files(scene: &Scene) -> u16 {
    let port = free_port();
    http::site(scene);
    scene.open_directory("site/upload");
    let server = format!(
        "server {{ listen 127.0.0.1:{port}; root {site}; sendfile on; tcp_nopush on;
                   location /upload/ {{ client_max_body_size 20m; dav_methods PUT; }}
                   location /text {{ default_type text/plain; return 200 'a short answer'; }} }}",
        site = scene.path("site")
    );
    start(scene, "files", &server, port);
    port
}

fn start(scene: &Scene, name: &str, servers: &str, port: u16) {
    let (dir, log) = (scene.directory(name), "access_log off; error_log stderr warn");
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {dir}/{kind};\n"))
        .collect();
    let config = format!(
        "daemon off; worker_processes 2; pid {dir}/pid; user www-data; error_log stderr warn;
         events {{ worker_connections 512; }}
         http {{ {log}; keepalive_requests 100000; {temporary} {servers} }}"
    );
    let config = scene.write(&format!("{name}.conf"), config);
    scene.serve(&tool("nginx", &["-c", &config, "-e", "stderr"]), &[port]);
}

/// The nginx in front, with kept-alive connections to the upstream one.
fn proxy(scene: &Scene, behind: u16) -> u16 {
    let port = free_port();
    let servers = format!(
        "upstream behind {{ server 127.0.0.1:{behind}; keepalive 8; keepalive_requests 100000; }}
         server {{ listen 127.0.0.1:{port}; client_max_body_size 20m;
                   location / {{ proxy_pass http://behind; proxy_http_version 1.1;
                                 proxy_set_header Connection ''; }} }}"
    );
    start(scene, "proxy", &servers, port);
    port
}

#[test]
fn proxy_and_files() {
    check("nginx before nginx", |scene| {
        let behind = files(scene);
        let port = proxy(scene, behind);
        let mut results = http::load(scene, port, "/text", &["-k", "-c", "8", "-n", "2000"]);
        results.extend(http::load(scene, port, "/page.html", &["-k", "-c", "8", "-n", "1000"]));
        results.extend(http::load(scene, behind, "/page.html", &["-c", "4", "-n", "300"]));
        results.extend(fetch(scene, port, &["/large", "/page.html", "/none", "/large", "/page.html"]));
        results.extend(fetch(scene, behind, &["/large", "/page.html"]));
        results.extend(http::upload(scene, port, 3));
        scene.expect_final(16);
        results
    });
}
