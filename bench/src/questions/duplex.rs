//! Both directions at once.

use anyhow::Result;

use super::Question;
use super::pingpong::WAYS;
use crate::lab::Lab;
use crate::peers::{Kind, Place, Spec};
use crate::runner::{Load, Recorder};

/// The question.
pub const QUESTION: Question = Question {
    name: "duplex",
    title: "Both write as fast as they can, each with a thread, and read: bytes of both directions together",
    seconds: 15,
    quick: 0,
    daemon: &[],
    run,
};

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    let sizes = lab.scope.of(&[256, 4096, 65_536, 1 << 20][..], &[65_536], &[65_536]);
    for load in lab.scope.of(&[Load::Idle, Load::Busy][..], &[Load::Idle], &[Load::Idle]) {
        for size in sizes {
            let spec = Spec::new(Kind::Duplex, *size, Place::Free, lab.scope).beside(*load);
            let bytes = size.to_string();
            let labels = [("beside", load.name()), ("bytes", &bytes)];
            out.case(*load, &labels, spec.metric(), spec.alternatives(lab, &WAYS));
        }
    }
    Ok(())
}
