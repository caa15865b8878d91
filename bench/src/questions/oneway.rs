//! How fast do bytes go in one direction?

use anyhow::Result;

use super::Question;
use super::pingpong::WAYS;
use crate::lab::Lab;
use crate::peers::{Kind, Place, Spec};
use crate::runner::{Load, Recorder};
use crate::way::Way;

/// The question.
pub const QUESTION: Question = Question {
    name: "oneway",
    title: "One process writes as fast as it can, the other reads",
    seconds: 120,
    quick: 5,
    daemon: &[],
    run,
};

/// The largest size that counts as a small write.
pub const SMALL: usize = 1024;
/// The shim without exchanges before the measurement: the stream has only small writes, so that it may stay on TCP.
pub const FROM_THE_START: &str = "shim, from the start";

const SIZES: &[usize] = &[32, 256, 1024, 4096, 16_384, 65_536, 262_144, 4 << 20];

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    let sizes = lab.scope.of(SIZES, &[64, 4096, 65_536], &[65_536]);
    let places = lab.scope.of(&Place::ALL[..], &[Place::Apart], &[Place::Apart]);
    let loads = lab.scope.of(&[Load::Idle, Load::Busy][..], &[Load::Idle], &[Load::Busy]);
    for load in loads {
        for place in places {
            for size in sizes {
                let spec = Spec::new(Kind::Bulk, *size, *place, lab.scope).beside(*load);
                let bytes = size.to_string();
                let labels = [("CPUs", place.name()), ("beside", load.name()), ("bytes", &bytes)];
                let mut alternatives = spec.alternatives(lab, &WAYS);
                if *size <= SMALL {
                    let at_once = Spec { settled: false, ..spec };
                    alternatives.push(at_once.alternative(lab, Way::Shim, FROM_THE_START));
                }
                out.case(*load, &labels, spec.metric(), alternatives);
            }
        }
    }
    Ok(())
}
