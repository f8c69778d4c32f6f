//! Gives the code that a replica consists of a number: a recording can only be replayed by the very code that made it.

use std::path::Path;
use std::{fs, io};

fn main() {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for folder in ["../raft/src", "../store/src", "../replica/src", "src/flight"] {
        println!("cargo::rerun-if-changed={folder}");
        // Without the workspace around it, the version alone has to do.
        let _ = add_folder(Path::new(folder), &mut hash);
    }
    println!("cargo::rustc-env=QUORATE_CORE={hash:016x}");
}

fn add_folder(folder: &Path, hash: &mut u64) -> io::Result<()> {
    let mut paths: Vec<_> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            add_folder(&path, hash)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.to_string_lossy().into_owned().into_bytes();
            for byte in name.into_iter().chain(fs::read(&path)?) {
                *hash = (*hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
    }
    Ok(())
}
