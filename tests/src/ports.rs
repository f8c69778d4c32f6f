//! Ports that no other test gets.
//!
//! Asking the kernel for a free port and closing it again races with every outgoing connection on the machine, which
//! may be given the same one. So ports are taken from below the kernel's ephemeral range, in blocks; a listener on a
//! block's first port keeps other test processes away from it.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

const FIRST: u16 = 11_000;
const LAST: u16 = 32_000;
const BLOCK: u16 = 50;

struct Block {
    _guard: TcpListener,
    next: u16,
    end: u16,
}

static BLOCK_IN_USE: Mutex<Option<Block>> = Mutex::new(None);

/// A loopback port that nobody uses, and that no other test will be given.
///
/// # Panics
/// When all ports are taken.
#[must_use]
pub fn free_port() -> u16 {
    let mut current = BLOCK_IN_USE.lock().expect("no test panics while it chooses a port");
    loop {
        if let Some(block) = &mut *current {
            while block.next < block.end {
                let port = block.next;
                block.next += 1;
                if listener(port).is_some() {
                    return port;
                }
            }
        }
        // The old guard is held until the new one is: its ports may still be in use by this process.
        let from = current.take().map_or(FIRST, |block| {
            let end = block.end;
            std::mem::forget(block);
            end
        });
        let free = (from..LAST).step_by(usize::from(BLOCK)).find_map(|first| Some((first, listener(first)?)));
        let (first, guard) = free.expect("there is a free block of ports");
        *current = Some(Block { _guard: guard, next: first + 1, end: first + BLOCK });
    }
}

fn listener(port: u16) -> Option<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
}
