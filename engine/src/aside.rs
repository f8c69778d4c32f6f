//! Moving the files of an old copy of a data directory out of the way.
//!
//! A data directory that was restored from a backup lacks votes and entries that its member has promised since. The
//! cluster notices and disowns it, and the member joins anew in the same place. What was there is kept, in a folder
//! beside it, until somebody deletes it. The move can be interrupted anywhere: a file that names the folder is written
//! before and removed after, and the next start finishes what it says.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Moves all files of a data directory that nobody uses into a folder named after the member and its last start.
///
/// # Errors
/// When the system refuses. Nothing is lost then, and a later attempt goes on.
pub fn set_aside(directory: &Path, member: u64, boot: u64) -> io::Result<PathBuf> {
    let folder = format!("old-{member:x}-{boot}");
    let mut marker = File::create(directory.join(MARKER))?;
    marker.write_all(folder.as_bytes())?;
    marker.sync_all()?;
    sync(directory)?;
    finish(directory)?;
    Ok(directory.join(folder))
}

/// Finishes a move that was interrupted, if one was.
///
/// # Errors
/// When the system refuses.
pub fn finish(directory: &Path) -> io::Result<()> {
    let marker = directory.join(MARKER);
    let folder = match fs::read_to_string(&marker) {
        Ok(folder) if folder.starts_with("old-") && !folder.contains('/') => folder,
        // It was interrupted before it had begun.
        Ok(_) => return fs::remove_file(marker),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let folder = directory.join(folder);
    fs::create_dir_all(&folder)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let stays = [MARKER, crate::disk::LOCK_FILE].iter().any(|name| entry.file_name() == *name);
        if !stays && entry.file_type()?.is_file() {
            fs::rename(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    sync(&folder)?;
    sync(directory)?;
    fs::remove_file(marker)?;
    sync(directory)
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

const MARKER: &str = "disowned";

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("readable");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn all_files_move_and_an_interrupted_move_is_finished() {
        let directory = tempfile::tempdir().expect("there is room");
        let path = directory.path();
        for name in ["lock", "meta", "1.wal"] {
            fs::write(path.join(name), name).expect("there is room");
        }
        finish(path).expect("nothing to do");
        assert_eq!(names(path), ["1.wal", "lock", "meta"]);

        // As if the power had failed after the first file.
        fs::write(path.join(MARKER), "old-ab-3").expect("there is room");
        fs::create_dir(path.join("old-ab-3")).expect("there is room");
        fs::rename(path.join("meta"), path.join("old-ab-3/meta")).expect("there is room");
        finish(path).expect("it goes on");
        assert_eq!(names(path), ["lock", "old-ab-3"]);
        assert_eq!(names(&path.join("old-ab-3")), ["1.wal", "meta"]);

        fs::write(path.join("meta"), "").expect("there is room");
        let folder = set_aside(path, 0xab, 4).expect("there is room");
        assert_eq!(
            (names(path), names(&folder)),
            (vec!["lock".into(), "old-ab-3".into(), "old-ab-4".into()], vec!["meta".into()])
        );
    }
}
