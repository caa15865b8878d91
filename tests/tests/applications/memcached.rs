//! memcached: connections go from the thread that accepts to worker threads.

use tests::scene::{check, free_port};

use crate::tools::{python, tool};

#[test]
fn worker_threads() {
    check("memcached", |scene| {
        let port = free_port();
        let text = port.to_string();
        // Run by root, it demands a user to run as.
        let args = ["-u", "nobody", "-l", "127.0.0.1", "-p", &text, "-U", "0", "-t", "4", "-I", "2m"];
        scene.serve(&tool("memcached", &args), &[port]);
        let results = scene.run(&python("memcached.py", &[&text]));
        scene.expect_final(12);
        results
    });
}
