//! How fast are the other ways in which two programs could talk?

use anyhow::Result;

use super::Question;
use crate::lab::Lab;
use crate::peers::{Kind, Place, Spec};
use crate::runner::{Load, Recorder};
use crate::way::Way;

/// The question.
pub const QUESTION: Question = Question {
    name: "alternatives",
    title: "Every way in which two processes on one machine can talk",
    seconds: 60,
    quick: 0,
    daemon: &["--wait-peer", "0.1"],
    run,
};

const WAYS: [Way; 11] = [
    Way::Tcp,
    Way::Shim,
    Way::ShimClient,
    Way::ShimServer,
    Way::NoDaemon,
    Way::Unix,
    Way::UnixSized,
    Way::Pipe,
    Way::Sockmap,
    Way::Wrapper,
    Way::Shm,
];

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    let all = [(Kind::PingPong, "there and back", 64), (Kind::PingPong, "there and back", 65_536)];
    let all = all.into_iter().chain([(Kind::Bulk, "one way", 1024), (Kind::Bulk, "one way", 65_536)]);
    let places = lab.scope.of(&[Place::Apart, Place::Free][..], &[Place::Apart], &[Place::Apart]);
    for (kind, what, size) in all.take(lab.scope.of(4, 2, 1)) {
        for place in places {
            let spec = Spec::new(kind, size, *place, lab.scope);
            let labels = [("messages", what), ("CPUs", place.name()), ("bytes", &size.to_string())];
            out.case(Load::Idle, &labels, spec.metric(), spec.alternatives(lab, &WAYS));
        }
    }
    Ok(())
}
