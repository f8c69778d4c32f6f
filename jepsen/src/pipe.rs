//! Programs whose output is read by `head`.
//!
//! Whoever has read enough closes the pipe, and the next `println!` panics. That is no failure of the program's: others
//! are ended by the signal SIGPIPE then, which Rust's programs ignore from their start. So they end as if by it.

/// Ends the program quietly as soon as it prints and nobody reads any more. Call once, at the very beginning.
pub fn end_with_the_reader() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let said = info.payload().downcast_ref::<String>();
        // What the print macros of the standard library say.
        if said.is_some_and(|said| said.starts_with("failed printing to std") && said.contains("Broken pipe"))
        {
            std::process::exit(ENDED_BY_SIGPIPE);
        }
        usual(info);
    }));
}

/// What shells say of a program that SIGPIPE ended: 128 and the signal's number.
const ENDED_BY_SIGPIPE: i32 = 141;
