//! Gives [`quorate_fuzz::wal_recovery`] to libFuzzer; see README.md.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| quorate_fuzz::wal_recovery(data));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("this program fuzzes only if it is built for that: see fuzz/README.md");
}
