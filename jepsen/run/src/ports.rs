//! Ports for members that nobody else gets meanwhile, even while a member is down.
//!
//! Asking the kernel for a free port and closing it again races with every outgoing connection on the machine, which
//! may be given the same one: a member that was killed could not listen again. So ports are taken from below the
//! kernel's ephemeral range, in blocks; a listener on a block's first port keeps other runs away from it.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

const FIRST: u16 = 4_000;
const LAST: u16 = 11_000;
/// Two for each of ten members, and some that programs of others may have.
const BLOCK: u16 = 50;

/// A block of ports, as long as it is held.
pub struct Ports {
    _guard: TcpListener,
    next: u16,
    end: u16,
}

impl Ports {
    /// Finds a block that no other run has.
    pub fn reserve() -> io::Result<Ports> {
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for first in (FIRST..LAST).step_by(usize::from(BLOCK)) {
            match listener(first) {
                Ok(guard) => return Ok(Ports { _guard: guard, next: first + 1, end: first + BLOCK }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The next port that nobody listens on.
    pub fn take(&mut self) -> io::Result<u16> {
        while self.next < self.end {
            let port = self.next;
            self.next += 1;
            if listener(port).is_ok() {
                return Ok(port);
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

fn listener(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::Ports;

    #[test]
    fn two_runs_get_different_ports() {
        let mut runs = [Ports::reserve(), Ports::reserve()].map(|ports| ports.expect("there is room"));
        let mut ports: Vec<u16> = Vec::new();
        for run in &mut runs {
            ports.extend((0..20).map(|_| run.take().expect("a block is large enough")));
        }
        let count = ports.len();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), count);
    }
}
