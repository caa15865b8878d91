//! The promise that a call on a descriptor that never moves costs next to nothing. Counted, not timed, so the result is
//! the same every time.

use bench::questions::instructions;

#[test]
fn reads_and_writes_that_need_no_shim_cost_a_look_up() {
    let rows = instructions::limited().unwrap_or_else(|e| panic!("{e:#}"));
    assert_eq!(rows.len(), 6);
    let over: Vec<_> = rows.iter().filter(|r| !r.is_met()).collect();
    assert!(over.is_empty(), "more than {} instructions more per call: {over:#?}", instructions::LIMIT);
    // A count of zero calls would meet any limit.
    assert!(rows.iter().all(|r| r.native > 5.0 && r.shim > r.native), "{rows:#?}");
}
