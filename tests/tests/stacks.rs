//! Threads and handlers with the smallest stacks use streams as any other.

use tests::{Case, sweep};

#[test]
fn threads_of_pthread_stack_min() {
    sweep::check(&Case::new("small-stacks"), 14);
}

#[test]
fn handlers_on_a_small_alternate_stack() {
    sweep::check(&Case::new("small-stacks").args(&["handler"]), 14);
}
