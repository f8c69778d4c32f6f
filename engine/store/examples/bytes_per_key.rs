//! How much memory a key takes.
//!
//! `cargo run --release -p quorate-store --example bytes_per_key [keys] [value bytes]` loads keys in
//! ascending and in scrambled order, changes each once more, compacts, and prints after each phase what
//! the allocator was asked for. The arithmetic for a key of `k` bytes with one version of `v` bytes:
//!
//! | what | bytes |
//! |---|---|
//! | the version: counts 16, two pointers with lengths 32, three numbers and the lease 32 | 80 |
//! | the key's bytes, with counts | 16 + k |
//! | the value's bytes, with counts | 16 + v |
//! | a pointer and a head in the present (chunks are 70 to 100 % full) | 18 to 23 |
//! | a pointer and a tag in the history | 16 |
//!
//! Together about k + v + 150, of which 112 are the version and its headers. Allocators round up: by 8 to 64
//! bytes for each of the three.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use quorate_store::{Command, Key, LeaseId, Put, Store, Value};

/// Counts what is allocated.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().expect("a number"));
    let keys: usize = arguments.next().unwrap_or(1_000_000);
    let value = vec![b'v'; arguments.next().unwrap_or(256)];
    for (order, stride) in [("ascending", 1), ("scrambled", 7_368_787)] {
        println!("{keys} keys of 16 bytes, {order}, values of {} bytes:", value.len());
        let before = BYTES.load(Ordering::Relaxed);
        let mut store = Store::new();
        let print = |phase: &str, store: &Store| {
            let bytes = BYTES.load(Ordering::Relaxed) - before;
            let overhead = (bytes / keys) as i64 - 16 - value.len() as i64;
            println!(
                "  {phase:<18} {:>5} MB, {} bytes per key beyond key and value; size_bytes says {} MB",
                bytes / 1_000_000,
                overhead,
                store.size_bytes() / 1_000_000,
            );
        };
        put_all(&mut store, keys, stride, &value);
        print("loaded", &store);
        put_all(&mut store, keys, stride, &value);
        print("all changed once", &store);
        store.apply(&Command::Compact(store.revision()));
        while store.maintain() {}
        print("compacted", &store);
    }
}

fn put_all(store: &mut Store, keys: usize, stride: usize, value: &[u8]) {
    for i in 0..keys {
        let key = Key::from(format!("key-{:012}", i * stride % keys).as_str());
        let (value, lease) = (Some(Value::from(value)), Some(LeaseId::NONE));
        store.apply(&Command::Put(Put { key, value, lease, previous: false }));
    }
}
