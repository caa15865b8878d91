//! Many small messages, several under way.

use anyhow::Result;

use super::Question;
use super::pingpong::WAYS;
use crate::lab::Lab;
use crate::peers::{Kind, Place, Spec};
use crate::runner::{Load, Recorder};

/// The question.
pub const QUESTION: Question = Question {
    name: "messages",
    title: "Many small messages under way: each written by itself, each answered by itself",
    seconds: 33,
    quick: 0,
    daemon: &[],
    run,
};

const SIZE: usize = 64;

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    let windows = lab.scope.of(&[4, 16, 128][..], &[16], &[16]);
    for load in lab.scope.of(&[Load::Idle, Load::Busy][..], &[Load::Idle], &[Load::Idle]) {
        for place in lab.scope.of(&Place::ALL[..], &[Place::Apart], &[Place::Together]) {
            for window in windows {
                let spec = Spec { window: *window, ..Spec::new(Kind::Messages, SIZE, *place, lab.scope).beside(*load) };
                let under_way = window.to_string();
                let labels = [("CPUs", place.name()), ("beside", load.name()), ("under way", &under_way)];
                out.case(*load, &labels, spec.metric(), spec.alternatives(lab, &WAYS));
            }
        }
    }
    Ok(())
}
