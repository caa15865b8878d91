//! The steps that are not in the diagram, and the messages that the receiver refuses.

use super::{Control, Phase, Receiver};

#[test]
fn no_other_phase_follows_than_the_diagram_says() {
    use Phase::*;
    let all = [Connecting, Tracking, Waiting, Adopting, Dual, Final, Stay];
    let steps: Vec<(Phase, Phase)> =
        all.iter().flat_map(|a| all.map(|b| (*a, b))).filter(|(a, b)| a.may_become(*b)).collect();
    let expected = [
        (Connecting, Tracking),
        (Connecting, Stay),
        (Tracking, Waiting),
        (Tracking, Stay),
        (Waiting, Adopting),
        (Waiting, Stay),
        (Adopting, Waiting),
        (Adopting, Dual),
        (Adopting, Stay),
        (Dual, Final),
        (Dual, Stay),
    ];
    assert_eq!(steps, expected);
    for phase in all {
        assert_eq!(Phase::from_code(phase as u8), phase);
    }
}

#[test]
fn a_peer_that_breaks_the_protocol_is_refused() {
    let hello = Control::Hello;
    let refused = |messages: &[Control]| {
        let mut rx = Receiver { read: 5, ..Receiver::NEW };
        messages.iter().any(|m| rx.heard(*m).is_err())
    };
    assert!(refused(&[Control::Switch(9)]), "SWITCH before HELLO");
    assert!(refused(&[hello, hello]), "HELLO twice");
    assert!(refused(&[hello, Control::Switch(4)]), "an offset that was read past");
    assert!(refused(&[hello, Control::Switch(9), Control::Switch(9)]), "SWITCH twice");
    assert!(!refused(&[hello, Control::Switch(5)]));
    for c in [hello, Control::Switch(0), Control::Switch(u64::MAX)] {
        assert_eq!(Control::decode(&c.encode()), Some(c));
    }
    assert_eq!(Control::decode(&[0; 16]), None);
}
