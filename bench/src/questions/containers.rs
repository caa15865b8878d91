//! What do two containers gain? They are two network namespaces on one bridge, and share a directory, as containers
//! share a volume: the programs could talk by a Unix-domain socket in it from the start.

use anyhow::Result;

use super::{Question, memcached, redis};
use crate::lab::Lab;
use crate::peers::{Kind, Place, Spec};
use crate::runner::{Load, Recorder};
use crate::way::Way;

/// The question.
pub const QUESTION: Question = Question {
    name: "containers",
    title: "Two containers: TCP over the bridge, the shim, a Unix socket in a volume",
    seconds: 45,
    quick: 0,
    // Servers run as other users than their clients, as in containers.
    daemon: &["--everybody"],
    run,
};

const WAYS: [Way; 3] = [Way::Tcp, Way::Shim, Way::Unix];
const SIZES: &[usize] = &[64, 4096, 65_536, 1 << 20];
const CONNECTIONS: &[u32] = &[1, 8, 64];

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    lab.namespaces()?;
    for size in lab.scope.of(SIZES, SIZES, &SIZES[..1]) {
        let spec = Spec { across: true, ..Spec::new(Kind::PingPong, *size, Place::Free, lab.scope) };
        let labels = [("of", "messages there and back"), ("bytes", &*size.to_string())];
        out.case(Load::Idle, &labels, spec.metric(), spec.alternatives(lab, &WAYS));
    }
    for connections in lab.scope.of(CONNECTIONS, CONNECTIONS, &[]) {
        memcached::across(lab, out, &WAYS, *connections)?;
        redis::across(lab, out, &WAYS, *connections)?;
    }
    Ok(())
}
