//! Memory: mimalloc, told to keep what it has.
//!
//! A run ends after some hundredths of a second and gives back some megabytes, and the next one wants them again. Left
//! alone, the allocator returns them to the kernel in between, which clears every page before it gives it
//! out again: a sixth of the time of a sweep.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

unsafe extern "C" {
    /// Of mimalloc.h. The crate `mimalloc` has no safe name for it.
    fn mi_option_set(option: c_int, value: c_long);
}

/// `mi_option_purge_delay` of mimalloc.h.
const PURGE_DELAY: c_int = 15;

/// Gives nothing back to the kernel from now on.
pub fn keep_memory() {
    // SAFETY: the signature is that of mimalloc.h, in whose versions 2 and 3 options are atomic integers in a static
    // table that anybody may set at any time.
    unsafe { mi_option_set(PURGE_DELAY, -1) }
}
