//! Daemons that serve trees of files: rsync, git.

use tests::scene::{check, free_port};

use crate::tools::{is_root, shell, tool};

/// A tree with small and large files.
const TREE: &str = "mkdir -p $1 && cd $1 && for i in $(seq 60); do
    d=dir$((i % 7)); mkdir -p $d; seq $i $((i * 97)) >$d/file$i; done && seq 400000 >large && ln -s large link";

#[test]
fn rsync_daemon() {
    check("rsync", |scene| {
        let port = free_port();
        let (tree, there) = (scene.path("tree"), scene.directory("there"));
        scene.prepare(&shell(&TREE.replace('\n', " "), &[&tree]));
        let user = if is_root() { "uid = root\ngid = root\n" } else { "" };
        let config = format!(
            "use chroot = no\nmunge symlinks = no\n{user}\
             [tree]\npath = {tree}\nread only = yes\n[there]\npath = {there}\nread only = no\n"
        );
        let config = scene.write("rsyncd.conf", config);
        let text = port.to_string();
        let args = ["--daemon", "--no-detach", "--address=127.0.0.1", "--port", &text, "--config", &config];
        scene.serve(&tool("rsync", &args), &[port]);
        let script = r#"
            set -e; cd $1; from=rsync://127.0.0.1:$2/tree to=rsync://127.0.0.1:$2/there
            rsync $from/ | wc -l
            rsync -a $from/ here/ && diff -r tree here && echo pulled
            rsync -a tree/ $to/ && diff -r tree there && echo pushed
            seq 500000 >tree/large; echo more >>tree/dir3/file3; rm tree/dir4/file4
            rsync -a --delete -z --checksum tree/ $to/ && diff -r tree there && echo again
            rsync -a --delete $from/ here/ && diff -r tree here && echo back
            rsync -a --delete --bwlimit=100m $to/ third/ && diff -r tree third && echo third"#;
        let results = scene.run(&shell(script, &[&scene.path(""), &text]));
        scene.expect_final(3);
        results
    });
}

#[test]
fn git_daemon() {
    check("git", |scene| {
        let port = free_port();
        let base = scene.directory("base");
        let fixed = [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_AUTHOR_NAME", "A"),
            ("GIT_AUTHOR_EMAIL", "a@localhost"),
            ("GIT_AUTHOR_DATE", "2020-01-01T00:00:00Z"),
            ("GIT_COMMITTER_NAME", "A"),
            ("GIT_COMMITTER_EMAIL", "a@localhost"),
            ("GIT_COMMITTER_DATE", "2020-01-01T00:00:00Z"),
        ];
        let git = |script: &str| {
            let program = shell(script, &[&scene.path(""), &port.to_string()]);
            fixed.iter().fold(program, |program, (name, value)| program.env(name, value))
        };
        let repository = format!(
            "set -e; ({}); cd $1/work; git init -q -b main .; git add .; git commit -qm one; \
             git clone -q --bare . $1/base/r.git",
            TREE.replace('\n', " ").replace("$1", "$1/work")
        );
        scene.prepare(&git(&repository));
        let text = port.to_string();
        let args = ["daemon", "--export-all", "--enable=receive-pack", "--reuseaddr", "--listen=127.0.0.1"];
        let place = [&format!("--port={text}"), &format!("--base-path={base}"), &base];
        let args: Vec<&str> = args.iter().copied().chain(place.map(|s| s.as_str())).collect();
        scene.serve(&tool("git", &args), &[port]);
        let script = r#"
            set -e; cd $1; url=git://127.0.0.1:$2/r.git
            git ls-remote $url
            git clone -q $url a; git clone -q $url b
            cd a; for i in 1 2 3; do
                seq $i 100000 >new$i; git add .; git commit -qm "new $i"; git push -q origin main
            done
            cd ../b; for i in $(seq 2000); do
                printf 'commit refs/heads/main\ncommitter A <a@localhost> %d +0000\ndata 3\nown\n' $((1600000000 + i))
                [ $i != 1 ] || printf 'from refs/heads/main^0\n'
            done | git fast-import --quiet
            git fetch -q origin; git merge -q -m merged origin/main
            git checkout -q -b other; seq 7 200000 >other; git add .; git commit -qm other; git push -q origin other
            cd ../a; git fetch -q origin; git fsck --no-progress; git rev-parse HEAD origin/other
            git count-objects -v | grep -v size"#;
        let results = scene.run(&git(script));
        // git-daemon executes the server program: a stream that has not moved by then stays on TCP.
        scene.expect_final(0);
        results
    });
}
