//! socat, iperf3, openssl: relays, echoes, many streams in both directions, TLS.

use tests::scene::{check, free_port};

use crate::http;
use crate::tools::{shell, tool};

#[test]
fn socat_echoes_and_relays() {
    check("socat", |scene| {
        http::site(scene);
        let (echo, relay, upper) = (free_port(), free_port(), free_port());
        let listen = |port: u16| format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork");
        scene.serve(&tool("socat", &["-t", "60", &listen(echo), "EXEC:cat"]), &[echo]);
        scene.serve(&tool("socat", &["-t", "60", &listen(relay), &format!("TCP:127.0.0.1:{echo}")]), &[relay]);
        scene.serve(&tool("socat", &["-t", "60", &listen(upper), "EXEC:tr a-z A-Z"]), &[upper]);
        let script = r#"
            lines() { for i in $(seq 2000); do echo "line $i"; done; }
            for port; do lines | socat -t 60 - TCP:127.0.0.1:$port | sha256sum; done
            for port; do socat -t 60 - TCP:127.0.0.1:$port <$large | sha256sum; done
            slowly() { for i in 1 2 3 4 5; do echo "slowly $i"; sleep 0.02; done; }
            for port; do slowly | socat -t 60 - TCP:127.0.0.1:$port; done"#;
        let large = scene.path("site/large");
        let ports = [echo, relay, upper].map(|port| port.to_string());
        let results = scene.run(&shell(script, &ports.each_ref().map(String::as_str)).env("large", &large));
        scene.expect_final(6);
        results
    });
}

#[test]
fn iperf3_with_eight_streams() {
    check("iperf3", |scene| {
        let port = free_port();
        let text = port.to_string();
        scene.serve(&tool("iperf3", &["-s", "-B", "127.0.0.1", "-p", &text]), &[port]);
        let print = "import json, sys\nresult = json.load(sys.stdin)\nend = result['end']\n\
                     sums = sorted(name for name in end if name.startswith('sum'))\n\
                     print(len(end['streams']), result.get('error'), [(n, end[n]['bytes'] > 1 << 20) for n in sums])";
        let script = r#"
            for direction in '' -R --bidir; do
                iperf3 -c 127.0.0.1 -p $1 -P 8 -n 40M --json $direction >$out || { cat $out; exit 1; }
                /usr/bin/python3 -c "$print" <$out
            done"#;
        let results = scene.run(&shell(script, &[&text]).env("out", &scene.path("out")).env("print", print));
        scene.expect_final(33);
        results
    });
}

#[test]
fn openssl_server_and_clients() {
    check("openssl", |scene| {
        http::site(scene);
        let (files, lines) = (free_port(), free_port());
        let (key, cert) = (scene.path("key"), scene.path("cert"));
        let make = "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost \
                    -addext subjectAltName=IP:127.0.0.1 -keyout $1 -out $2 2>/dev/null";
        scene.prepare(&shell(make, &[&key, &cert]));
        let args = ["s_server", "-quiet", "-key", &key, "-cert", &cert];
        let serve = |port: u16, more: &str| {
            let accept = format!("127.0.0.1:{port}");
            let args: Vec<&str> = args.iter().chain(&["-accept", &accept, more]).copied().collect();
            scene.serve(
                &shell("cd $1; shift; exec openssl \"$@\"", &[&[scene.path("site").as_str()], &args[..]].concat()),
                &[port],
            );
        };
        serve(files, "-WWW");
        serve(lines, "-rev");
        let script = r#"
            for i in 1 2 3; do curl -sS --cacert $cert https://127.0.0.1:$1/large | sha256sum; done
            (echo 'GET /large HTTP/1.0'; echo) | openssl s_client -quiet -crlf -verify_return_error -CAfile $cert \
                -connect 127.0.0.1:$1 2>/dev/null | tail -c 6000000 | sha256sum
            (for i in $(seq 1000); do echo "line $i"; done; echo CLOSE) | \
                openssl s_client -quiet -verify_return_error -CAfile $cert -connect 127.0.0.1:$2 2>/dev/null |
                sha256sum"#;
        let ports = [files, lines].map(|port| port.to_string());
        let results = scene.run(&shell(script, &ports.each_ref().map(String::as_str)).env("cert", &cert));
        scene.expect_final(4);
        results
    });
}
