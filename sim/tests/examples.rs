//! The examples do what they promise: the bug is found, and is gone when it is mended.

#[path = "../examples/counter_service.rs"]
mod counter_service;
#[path = "../examples/lock_client.rs"]
mod lock_client;

#[test]
fn a_counter_that_counts_repetitions_is_found_out() {
    counter_service::main();
}

#[test]
fn a_client_that_believes_in_its_lock_is_found_out() {
    lock_client::main();
}
