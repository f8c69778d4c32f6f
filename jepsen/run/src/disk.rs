//! Small file systems in memory, one for each member, which can be filled to the last byte and emptied again.
//!
//! They are seen inside this run's namespaces only (see `sandbox`) and go with them, contents included. A sync costs
//! nothing on them and a killed process loses nothing, as on any file system: what they are for is to be full.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::sandbox;

/// How large each is: etcd alone makes two log files of 64 MB in advance.
const BYTES: u64 = 160 << 20;
/// What it is handed out in, or a fraction of that.
const PAGE: u64 = 4096;
/// The file that takes what is left.
const FILLER: &str = "filler";

/// Puts a file system of its own over a folder.
pub fn mount(folder: &Path) -> Result<(), String> {
    let options = format!("size={BYTES},mode=700");
    sandbox::run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", &folder.display().to_string()])
}

/// Takes all that is left, to the last page.
pub fn fill(folder: &Path) -> io::Result<()> {
    let filler = File::create(folder.join(FILLER))?;
    let (mut length, mut room) = (0, BYTES);
    while room >= PAGE {
        match fallocate(&filler, FallocateFlags::empty(), length, room) {
            Ok(()) => length += room,
            Err(Errno::NOSPC) => room /= 2,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Gives it back.
pub fn free(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(FILLER)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
