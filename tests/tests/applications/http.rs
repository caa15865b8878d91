//! Requests that all web servers are tested with.

use tests::scene::Scene;

use crate::tools::{shell, tool};

/// A directory `site` with a page and a large file; its contents never change.
pub(crate) fn site(scene: &Scene) {
    let page: String = (0..300).map(|i| format!("<p>line {i} of a page</p>\n")).collect();
    scene.write("site/page.html", page);
    scene.write("site/large", large());
}

/// 6 MB without a repeating pattern.
pub(crate) fn large() -> Vec<u8> {
    let mut x = 1_u64;
    let next = |_| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 33) as u32
    };
    (0..1_500_000).map(next).flat_map(u32::to_le_bytes).collect()
}

/// The results of ApacheBench that do not depend on time: lengths, failures, bytes.
pub(crate) fn load(scene: &Scene, port: u16, path: &str, more: &[&str]) -> Vec<String> {
    let url = format!("http://127.0.0.1:{port}{path}");
    let args: Vec<&str> = ["-q", "-s", "30"].iter().chain(more).chain(&[url.as_str()]).copied().collect();
    let lines = scene.run(&tool("ab", &args));
    let wanted = ["Document Length", "Complete", "Failed", "Non-2xx", "HTML transferred"];
    lines.into_iter().filter(|line| wanted.iter().any(|w| line.starts_with(w))).collect()
}

/// Status, length and hash of each path, over one connection of curl.
pub(crate) fn fetch(scene: &Scene, port: u16, paths: &[&str]) -> Vec<String> {
    let urls: Vec<String> = paths.iter().map(|path| format!("http://127.0.0.1:{port}{path}")).collect();
    let script = r#"dir=$1; shift; rm -rf "$dir"; mkdir "$dir"; n=0
        for url; do n=$((n + 1)); set -- "$@" -o "$dir/$n" "$url"; shift; done
        curl -sS -w '%{http_code} %{size_download} %{num_connects}\n' "$@" && cd "$dir" && sha256sum *"#;
    let mut args = vec![scene.path("fetched")];
    args.extend(urls);
    scene.run(&shell(script, &args.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// Uploads the large file several times over one connection to a server of [`site`], and reads it back from the disk.
pub(crate) fn upload(scene: &Scene, port: u16, times: usize) -> Vec<String> {
    let url = format!("http://127.0.0.1:{port}/upload/");
    let script = r#"to=$1; shift
        curl -sS -w '%{http_code} %{size_upload} %{num_connects}\n' "$@"; cd "$to" && sha256sum *"#;
    let mut args = vec![scene.path("site/upload")];
    args.extend((0..times).flat_map(|i| ["-T".into(), scene.path("site/large"), format!("{url}{i}")]));
    scene.run(&shell(script, &args.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// Posts the large file several times over one connection, and prints the server's answers.
pub(crate) fn post(scene: &Scene, port: u16, path: &str, times: usize) -> Vec<String> {
    let url = format!("http://127.0.0.1:{port}{path}");
    let script = r#"curl -sS -H 'Expect:' -w '%{http_code} %{size_upload} %{num_connects}\n' --data-binary @"$@""#;
    let mut args = vec![scene.path("site/large")];
    args.extend((0..times).map(|_| url.clone()));
    scene.run(&shell(script, &args.iter().map(String::as_str).collect::<Vec<_>>()))
}
