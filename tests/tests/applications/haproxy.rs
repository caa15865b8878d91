//! HAProxy before nginx: as a proxy of HTTP that shares kept-alive connections, and of TCP with splice.

use tests::scene::{check, free_port};

use crate::tools::tool;
use crate::{http, nginx};

#[test]
fn http_and_tcp() {
    check("HAProxy before nginx", |scene| {
        let behind = nginx::files(scene);
        let (http, tcp) = (free_port(), free_port());
        let config = format!(
            "global\n nbthread 2\n maxconn 500\n\
             defaults\n timeout connect 20s\n timeout client 60s\n timeout server 60s\n option splice-auto\n\
             listen http\n bind 127.0.0.1:{http}\n mode http\n http-reuse always\n server nginx 127.0.0.1:{behind}\n\
             listen tcp\n bind 127.0.0.1:{tcp}\n mode tcp\n option splice-request\n option splice-response\n \
             server nginx 127.0.0.1:{behind}\n"
        );
        let config = scene.write("haproxy.conf", config);
        scene.serve(&tool("haproxy", &["-db", "-f", &config]), &[http, tcp]);
        let mut results = Vec::new();
        for port in [http, tcp] {
            results.extend(http::load(scene, port, "/text", &["-k", "-c", "8", "-n", "1500"]));
            results.extend(http::load(scene, port, "/page.html", &["-k", "-c", "8", "-n", "600"]));
            results.extend(http::fetch(scene, port, &["/large", "/page.html", "/none", "/large", "/page.html"]));
            results.extend(http::upload(scene, port, 3));
        }
        scene.expect_final(48);
        results
    });
}
