//! OpenSSH over the loopback: commands, copies both ways, forwarded ports. The server executes itself again for each
//! connection and exchanges keys in a child that may make few system calls, so only a session that lasts for more than
//! a second moves. Streams through a forwarded port move at both sides of it.

use std::fs;

use tests::scene::{Scene, check, free_port};

use crate::tools::{is_root, shell, tool};
use crate::{http, nginx};

/// Starts sshd with keys of its own. Returns the name of the configuration that the clients need.
fn server(scene: &Scene) -> String {
    let port = free_port();
    let dir = scene.directory("ssh");
    scene.prepare(&shell(
        "for key in host user; do ssh-keygen -q -t ed25519 -N '' -f $1/$key; done; chmod 600 $1/host $1/user",
        &[&dir],
    ));
    if is_root() {
        fs::create_dir_all("/run/sshd").expect("the directory that sshd shuts its child into");
    }
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/user.pub\nPidFile none\n\
         StrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\nUseDNS no\nLogLevel ERROR\n\
         Subsystem sftp internal-sftp\nMaxStartups 100\n"
    );
    let config = scene.write("ssh/sshd.conf", config);
    scene.serve(&tool("sshd", &["-D", "-e", "-f", &config]), &[port]);
    scene.write(
        "ssh/ssh.conf",
        format!(
            "Host there\nHostName 127.0.0.1\nPort {port}\nIdentityFile {dir}/user\nIdentitiesOnly yes\nBatchMode yes\n\
             StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\nControlMaster no\n"
        ),
    )
}

const COMMANDS: &str = r#"
set -e
ssh="ssh -F $1/ssh/ssh.conf there" large=$1/site/large
$ssh -n 'echo from there; exit 3' || echo "status $?"
$ssh -n 'seq 100000' | sha256sum
$ssh 'cat | tee /dev/stderr' <$large 2>$1/errors | sha256sum
sha256sum <$1/errors
for i in $(seq 300); do echo "line $i"; done | $ssh 'while read -r line; do echo "got $line"; done' | sha256sum
(seq 1000; sleep 2; seq 200000) | $ssh 'cat' | sha256sum
for i in 1 2; do $ssh -n "seq $i 90000 | sha256sum" >$1/out$i & done; wait; cat $1/out?
"#;

#[test]
fn commands() {
    check("ssh", |scene| {
        http::site(scene);
        server(scene);
        let results = scene.run(&shell(COMMANDS, &[&scene.path("")]));
        // An sshd of an ordinary user does not take up its grant, however long a session lasts.
        scene.expect_final(usize::from(is_root()));
        results
    });
}

const COPIES: &str = r#"
set -e
cd "$1"; conf=ssh/ssh.conf
scp -q -F $conf site/large there:$1/scp-there
scp -q -F $conf there:$1/scp-there scp-back
scp -q -O -F $conf there:$1/site/large rcp-back
printf 'put site/large %s/put\nget %s/put get\nls -1 %s/site\nrename %s/put %s/renamed\n' $1 $1 $1 $1 $1 |
    sftp -q -b - -F $conf there | grep -v '^sftp>' | sed "s|$1||"
sha256sum scp-there scp-back rcp-back get renamed
"#;

#[test]
fn copies() {
    check("scp, sftp", |scene| {
        http::site(scene);
        server(scene);
        let results = scene.run(&shell(COPIES, &[&scene.path("")]));
        scene.expect_final(0);
        results
    });
}

#[test]
fn forwarded_ports() {
    check("ssh -L, ssh -R", |scene| {
        let web = nginx::files(scene);
        let config = server(scene);
        let (local, remote, socks) = (free_port(), free_port(), free_port());
        let (l, r) = (format!("127.0.0.1:{local}:127.0.0.1:{web}"), format!("127.0.0.1:{remote}:127.0.0.1:{web}"));
        let s = format!("127.0.0.1:{socks}");
        let args = ["-F", &config, "-N", "-o", "ExitOnForwardFailure=yes", "-L", &l, "-R", &r, "-D", &s, "there"];
        scene.serve(&tool("ssh", &args), &[local, remote, socks]);
        let mut results = Vec::new();
        for port in [local, remote] {
            results.extend(http::load(scene, port, "/text", &["-k", "-c", "4", "-n", "300"]));
            results.extend(http::fetch(scene, port, &["/large", "/page.html", "/large"]));
        }
        let through =
            "curl -sS --socks5 127.0.0.1:$1 http://127.0.0.1:$2/large http://127.0.0.1:$2/page.html | sha256sum";
        results.extend(scene.run(&shell(through, &[&socks.to_string(), &web.to_string()])));
        scene.expect_final(8);
        results
    });
}
