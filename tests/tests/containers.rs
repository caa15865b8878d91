//! Applications in containers of a real engine.

use tests::containers::Site;

#[test]
fn redis_across_containers() {
    let Some(site) = Site::with_ipcd(&[]) else { return };
    site.start("redis", &["--user=999"], &["redis-server", "--save", "", "--protected-mode", "no"]);
    site.talk("client", &[], &["redis", "redis", "6379", "300"]);
    site.wait_for_line("client", "ok");
    site.wait_final(6379, 2);
    let benchmark = ["redis-benchmark", "-h", "redis", "-c", "20", "-n", "40000", "-t", "set,get", "-q"];
    site.start("benchmark", &[], &benchmark);
    site.wait_final(6379, 22);
}

#[test]
fn memcached_across_containers() {
    let Some(site) = Site::with_ipcd(&[]) else { return };
    site.start("cache", &[], &["memcached", "-u", "nobody", "-t", "2"]);
    site.talk("client", &["--user=1234"], &["memcached", "cache", "11211", "300"]);
    site.wait_for_line("client", "ok");
    site.wait_final(11211, 2);
}
