//! Gives [`quorate_fuzz::raft_messages`] to libFuzzer; see README.md.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| quorate_fuzz::raft_messages(data));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("this program fuzzes only if it is built for that: see fuzz/README.md");
}
