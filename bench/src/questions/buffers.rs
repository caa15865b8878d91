//! Which socket buffers lose least where small writes go in one direction?

use anyhow::Result;

use super::Question;
use crate::lab::Lab;
use crate::peers::{Kind, Place, Spec};
use crate::runner::{Load, Recorder};
use crate::way::Way;

/// The question.
pub const QUESTION: Question = Question {
    name: "buffers",
    title: "Writes in one direction, with several `ipcd serve --buffer`",
    seconds: 50,
    quick: 0,
    daemon: &[],
    run,
};

/// The kernel's own choice (212,992 unless changed), and others.
const BUFFERS: [(&str, &str); 5] = [
    ("shim, the kernel's", "0"),
    ("shim, 64 KiB", "65536"),
    ("shim, 512 KiB", "524288"),
    ("shim, 2 MiB", "2097152"),
    ("shim, 8 MiB", "8388608"),
];

fn run(lab: &Lab, out: &mut Recorder) -> Result<()> {
    let start = |(name, bytes): &(&'static str, &str)| Ok((*name, Lab::new(lab.scope, &["--buffer", bytes])?));
    let buffers: Vec<(&str, Lab)> =
        BUFFERS.iter().take(lab.scope.of(BUFFERS.len(), 2, 2)).map(start).collect::<Result<_>>()?;
    let sizes = lab.scope.of(&[64, 1024, 65_536][..], &[64], &[64]);
    for load in lab.scope.of(&[Load::Idle, Load::Busy][..], &[Load::Idle], &[Load::Idle]) {
        for place in lab.scope.of(&[Place::Apart, Place::Together][..], &[Place::Apart], &[Place::Together]) {
            for size in sizes {
                let spec = Spec::new(Kind::Bulk, *size, *place, lab.scope).beside(*load);
                let mut alternatives = spec.alternatives(lab, &[Way::Tcp]);
                alternatives.extend(buffers.iter().map(|(name, lab)| spec.alternative(lab, Way::Shim, name)));
                let bytes = size.to_string();
                let labels = [("CPUs", place.name()), ("beside", load.name()), ("bytes", &bytes)];
                out.case(*load, &labels, spec.metric(), alternatives);
            }
        }
    }
    Ok(())
}
