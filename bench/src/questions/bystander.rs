//! What does the shim cost where it cannot help: a peer that has no shim, or that is remote?

use anyhow::Result;

use super::Question;
use crate::lab::Lab;
use crate::peers::{Kind, Place, Spec};
use crate::runner::{Alternative, Load, Recorder};
use crate::way::Way;

/// The question.
pub const QUESTION: Question = Question {
    name: "bystander",
    title: "Only one end has the shim",
    seconds: 50,
    quick: 0,
    daemon: &["--wait-peer", "0.1"],
    run,
};

/// Measured from the first byte on, before ipcd has answered that there is no peer.
pub const FROM_THE_START: &str = "shim, client only, from the start";

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    let all = [(Kind::PingPong, "there and back", 64), (Kind::PingPong, "there and back", 4096)];
    let all = all.into_iter().chain([(Kind::Bulk, "one way", 1024), (Kind::Bulk, "one way", 65_536)]);
    for across in lab.scope.of(&[false, true][..], &[false], &[false]) {
        for (kind, what, size) in all.clone().take(lab.scope.of(4, 2, 1)) {
            for place in lab.scope.of(&[Place::Apart, Place::Together][..], &[Place::Apart], &[Place::Apart]) {
                let spec = Spec { across: *across, ..Spec::new(kind, size, *place, lab.scope) };
                let bytes = size.to_string();
                let peer = if *across { "another namespace" } else { "this machine" };
                let labels = [("peer on", peer), ("messages", what), ("CPUs", place.name()), ("bytes", &bytes)];
                out.case(Load::Idle, &labels, spec.metric(), alternatives(lab, spec));
            }
        }
    }
    Ok(())
}

/// Measured after ipcd has answered that there is no peer; and before, from the first byte on.
fn alternatives(lab: &Lab, spec: Spec) -> Vec<Alternative<'_>> {
    let at_once = Spec { settled: false, ..spec };
    let mut all = spec.alternatives(lab, &[Way::Tcp, Way::ShimClient, Way::ShimServer]);
    all.push(at_once.alternative(lab, Way::ShimClient, FROM_THE_START));
    all
}
