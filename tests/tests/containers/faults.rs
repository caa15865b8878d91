//! What happens to streams when ipcd, a container or a network goes away.

use tests::containers::{Site, wait_until};

#[test]
fn ipcd_is_stopped_restarted_and_replaced_under_load() {
    let Some(site) = Site::with_ipcd(&[]) else { return };
    site.talk("server", &[], &["echo", "7000"]);
    site.talk("client", &[], &["ask", "server", "7000"]);
    site.wait_final(7000, 2);
    let ipcd = site.full("ipcd");

    site.engine.docker(&["stop", &ipcd]);
    site.wait_for_rounds("client", 200);
    site.engine.docker(&["start", &ipcd]);
    // The kept stream is final and makes no more reports; the renewed streams pair again.
    site.wait_final(7000, 2);
    site.wait_for_rounds("client", 100);

    site.engine.docker(&["kill", &ipcd]);
    site.wait_for_rounds("client", 100);
    site.engine.docker(&["rm", "-f", &ipcd]);
    site.start_ipcd(&["--prefix", "64"]);
    site.wait_final(7000, 2);
    site.wait_for_rounds("client", 100);
}

/// What the peer of a killed container sees, with the shim and without it: the end of the stream.
#[test]
fn a_container_is_killed() {
    let Some(site) = Site::with_ipcd(&[]) else { return };
    let network = format!("--network={}", site.full("net"));
    site.talk_plain("plain-server", &[&network], &["echo", "7001"]);
    site.talk_plain("plain-client", &[&network], &["keep", &site.full("plain-server"), "7001"]);
    site.talk("server", &[], &["echo", "7000"]);
    site.talk("client", &[], &["keep", "server", "7000"]);
    site.wait_final(7000, 1);
    for (server, client) in [("plain-server", "plain-client"), ("server", "client")] {
        site.wait_for_rounds(client, 20);
        site.engine.docker(&["kill", &site.full(server)]);
        wait_until(&format!("{client} hears of it"), || {
            let logs = site.logs(client);
            ["error end of stream", "error read: Connection reset", "error write:"].iter().any(|e| logs.contains(e))
        });
    }
}

#[test]
fn a_container_is_paused() {
    let Some(site) = Site::with_ipcd(&[]) else { return };
    let server = site.talk("server", &[], &["echo", "7000"]);
    site.talk("client", &[], &["ask", "server", "7000"]);
    site.wait_final(7000, 2);
    site.engine.docker(&["pause", &server]);
    // Bytes under way may still arrive, and the engine passes on a container's output with a delay.
    wait_until("the client waits", || {
        let before = site.rounds("client");
        std::thread::sleep(std::time::Duration::from_millis(500));
        site.rounds("client") == before
    });
    site.engine.docker(&["unpause", &server]);
    site.wait_for_rounds("client", 100);
    site.wait_final(7000, 3);
}

/// Here a stream that has moved differs from TCP, which would stall (docs/containers.md).
#[test]
fn a_container_is_disconnected_from_its_network() {
    let Some(site) = Site::with_ipcd(&[]) else { return };
    let server = site.talk("server", &[], &["echo", "7000"]);
    site.talk("client", &[], &["keep", "server", "7000"]);
    site.wait_final(7000, 1);
    site.engine.docker(&["network", "disconnect", &site.full("net"), &server]);
    site.wait_for_rounds("client", 200);
    site.engine.docker(&["kill", &server]);
    wait_until("the client hears of the end", || site.logs("client").contains("error "));
}
