//! The system's allocator, which counts the bytes that each thread has asked for and not yet given
//! back.

#![expect(unsafe_code, reason = "no allocator can be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

/// See the module's description.
pub struct Counting;

/// What this thread holds, less what others have given back for it.
pub fn held_bytes() -> isize {
    HELD.get()
}

fn count(bytes: isize) {
    // A thread that ends frees what it has when its counter may be gone.
    let _ = HELD.try_with(|held| held.set(held.get() + bytes));
}

// SAFETY: every call goes to the system's allocator as it is, and the layout's size, which is no
// larger than isize::MAX, is only counted; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the promises that are made to `self`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: `place` came from the system's allocator, by `alloc`.
        unsafe { System.dealloc(place, layout) }
    }
}
