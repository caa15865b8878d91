//! How long does a message take there and back?

use anyhow::Result;

use super::Question;
use crate::lab::Lab;
use crate::peers::{Kind, Place, Spec};
use crate::runner::{Load, Recorder};
use crate::way::Way;

/// The question.
pub const QUESTION: Question = Question {
    name: "pingpong",
    title: "Round trip of one message between two processes",
    seconds: 100,
    quick: 4,
    daemon: &[],
    run,
};

/// A stream that has moved is compared with TCP, and with a Unix-domain socket, which it should equal.
pub const WAYS: [Way; 3] = [Way::Tcp, Way::Shim, Way::UnixSized];

const SIZES: &[usize] = &[8, 64, 1024, 4096, 65_536, 1 << 20];

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    let sizes = lab.scope.of(SIZES, &[64, 65_536], &[64]);
    let places = lab.scope.of(&Place::ALL[..], &[Place::Apart, Place::Together], &[Place::Apart]);
    let loads = lab.scope.of(&[Load::Idle, Load::Busy][..], &[Load::Idle], &[Load::Idle]);
    for load in loads {
        for place in places {
            for size in sizes {
                let spec = Spec::new(Kind::PingPong, *size, *place, lab.scope).beside(*load);
                one(lab, out, *load, "blocking", &spec);
            }
        }
    }
    // Two processes that spin on one CPU, or beside busy neighbours, measure the scheduler's time slice.
    for size in lab.scope.of(SIZES, &[64], &[64]) {
        let spec = Spec { busy: true, ..Spec::new(Kind::PingPong, *size, Place::Apart, lab.scope) };
        one(lab, out, Load::Idle, "non-blocking", &spec);
    }
    Ok(())
}

fn one(lab: &Lab, out: &mut Recorder, load: Load, reads: &str, spec: &Spec) {
    let size = spec.size.to_string();
    let labels = [("CPUs", spec.place.name()), ("beside", load.name()), ("reads", reads), ("bytes", &size)];
    out.case(load, &labels, spec.metric(), spec.alternatives(lab, &WAYS));
}
