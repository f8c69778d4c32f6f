//! The examples do what they promise: the bug is found, and is gone when it is mended.

#[path = "../examples/counter_service.rs"]
mod counter_service;

#[test]
fn a_counter_that_counts_repetitions_is_found_out() {
    counter_service::main();
}
