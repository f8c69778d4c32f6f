//! Memory: mimalloc, told to keep what it has.
//!
//! A run ends after some hundredths of a second and gives back some megabytes, and the next one wants them again. Left
//! alone, the allocator returns them to the kernel in between, which clears every page before it gives it
//! out again: a sixth of the time of a sweep.
//!
//! The crate `mimalloc` asks for every allocation by way of the functions for special alignments. Of these, one in seven
//! asks for more than it needs and is freed the long way round, though what is asked for is aligned anyway; so
//! here the plain functions are called wherever their promise is enough.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::{c_int, c_long, c_void};

// Its build brings the library along.
use mimalloc as _;

#[global_allocator]
static ALLOCATOR: Plain = Plain;

/// mimalloc, by its plain functions.
struct Plain;

unsafe extern "C" {
    // Of mimalloc.h.
    fn mi_malloc(size: usize) -> *mut c_void;
    fn mi_zalloc(size: usize) -> *mut c_void;
    fn mi_realloc(block: *mut c_void, size: usize) -> *mut c_void;
    fn mi_malloc_aligned(size: usize, alignment: usize) -> *mut c_void;
    fn mi_zalloc_aligned(size: usize, alignment: usize) -> *mut c_void;
    fn mi_realloc_aligned(block: *mut c_void, size: usize, alignment: usize) -> *mut c_void;
    fn mi_free(block: *mut c_void);
    /// The crate `mimalloc` has no safe name for it.
    fn mi_option_set(option: c_int, value: c_long);
}

/// What is at least as large as its alignment, and that at most this, mimalloc aligns without being asked
/// (`MI_MAX_ALIGN_SIZE` of its types.h).
const NATURAL_ALIGNMENT: usize = 16;

const fn is_natural(size: usize, alignment: usize) -> bool {
    alignment <= NATURAL_ALIGNMENT && alignment <= size
}

// SAFETY: mimalloc's functions keep the promises of `GlobalAlloc`: what is asked of the plain ones they align well enough
// (see `NATURAL_ALIGNMENT`), and each of them takes blocks of any other.
unsafe impl GlobalAlloc for Plain {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, alignment) = (layout.size(), layout.align());
        // SAFETY: any size and any power of two may be asked for.
        let block = unsafe {
            if is_natural(size, alignment) { mi_malloc(size) } else { mi_malloc_aligned(size, alignment) }
        };
        block.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, alignment) = (layout.size(), layout.align());
        // SAFETY: any size and any power of two may be asked for.
        let block = unsafe {
            if is_natural(size, alignment) { mi_zalloc(size) } else { mi_zalloc_aligned(size, alignment) }
        };
        block.cast()
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (block, alignment) = (block.cast(), layout.align());
        // SAFETY: whoever calls vouches for the block, which came from here.
        let block = unsafe {
            if is_natural(size, alignment) {
                mi_realloc(block, size)
            } else {
                mi_realloc_aligned(block, size, alignment)
            }
        };
        block.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: whoever calls vouches for the block, which came from here.
        unsafe { mi_free(block.cast()) }
    }
}

/// `mi_option_purge_delay` of mimalloc.h.
const PURGE_DELAY: c_int = 15;

/// Gives nothing back to the kernel from now on.
pub fn keep_memory() {
    // SAFETY: the signature is that of mimalloc.h, in whose versions 2 and 3 options are atomic integers in a static
    // table that anybody may set at any time.
    unsafe { mi_option_set(PURGE_DELAY, -1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_aligned(block: *mut u8, alignment: usize) -> bool {
        !block.is_null() && block.addr().is_multiple_of(alignment)
    }

    #[test]
    fn every_block_is_aligned_as_asked_for() {
        for alignment in [1, 2, 4, 8, 16, 32, 64, 4096] {
            for size in (1..300).chain([1_000, 1_024, 1_025, 5_000, 100_000, 3_000_000]) {
                let layout = Layout::from_size_align(size, alignment).expect("a layout");
                // SAFETY: the layout is not empty, and each block is given back with the layout that it has.
                unsafe {
                    let block = ALLOCATOR.alloc(layout);
                    assert!(is_aligned(block, alignment), "{layout:?}");
                    block.write_bytes(7, size);
                    let block = ALLOCATOR.realloc(block, layout, size * 2);
                    assert!(is_aligned(block, alignment), "{layout:?}, twice as large");
                    assert_eq!((block.read(), block.add(size - 1).read()), (7, 7));
                    ALLOCATOR.dealloc(block, Layout::from_size_align(size * 2, alignment).expect("a layout"));
                    let block = ALLOCATOR.alloc_zeroed(layout);
                    assert!(is_aligned(block, alignment), "{layout:?}, zeroed");
                    assert_eq!((block.read(), block.add(size - 1).read()), (0, 0));
                    ALLOCATOR.dealloc(block, layout);
                }
            }
        }
    }
}
