//! ZeroMQ: its own threads do all reading and writing, and connect again when a peer comes late.

use tests::scene::{check, free_port};

use crate::tools::python;

#[test]
fn zeromq() {
    check("ZeroMQ", |scene| {
        let ports = [free_port(), free_port(), free_port()];
        let text = ports.map(|port| port.to_string());
        let args = |part: &'static str| [&[part], &text.each_ref().map(String::as_str)[..]].concat();
        scene.serve(&python("messages.py", &args("server")), &ports);
        let results = scene.run(&python("messages.py", &args("client")));
        scene.expect_final(6);
        results
    });
}
