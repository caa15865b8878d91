//! Questions about a socket (names, options, kinds): the answers are those of a TCP socket.

use tests::Case;
use tests::case::Layout;

#[test]
fn names_and_kinds() {
    Case::new("names").check();
}

#[test]
fn options() {
    Case::new("options").check();
}

#[test]
fn options_set_early() {
    Case::new("options-early").check();
}

#[test]
fn options_set_late() {
    Case::new("options-late").check();
}

#[test]
fn what_accept_says() {
    Case::new("accepted").check();
}

#[test]
fn the_low_water_mark() {
    // Once final, recv respects the mark and poll does not (docs/limits.md).
    let late = Case::new("low-water").only(&[Layout::Warm, Layout::OneProcess]);
    late.differs("60 bytes: poll 0", "60 bytes: poll IN").check();
    // If it is set before the move, it keeps the stream on TCP.
    Case::new("low-water").only(&[Layout::Cold]).may_stay(&["socket-option"]).check();
}

#[test]
fn urgent_data() {
    Case::new("urgent").may_stay(&["urgent-data"]).check();
}

#[test]
fn the_lowest_free_number_is_free() {
    Case::new("lowest-numbers").check();
}
